"""
The embedded store: one SQLite database, one host, no server.

Here is the contract: keys, transactions, watch. Below it, each on the next: ``leases`` (owners),
``tables`` (what a transaction does), ``sqlite`` (a database used from many threads, forks and
processes), ``stopped`` (ends a writer that was stopped). What a crash leaves is told in ``tables``.

**Reads** wait for no writer and see what was last committed. A store that was never written reads
as an empty one of revision 0; the read makes no file and no directory, the first write makes them.

**A watch** asks for the revision, every 4 ms while there are changes and every 0.2 s at last, and
reads the log from where it stands. It keeps nothing in the store: one that is killed leaves
nothing, and one that begins anew at the revision it had reached misses nothing, or is told so.
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

from ..errors import Compacted
from .contract import MAX_WRITES, Change, Changed, Compare, Describe, Entry, Put, Values, Write
from .leases import Leases
from .sqlite import Database
from .tables import LAST, SCHEMA, TABLES, OwnerEnded, apply, delete, encode, write

_PAGE = 1000
_DECODED = 250  # values at once; measured: one by one costs calls, all together fresh memory
_CHANGED = """
    WITH below AS (SELECT key, revision FROM kv WHERE key >= ? AND key < ?)
    SELECT meta.revision, (SELECT count(*) FROM below), below.key
    FROM meta LEFT JOIN below ON below.revision > ? ORDER BY below.key
