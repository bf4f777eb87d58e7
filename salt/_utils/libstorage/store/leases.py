"""
The embedded store's owners: a lease for each process that needs one.

A process that needs an owner writes ``owners/<id>`` and its lease in one transaction, then a
thread adds one to the lease's counter three times in a lease time. No clock is compared between
processes: an observer remembers the counter and when, on its own monotonic clock, it first saw it;
unchanged for a whole lease time means lapsed. While the observer's own beats do not get through
either, the store is not answering and nothing lapses. A crash between any two beats looks like
what it is. Ending an owner removes its lease and its keys in one logged transaction.

A forked child begins without owner and without memory of others' beats.
"""

import atexit
import os
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Sequence
from contextlib import suppress

from ..errors import StoreUnavailable
from .contract import Describe
from .sqlite import Database
from .tables import Row, apply, encode, release, write

_EXIT_PATIENCE = 0.3


class _Owner:
    """This process's owner; ``steady`` is since when its beats have come without a gap."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.id = uuid.uuid4().hex
        self.ended = threading.Event()
        self.beaten = self.steady = time.monotonic()
        self.thread: threading.Thread | None = None


class Leases:
    """This process's owner, and what it saw of the others."""

    def __init__(self, database: Database, describe: Describe, lease: float) -> None:
        self._database = database
        self._describe = describe
        self._lease = lease
        self._lock = threading.RLock()
        self._mine: _Owner | None = None
        self._seen: dict[str, tuple[int, float]] = {}
        _all.add(self)

    def owner(self) -> str:
        """This process's owner id; a new one after a fork, or where another process ended it."""
        with self._lock:
            mine = self._own()
            if mine and self._database.rows("SELECT 1 FROM leases WHERE owner = ?", mine.id):
                return mine.id
            if mine:
                mine.ended.set()
            mine = _Owner()
            row = (f"owners/{mine.id}", encode(self._describe()), True)

            def register(connection: sqlite3.Connection, new: int) -> Sequence[Row] | None:
                connection.execute("INSERT INTO leases VALUES (?, ?, 0)", (mine.id, self._lease))
                return apply(connection, new, (), [row], mine.id)

            write(self._database, register)
            mine.thread = threading.Thread(
                target=self._keep_alive, args=(mine,), name="libstorage-lease", daemon=True
            )
            self._mine = mine
            mine.thread.start()
            atexit.unregister(self._at_exit)
            atexit.register(self._at_exit)
            return mine.id

    def alive(self, owner: str) -> bool:
        """False where its key is absent, or where this observer saw its lease lapse."""
        asked = time.monotonic()
        try:
            rows = self._database.rows(
                "SELECT beat, ttl FROM leases JOIN kv ON key = 'owners/' || leases.owner"
                " WHERE leases.owner = ?",
                owner,
            )
        except StoreUnavailable:
            self._seen.clear()
            raise
        if not rows:
            self._seen.pop(owner, None)
            return False
        mine = self._own()
        if mine and mine.id == owner:
            return True
        (beat, ttl), now = rows[0], time.monotonic()
        last_beat, since = self._seen.get(owner, (None, now))
        if mine:
            answering = now - mine.beaten < self._lease * 2 / 3
            since = max(since, mine.steady) if answering else now
        if beat != last_beat:
            since = now
        self._seen[owner] = (beat, since)
        return asked - since < float(ttl)

    def release(self, owner: str) -> None:
        """End an owner's lease and delete every key bound to it, in one transaction."""
        write(self._database, lambda c, _: release(c, owner))

    def close(self) -> None:
        """End this process's owner, as far as the store can be written."""
        atexit.unregister(self._at_exit)
        self._end(self._database.patience)

    def _own(self) -> _Owner | None:
        mine = self._mine
        return mine if mine and mine.pid == os.getpid() else None

    def _keep_alive(self, mine: _Owner) -> None:
        """The heartbeat; one that fails is tried again at the next beat."""
        beat = "UPDATE leases SET beat = beat + 1 WHERE owner = ?"
        while not mine.ended.wait(self._lease / 3):
            try:
                if not self._database.run(lambda c: c.execute(beat, (mine.id,)).rowcount):
                    return
            except Exception:  # whatever it is, an owner that works must not look dead
                continue
            now = time.monotonic()
            if now - mine.beaten > self._lease * 2 / 3:
                mine.steady = now
            mine.beaten = now

    def _end(self, limit: float) -> None:
        mine = self._own()
        if mine is None:
            return
        self._mine = None
        mine.ended.set()
        if mine.thread is not None:
            mine.thread.join(min(limit, 1.0))
        with suppress(StoreUnavailable):  # its lease lapses by itself
            write(self._database, lambda c, _: release(c, mine.id), limit)

    def _at_exit(self) -> None:
        with suppress(Exception):
            self._end(_EXIT_PATIENCE)

    def _forked(self) -> None:
        self._lock = threading.RLock()
        self._mine = None
        self._seen = {}


_all: "weakref.WeakSet[Leases]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for leases in list(_all):
        leases._forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
