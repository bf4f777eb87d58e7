"""
The store's users of this engine, brought to what the engine says.

Docker's mount IDs are counted, but its word that one has gone can be lost: the engine or the bridge
was killed, or not there. The engine's list of containers is the truth. An ID is tied to its
container as soon as that is known; then:

* tied to a container that lives: it has one mount (more only for a moment: ``docker cp``);
* tied to one that has ended since its last mount, or is gone: it has none;
* tied to none: none when the engine is another instance than at its mount, or after a while.
"""

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from .engine import Container, Engine, EngineAway
from .lanes import Lanes, TooSlow
from .module import Module, Refused
from .references import ASKER, References

log = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between looks at all, where no event asks for one."""
UNTIED = timedelta(seconds=130)
"""Docker gives up a mount after 120 s: an ID that nobody is tied to by then is nobody's."""
SECONDS = 50.0


@dataclass(frozen=True, slots=True)
class User:
    """A user of this engine of a volume that is attached here."""

    volume: str
    id: str
    count: int
    container: str
    at: datetime


class Reconciler:
    """Looks again and again."""

    def __init__(
        self, module: Module, lanes: Lanes, engine: Engine, references: References
    ) -> None:
        self._module = module
        self._lanes = lanes
        self._engine = engine
        self._references = references
        self._wanted = asyncio.Event()
        self._instance = datetime.min.replace(tzinfo=UTC)

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
        """An event of a container or a mount asks for a look."""
        while True:
            try:
                async for event in self._engine.events():
                    if event.get("Action") in ("create", "destroy", None):
                        self._references.ask(everything=not event)
                    if event.get("Action") == "mount":
                        await self._tie_by(event)
                    if event.get("Action") in ("mount", "die", "destroy", "start"):
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
        untied = [u for u in await self._users() if u.volume == volume and not u.container]
        if container and len(untied) == 1:
            await self._tie(untied[0], container)

    async def look(self) -> None:
        """Bring all of this engine's users in order, once."""
        users = await self._users()
        if not users:
            return
        began = time.monotonic()
        containers = await self._engine.containers()
        for volume in {user.volume for user in users}:
            mine = [user for user in users if user.volume == volume]
            mine = await self._tie_rest(mine, containers)
            for user in mine:
                excess = user.count - await self._due(user, containers)
                if excess > 0:
                    await self._let_go(user, excess)
        if (took := time.monotonic() - began) > INTERVAL:
            log.info("Reconciling took %.1f s", took)

    async def _users(self) -> list[User]:
        """This engine's users here, as this host remembers them: the store may be away."""
        attachments = await self._lanes.read(self._module.remembered, SECONDS)
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

    async def _tie_rest(self, users: list[User], containers: dict[str, Container]) -> list[User]:
        """Tie what only one container can be meant by."""
        untied = [user for user in users if not user.container]
        tied = Counter(user.container for user in users if user.container)
        volume = users[0].volume
        open_ = {
            c.id: c.volumes[volume] - tied[c.id]
            for c in containers.values()
            if c.state in ("running", "paused") and c.volumes[volume] > tied[c.id]
        }
        if len(open_) != 1 or sum(open_.values()) != len(untied):
            return users
        [container] = open_
        for user in untied:
            await self._tie(user, container)
        return [User(u.volume, u.id, u.count, u.container or container, u.at) for u in users]

    async def _due(self, user: User, containers: dict[str, Container]) -> int:
        """How many mounts a user should have."""
        now = datetime.now(UTC)
        passing = now - user.at < UNTIED and user.at > self._instance
        if not user.container:
            return user.count if passing else 0
        container = containers.get(user.container)
        if container is None:
            return 0
        if container.lives:
            return user.count if passing else 1
        ended = await self._engine.ended(user.container)
        died = ended is not None and ended >= user.at
        return user.count if passing and not died else 0

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
