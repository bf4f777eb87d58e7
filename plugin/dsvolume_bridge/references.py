"""
What the store is told of this engine's containers, running or not: which volumes they refer to.

Told again only where it has changed: the engine's events ask for a look, and many together for one.
At the start, when the engine is back, and now and then, everything is compared with the store.
"""

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial
from typing import Any

from libstorage.records import NAME

from .engine import Container, Engine, EngineAway
from .lanes import Lanes, TooSlow
from .module import ASKER, Module, Refused

log = logging.getLogger(__name__)

ENGINE = "docker"
INTERVAL = 30.0
"""Seconds between comparisons with the store: a node that was fenced has none there."""
PAUSE = 0.2
"""Seconds in which what happens to containers is one look."""
RETRY = 2.0
SECONDS = 50.0

Held = dict[str, list[str]]


class References:
    """Follows one engine."""

    def __init__(self, module: Module, lanes: Lanes, engine: Engine) -> None:
        self._module = module
        self._lanes = lanes
        self._engine = engine
        self._wanted = asyncio.Event()
        self._told: Held = {}
        self._compared = float("-inf")
        # What is read of the engine is told before it is read again: the last word is the newest.
        self._turn = asyncio.Lock()

    def ask(self, *, everything: bool = False) -> None:
        """
        Ask for a look.

        everything
            What was told before may not be so any more: compare with the store.
        """
        if everything:
            self._compared = float("-inf")
        self._wanted.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self.look()
                wait = INTERVAL
            except EngineAway as exc:
                log.debug("The engine is away: %s", exc)
                wait = INTERVAL  # its events ask for a look as soon as it is back
            except (Refused, TooSlow) as exc:
                log.warning("What containers refer to could not be told: %s", exc)
                wait = RETRY
            except Exception:
                log.exception("Looking at what containers refer to failed")
                wait = RETRY
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), wait)
            await asyncio.sleep(PAUSE)
            self._wanted.clear()

    async def look(self) -> None:
        """Tell what has changed. Raises EngineAway, Refused, TooSlow."""
        async with self._turn:
            now = time.monotonic()
            whole = now - self._compared >= INTERVAL
            held = _held(await self._engine.containers())
            told = {} if whole else self._told
            names = [n for n in {*held, *told} if whole or held.get(n) != told.get(n)]
            if names or whole:
                await self._tell({name: held.get(name, []) for name in names}, whole=whole)
            self._told = held
            if whole:
                self._compared = now

    async def look_at(self, name: str, *, by_engine: bool) -> None:
        """
        Look at one volume, which somebody wants to be removed, at once.

        by_engine
            The engine itself asks: it has no container of it, also where it has no time to say so.

        What cannot be told is not: the removal is then refused, with the reason.
        """
        if not NAME.fullmatch(name):
            return
        async with self._turn:
            try:
                held = _held(await self._engine.containers(name)).get(name, [])
            except EngineAway:
                if not by_engine:
                    return
                held = []
            try:
                await self._tell({name: held}, whole=False)
            except (Refused, TooSlow) as exc:
                log.warning("What containers refer to %s could not be told: %s", name, exc)
                return
            self._told = {n: ids for n, ids in {**self._told, name: held}.items() if ids}

    async def _tell(self, containers: Held, *, whole: bool) -> None:
        work: Any = partial(
            self._module.call, "refer", ASKER, containers, engine=ENGINE, whole=whole
        )
        # No volume has this name: it is a lane of their own.
        await self._lanes.change("", work, SECONDS)


def _held(containers: dict[str, Container]) -> Held:
    """The containers' ids, by the volumes that they refer to."""
    held: Held = {}
    for container in containers.values():
        for name in container.volumes:
            if NAME.fullmatch(name):
                held.setdefault(name, []).append(container.id)
    return {name: sorted(ids) for name, ids in held.items()}
