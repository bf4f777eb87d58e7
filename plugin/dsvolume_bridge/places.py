"""
Where the containers run that use volumes here, told to the module: limits act there.

With cgroup v1 a limit holds for the processes of one cgroup alone, so it is written to each using
container's. ``dsvolume-runc`` does that before a container's first I/O, but not what comes later:
edits, a switch, another profile. (With cgroup v2 the containers' common parent has the limits.)

Here the engine's list of running containers counts, not which mount is whose: that is not always
known. A container is found by its first process, anew for each run of it.
"""

import asyncio
import logging
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .engine import Engine, EngineAway
from .lanes import Lanes, TooSlow
from .module import ASKER, Module, Refused
from .reconcile import INTERVAL, SECONDS

log = logging.getLogger(__name__)

WRAPPER = "dsvolume-runc"
JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a container: its first process and that one's cgroup for block I/O."""

    pid: int
    cgroup: str
    wrapped: bool

    @property
    def goes_on(self) -> bool:
        return cgroup_of(self.pid) == self.cgroup


class Places:
    """Looks again and again, and at once when it is woken."""

    def __init__(self, module: Module, lanes: Lanes, engine: Engine) -> None:
        self._module = module
        self._lanes = lanes
        self._engine = engine
        self._woken = asyncio.Event()
        self._runs: dict[str, Run] = {}

    def wake(self) -> None:
        """A container has started."""
        self._woken.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while cgroup_of(1):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), INTERVAL)
            self._woken.clear()
            try:
                await self.look()
            except EngineAway as exc:
                log.debug("The engine is away: %s", exc)
            except Exception:
                log.exception("Looking for the containers' cgroups failed")

    async def look(self) -> None:
        """Tell what is not known yet of the volumes that can be limited, once."""
        attachments = await self._lanes.read(self._module.remembered, SECONDS)
        held = {a["Volume"]: a for a in attachments if _on_a_device(a)}
        if not held:
            return
        using = await self._engine.using(held)
        await self._follow({id for ids in using.values() for id in ids})
        told = (self._tell(held[name], ids) for name, ids in using.items())
        await asyncio.gather(*told)

    async def _follow(self, containers: set[str]) -> None:
        """Find the containers that have begun since the last look."""
        self._runs = {id: r for id, r in self._runs.items() if id in containers and r.goes_on}
        new = containers - set(self._runs)
        for id in new:
            process = await self._engine.process(id)
            if process is not None and (cgroup := cgroup_of(process.pid)):
                wrapped = await self._engine.program(process.runtime) == WRAPPER
                self._runs[id] = Run(process.pid, cgroup, wrapped)

    async def _tell(self, attachment: JSON, containers: Iterable[str]) -> None:
        runs = {id: self._runs[id] for id in sorted(containers) if id in self._runs}
        known = {
            (place["Container"], place["Pid"])
            for place in attachment.get("Places", ())
            if place["Engine"] == "docker"
        }
        # Those that have ended took their cgroups with them: they go with the next that comes.
        if all((id, run.pid) in known for id, run in runs.items()):
            return
        places = [
            {"Container": id, "Pid": run.pid, "Cgroup": run.cgroup, "AtStart": run.wrapped}
            for id, run in runs.items()
        ]
        name = attachment["Volume"]
        work = partial(self._module.call, "place", ASKER, name, places)
        try:
            await self._lanes.change(name, work, SECONDS)
        except (Refused, TooSlow) as exc:
            away = isinstance(exc, Refused) and exc.kind == "StoreUnavailable"
            log.log(logging.DEBUG if away else logging.WARNING, "Limits of %s: %s", name, exc)


def cgroup_of(pid: int) -> str:
    """A process's cgroup for block I/O (v1); "" where there is none, or no such process."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "blkio" in controllers.split(","):
                return path
    return ""


def _on_a_device(attachment: JSON) -> bool:
    with suppress(OSError):
        return stat.S_ISBLK(Path(attachment["Device"]).stat().st_mode)
    return False
