"""
The store's users of this engine, brought to what the engine says.

Docker's mount IDs are counted, but its word that one has gone can be lost: the engine or the bridge
was killed, or not there. The engine's list of containers is the truth; what follows from it is told
in ``dues.py``.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

from .begun import NEVER, Begun
from .dues import Moment, User, asked_about, due, kept
from .engine import Container, Engine, EngineAway
from .lanes import Lanes, TooSlow
from .module import ASKER, Module, Refused
from .references import References

log = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between looks at all, where no event asks for one."""
SECONDS = 50.0


class Reconciler:
    """
    Looks again and again.

    started
        Is called when a container has started.
    """

    def __init__(
        self,
        module: Module,
        lanes: Lanes,
        engine: Engine,
        begun: Begun,
        references: References,
        started: Callable[[], None],
    ) -> None:
        self._started = started
        self._module = module
        self._lanes = lanes
        self._engine = engine
        self._begun = begun
        self._references = references
        self._wanted = asyncio.Event()
        self._instance = NEVER
        self._fresh = False
        """Does this host remember all that the last bridge did?"""

    def activated(self) -> None:
        """The engine has begun to talk to us: it is another instance than before."""
        self._instance = datetime.now(UTC)
        self._wanted.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        beside = [asyncio.create_task(w) for w in (self._watch(), self._references.run())]
        try:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), INTERVAL)
                self._wanted.clear()
                try:
                    await self.look()
                except EngineAway as exc:
                    log.debug("The engine is away: %s", exc)
                except Exception:
                    log.exception("Reconciling failed")
        finally:
            for task in beside:
                task.cancel()

    async def _watch(self) -> None:
        """A container's end asks for a look; its begin can tell nothing before a while."""
        while True:
            try:
                async for event in self._engine.events():
                    if event.get("Action") in ("create", "destroy", None):
                        self._references.ask(everything=not event)
                    if event.get("Action") == "mount":
                        await self._tie_by(event)
                    if event.get("Action") == "start":
                        self._started()
                    if event.get("Action") in ("die", "destroy"):
                        self._wanted.set()
            except EngineAway:
                await asyncio.sleep(0.5)
            except Exception:
                log.exception("An event of the engine was not understood")
                await asyncio.sleep(0.5)

    async def _tie_by(self, event: dict[str, Any]) -> None:
        """``volume mount`` names the container of the mount that was just answered."""
        actor = event["Actor"]
        container, volume = actor["Attributes"].get("container", ""), actor["ID"]
        # An event that comes late is not of a mount that came after it.
        at = datetime.fromtimestamp(event["timeNano"] / 1e9, UTC)
        users = [u for u in await self._users() if u.volume == volume and u.at <= at]
        untied = [user for user in users if not user.container]
        if container and len(untied) == 1:
            await self._tie(untied[0], container)

    async def look(self) -> None:
        """Bring all of this engine's users in order, once."""
        await self._refresh()
        users = await self._users()
        if self._fresh:
            self._begun.forget({user.id for user in users})
        if not users:
            return
        began = time.monotonic()
        moment = Moment(datetime.now(UTC), self._instance, self._begun, self._begun.killed)
        containers = await self._engine.containers()
        by_volume = {user.volume: [u for u in users if u.volume == user.volume] for user in users}
        # One waits for what is being done to his containers; the others need not.
        await asyncio.gather(
            *(self._settle(mine, containers, moment) for mine in by_volume.values())
        )
        if (took := time.monotonic() - began) > INTERVAL:
            log.info("Reconciling took %.1f s", took)

    async def _refresh(self) -> None:
        """A bridge that was killed may have written to the store alone; once is enough."""
        if not self._fresh:
            with suppress(Refused, TooSlow):
                await self._lanes.read(self._module.refresh, SECONDS)
                self._fresh = True

    async def _users(self, volume: str | None = None) -> list[User]:
        """This engine's users here, as this host remembers them: the store may be away."""
        read = partial(self._module.remembered, volume)
        attachments = await self._lanes.read(read, SECONDS)
        return [
            User(
                volume=held["Volume"],
                id=user["Id"],
                count=user["Count"],
                container=user["Container"],
                at=datetime.fromisoformat(user["At"]),
            )
            for held in attachments
            for user in held["Users"]
            if user["Engine"] == "docker"
        ]

    async def _settle(
        self, users: list[User], containers: dict[str, Container], moment: Moment
    ) -> None:
        """Tie and release the users of one volume."""
        held = kept(users, containers, moment)
        asked = {user.id: asked_about(user, containers, moment, held) for user in users}
        concerned = [containers[id] for id in set().union(*asked.values())]
        alone = await self._left_alone(concerned)
        now = await self._users(users[0].volume) if concerned else users
        mounts = {(user.id, user.count, user.at) for user in now}
        for user in users:
            if (user.id, user.count, user.at) not in mounts:
                continue  # the engine has spoken of it while it was asked
            if (container := held.get(user.id, user.container)) != user.container:
                await self._tie(user, container)
            wanted = due(
                user,
                containers.get(user.container),
                moment,
                held=user.id in held,
                left_alone=asked[user.id] <= alone,
            )
            if user.count > wanted:
                await self._let_go(user, user.count - wanted)

    async def _left_alone(self, containers: list[Container]) -> set[str]:
        """Those of them to which nothing is being done."""
        alone = await asyncio.gather(*map(self._engine.left_alone, containers))
        return {one.id for one, is_alone in zip(containers, alone, strict=True) if is_alone}

    async def _let_go(self, user: User, times: int) -> None:
        log.info(
            "%s of %s is released %d times: its container does not use it any more",
            user.id[:12],
            user.volume,
            times,
        )
        for _ in range(times):
            await self._change("unmount", user.volume, user.volume, id=user.id, engine="docker")

    async def _tie(self, user: User, container: str) -> None:
        await self._change(
            "tie", user.volume, user.volume, id=user.id, container=container, engine="docker"
        )

    async def _change(self, function: str, lane: str, *args: Any, **kwargs: Any) -> None:
        try:
            work = partial(self._module.call, function, ASKER, *args, **kwargs)
            await self._lanes.change(lane, work, SECONDS)
        except (Refused, TooSlow) as exc:
            log.warning("%s of %s: %s", function, lane, exc)
