"""
What a Docker engine says of its containers, over its own socket.

Never asked from within a handler of the driver without a time limit: the engine may be waiting for
that handler's answer.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import psutil

SECONDS = 5.0
IDLE_SECONDS = 1.0
"""A container that is left alone is told of in milliseconds."""
LIVES = frozenset(("created", "running", "paused", "restarting"))
"""States of a container that may use its volumes, or is about to."""


@dataclass(frozen=True, slots=True)
class Container:
    """
    A container of any state.

    volumes
        How often it mounts which volume of our driver.
    """

    id: str
    state: str
    volumes: Counter[str]

    @property
    def lives(self) -> bool:
        return self.state in LIVES


@dataclass(frozen=True, slots=True)
class Process:
    """
    A running container's first process.

    runtime
        The name under which its engine knows the OCI runtime that made it.
    """

    pid: int
    runtime: str


class EngineAway(Exception):
    """The engine does not answer now."""


class Engine:
    """
    One engine.

    path
        Its API's socket.
    driver
        The name under which it knows our volumes.
    """

    def __init__(self, path: Path, driver: str) -> None:
        self._path = path
        self._driver = driver
        self.answers = False
        """Is it there, and tells its events?"""
        self._programs: dict[str, str] = {}

    async def containers(self, volume: str = "") -> dict[str, Container]:
        """
        All containers, by id. Raises EngineAway.

        volume
            Only those that may use this one: its name is compared with destinations, too.
        """
        filters = quote(json.dumps({"volume": [volume]} if volume else {}))
        rows = await self._get(f"/containers/json?all=1&filters={filters}")
        found = (self._container(row) for row in rows)
        return {container.id: container for container in found}

    def _container(self, row: dict[str, Any]) -> Container:
        volumes = Counter(
            mount["Name"]
            for mount in row.get("Mounts") or ()
            if mount.get("Type") == "volume" and mount.get("Driver") == self._driver
        )
        return Container(row["Id"], row["State"], volumes)

    async def left_alone(self, container: Container) -> bool:
        """
        Is a container still in its state, and nothing being done to it: no start, stop or copy?

        An engine holds a container's lock from before its mounts to the end of what they are for,
        and answers no question about it meanwhile.
        """
        try:
            row = await self._get(f"/containers/{quote(container.id)}/json", IDLE_SECONDS)
        except (EngineAway, KeyError):
            return False
        return bool(row["State"]["Status"] == container.state)

    async def using(self, volumes: Iterable[str]) -> dict[str, list[str]]:
        """The containers that run and use volumes, by volume. Raises EngineAway."""
        names = sorted(volumes)
        filters = {"volume": names, "status": ["running", "paused"]}
        rows = await self._get(f"/containers/json?filters={quote(json.dumps(filters))}")
        found = [self._container(row) for row in rows]
        return {name: [one.id for one in found if one.volumes[name]] for name in names}

    async def process(self, container: str) -> Process | None:
        """What runs in a container; None where nothing does. Raises EngineAway."""
        try:
            row = await self._get(f"/containers/{quote(container)}/json")
        except KeyError:
            return None
        pid = row["State"]["Pid"]
        return Process(pid, row["HostConfig"].get("Runtime", "")) if pid else None

    async def program(self, runtime: str) -> str:
        """The program of one of its OCI runtimes; "" where that is not told. Raises EngineAway."""
        if runtime not in self._programs:
            known = (await self._get("/info")).get("Runtimes") or {}
            paths = {name: Path(one.get("path") or "") for name, one in known.items()}
            self._programs = {runtime: "", **{name: path.name for name, path in paths.items()}}
        return self._programs[runtime]

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """
        What happens to containers and volumes from now on; first {}, once nothing is missed.

        Raises EngineAway when it ends.
        """
        filters = quote(json.dumps({"type": ["container", "volume"]}))
        try:
            async with self._asked(f"/events?filters={filters}", None) as answer:
                self.answers = True
                self._programs = {}  # it may be another one than before
                yield {}
                async for line in answer.content:
                    yield json.loads(line)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise EngineAway(str(exc)) from exc
        finally:
            self.answers = False
        raise EngineAway("the stream of events has ended")

    async def _get(self, path: str, seconds: float = SECONDS) -> Any:
        try:
            async with self._asked(path, seconds) as answer:
                if answer.status == 404:
                    raise KeyError(path)
                answer.raise_for_status()
                return await answer.json()
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise EngineAway(str(exc) or "no answer") from exc

    @asynccontextmanager
    async def _asked(
        self, path: str, seconds: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if not self.answers and await asyncio.to_thread(_is_stopped, self._path):
            raise EngineAway("it is stopped; systemd would start it for us")
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=SECONDS)
        connector = aiohttp.UnixConnector(str(self._path))
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"http://docker{path}") as answer,
        ):
            yield answer


def _is_stopped(path: Path) -> bool:
    """
    Is it systemd alone who listens there?

    Who connects then starts the engine, which somebody may have stopped on purpose.
    """
    there = str(path.resolve())
    listening = {one.pid for one in psutil.net_connections("unix") if str(one.laddr) == there}
    return listening == {1} and Path("/run/systemd/system").is_dir()