"""
_POLL = (0.004, 0.2)


class EmbeddedStore:
    """
    The store contract on a SQLite database.

    path
        The database; it and its directory are made by the first write.
    describe
        What ``owners/<owner>`` says about this process.
    lease
        Seconds after which a silent owner counts as gone.
    busy_timeout
        Seconds to wait for another writer; at least two lease times, so that one that was stopped
        can be found and ended.
    """

    def __init__(
        self,
        path: Path,
        *,
        describe: Describe,
        lease: float = 15.0,
        busy_timeout: float = 10.0,
    ) -> None:
        patience = max(busy_timeout, 2 * lease)
        self._database = Database(Path(path), TABLES, SCHEMA, patience=patience, stopped=lease)
        self._leases = Leases(self._database, describe, lease)

    # -- reading

    def get(self, key: str, *, linearizable: bool = False) -> Entry | None:
        """The key's entry, or None; every read here is linearizable."""
        rows = self._database.rows("SELECT value, revision FROM kv WHERE key = ?", key)
        return Entry(key, json.loads(rows[0][0]), rows[0][1]) if rows else None

    def read(self, *keys: str) -> Sequence[Entry]:
        """The entries of several keys, or of all below those that end in ``/``, of one read."""
        if not keys:
            return []
        ranges = [(key, key + LAST) if key.endswith("/") else (key, key + "\0") for key in keys]
        # Joined by OR, they would be looked for in the whole table.
        one = "SELECT key, value, revision FROM kv WHERE key >= ? AND key < ?"
        query = " UNION ".join([one] * len(ranges)) + " ORDER BY key"
        rows = self._database.rows(query, *chain.from_iterable(ranges))
        return [Entry(key, json.loads(text), revision) for key, text, revision in rows]

    def list(self, prefix: str, *, linearizable: bool = False) -> Iterator[Entry]:
        """All entries below ``prefix`` in key order; each page is a read of its own."""
        query = (
            "SELECT key, value, revision FROM kv WHERE key {} ? AND key < ? ORDER BY key LIMIT ?"
        )
        rows = self._database.rows(query.format(">="), prefix, prefix + LAST, _PAGE)
        while rows:
            for key, text, revision in rows:
                yield Entry(key, json.loads(text), revision)
            if len(rows) < _PAGE:
                return
            rows = self._database.rows(query.format(">"), rows[-1][0], prefix + LAST, _PAGE)

    def values(self, prefix: str, start: str = "", end: str = "") -> Values:
        """The values below ``prefix``, from ``start``, before ``end``, of one read."""
        query = "SELECT value FROM kv WHERE key >= ? AND key < ? ORDER BY key"

        limits = (max(prefix, start), min(prefix + LAST, end or prefix + LAST))

        def decode(connection: sqlite3.Connection) -> Values:
            values: Values = []
            # Left open by an error, it would show this thread the store as it is now for ever.
            with closing(connection.execute(query, limits)) as cursor:
                while rows := cursor.fetchmany(_DECODED):
                    values += json.loads("[" + ",".join([text for (text,) in rows]) + "]")
            return values

        return self._database.read(decode, [])

    def changed(self, prefix: str, since: int = 0) -> Changed:
        """Which keys below ``prefix`` were changed after a revision, and how many there are."""
        rows = self._database.rows(_CHANGED, prefix, prefix + LAST, since)
        if not rows:
            return Changed(0, 0, ())
        return Changed(rows[0][0], rows[0][1], tuple(key for *_, key in rows if key is not None))

    def probe(self, seconds: float) -> None:
        """Raise StoreUnavailable unless it can be read; that waits for nobody."""
        self.revision()

    def revision(self) -> int:
        """The store's revision now."""
        rows = self._database.rows("SELECT revision FROM meta")
        return int(rows[0][0]) if rows else 0

    def watch(
        self, prefix: str, revision: int, *, timeout: float | None = None
    ) -> Iterator[Change]:
        """
        Report changes below ``prefix`` from ``revision`` on, within 0.2 seconds.

        Ends after ``timeout`` seconds without a change. Raises Compacted where the changes since
        ``revision`` are no longer kept.
        """
        position = (revision, "")
        seen, pause, changed = -1, _POLL[0], time.monotonic()
        while True:
            # The revision, not data_version, which hides what this very connection wrote.
            if self.revision() != seen:
                now, compacted, found = self._changes(prefix, position)
                if max(position[0], 1) <= compacted:
                    raise Compacted(
                        f"The store {self._database.path} no longer keeps the changes since"
                        f" revision {position[0]}: list {prefix!r} anew and watch from there"
                    )
                yield from found
                if found:
                    pause, changed = _POLL[0], time.monotonic()
                if len(found) == _PAGE:
                    position = (found[-1].revision, found[-1].key)
                    continue
                position, seen = max(position, (now + 1, "")), now
            left = pause if timeout is None else changed + timeout - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _POLL[1])

    def _changes(self, prefix: str, position: tuple[int, str]) -> tuple[int, int, Sequence[Change]]:
        """Revision, last trimmed revision and a page of the changes after ``position``."""
        rows = self._database.rows(
            "SELECT meta.revision, meta.compacted, c.revision, c.key, c.value FROM meta LEFT JOIN"
            " (SELECT revision, key, value FROM changes WHERE (revision, key) > (?, ?)"
            "  AND key >= ? AND key < ? ORDER BY revision, key LIMIT ?) AS c"
            " ORDER BY c.revision, c.key",
            *(*position, prefix, prefix + LAST, _PAGE),
        )
        found = [
            Change(key, None if text is None else json.loads(text), revision)
            for _, _, revision, key, text in rows
            if key is not None
        ]
        now, compacted = rows[0][:2] if rows else (0, 0)
        return now, compacted, found

    # -- writing

    def transact(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int | None:
        """
        Apply all writes if all compares hold; the new revision, or None.

        Raises ValueError for more than MAX_WRITES writes or two of the same key.
        """
        if len(writes) > MAX_WRITES:
            raise ValueError(f"{len(writes)} writes in one transaction; {MAX_WRITES} at most")
        if len({write.key for write in writes}) < len(writes):
            raise ValueError("two writes of one key in one transaction")
        rows = [
            (write.key, encode(write.value), write.leased)
            if isinstance(write, Put)
            else (write.key, None, False)
            for write in writes
        ]
        owner = self.owner() if any(leased for _, _, leased in rows) else None
        try:
            outcome = write(self._database, lambda c, new: apply(c, new, compares, rows, owner))
        except OwnerEnded:
            return self.transact(compares, writes)
        return outcome[0] if outcome else None

    def delete_range(self, start: str, end: str) -> int:
        """Delete the keys with ``start <= key < end``; how many there were."""
        outcome = write(self._database, lambda c, _: delete(c, "key >= ? AND key < ?", start, end))
        return outcome[1] if outcome else 0

    # -- owners

    def owner(self) -> str:
        """This process's owner id; a new one after a fork, or where another process ended it."""
        return self._leases.owner()

    def alive(self, owner: str) -> bool:
        """False where its key is absent, or where this observer saw its lease lapse."""
        return self._leases.alive(owner)

    def release(self, owner: str) -> None:
        """End an owner's lease and delete every key bound to it, in one transaction."""
        self._leases.release(owner)

    def close(self) -> None:
        """End this process's owner, as far as the store can be written, and close all files."""
        self._leases.close()
        self._database.close()
