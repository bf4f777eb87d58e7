"""Lanes for calls: one stuck volume never blocks another, nor those who only look."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

log = logging.getLogger(__name__)

CHANGES = 256
"""Volumes that may be stuck in a change at the same time before others have to wait."""
READS = 16

Work = Callable[[], Any]


class TooSlow(Exception):
    """The work goes on, but who asked for it has to be answered."""

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        super().__init__("it takes too long")
        self.task = task


class Lanes:
    """
    Runs blocking work in threads.

    Changes of one volume run one after the other, in the order in which they came; those of
    different volumes, and reads, run side by side.
    """

    def __init__(self) -> None:
        self._changes = ThreadPoolExecutor(CHANGES, "change")
        self._reads = ThreadPoolExecutor(READS, "read")
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def read(self, work: Work, seconds: float) -> Any:
        """Look something up. Raises TooSlow after ``seconds``."""
        return await self._within(asyncio.create_task(self._run(self._reads, work)), seconds)

    async def change(self, name: str, work: Work, seconds: float) -> Any:
        """
        Change a volume, when the changes before it are done.

        Raises TooSlow after ``seconds``, waiting included; the work then goes on all the same, and
        the volume's next change waits for it.
        """
        return await self._within(asyncio.create_task(self._in_turn(name, work)), seconds)

    def later(self, name: str, work: Work) -> None:
        """Change a volume without anybody who waits for it."""
        task = asyncio.create_task(self._in_turn(name, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_report)

    async def idle(self) -> None:
        """Wait until nothing runs any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        self._changes.shutdown(wait=False)
        self._reads.shutdown(wait=False)

    async def _within(self, task: "asyncio.Task[Any]", seconds: float) -> Any:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            task.add_done_callback(_report)
            raise TooSlow(task)
        return task.result()

    async def _in_turn(self, name: str, work: Work) -> Any:
        lock, waiting = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, waiting + 1)
        try:
            async with lock:
                return await self._run(self._changes, work)
        finally:
            lock, waiting = self._locks[name]
            if waiting == 1:
                del self._locks[name]
            else:
                self._locks[name] = (lock, waiting - 1)

    async def _run(self, pool: ThreadPoolExecutor, work: Work) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def _report(task: "asyncio.Task[Any]") -> None:
    """Nobody waits for this work's outcome any more."""
    if not task.cancelled() and (exc := task.exception()) is not None:
        log.warning("What nobody waited for failed: %s", exc)
