"""
Look-ups of volumes, those that come at the same time together.

Docker asks for each volume by itself, and when it starts for all of them at once. Whoever asks
while a read of the store is on its way goes with the next one: each is answered by a read that
began after it had asked, and there are never more than two in line.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

JSON = dict[str, Any]
Found = asyncio.Future[JSON | None]


class Lookups:
    """
    Finds volumes by name.

    read
        The records of those of some volumes that there are. It is called in a thread of its own,
        and must not wait for changes in progress.
    """

    def __init__(self, read: Callable[[list[str]], list[JSON]]) -> None:
        self._read = read
        self._pool = ThreadPoolExecutor(1, "lookup")
        self._waiting: dict[str, Found] = {}
        self._rounds: asyncio.Task[None] | None = None

    async def find(self, name: str, seconds: float) -> JSON | None:
        """
        The volume's record, None where it was not there.

        Raises TimeoutError after ``seconds``, and what ``read`` raises.
        """
        if name not in self._waiting:
            self._waiting[name] = found = asyncio.get_running_loop().create_future()
            found.add_done_callback(_heard)
        if self._rounds is None:
            self._rounds = asyncio.create_task(self._run())
        return await asyncio.wait_for(asyncio.shield(self._waiting[name]), seconds)

    async def _run(self) -> None:
        """Round by round, until nobody waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            try:
                records = await loop.run_in_executor(self._pool, self._read, list(asked))
            except Exception as exc:
                for found in asked.values():
                    found.set_exception(exc)
            else:
                there = {record["Name"]: record for record in records}
                for name, found in asked.items():
                    found.set_result(there.get(name))
        self._rounds = None

    def close(self) -> None:
        """Let its thread end."""
        self._pool.shutdown(wait=False)


def _heard(found: Found) -> None:
    """An error for somebody who waits no more is not worth a warning."""
    if not found.cancelled():
        found.exception()
