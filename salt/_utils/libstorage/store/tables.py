"""
The embedded store's tables, and what a transaction does to them.

**Tables.** ``kv`` holds the keys; each row carries the revision of its last change and, for a
leased key, the owner that it is bound to. ``changes`` is the log that watches read, an hour or
100,000 changes of it. ``leases`` has one row for each owner: its time to live and a counter of
heartbeats. ``meta`` is one row: the store's revision, the last revision that was trimmed from the
log, and how many changes the log holds. ``PRAGMA user_version`` is the schema's version.

**A write** is one SQLite transaction (BEGIN IMMEDIATE): compares, keys, log and revision are
committed together, with the write-ahead log flushed to disk (WAL, synchronous FULL). Killed before
the commit record is on disk, a writer has changed nothing; killed after it, everything. There is
no second file and no step outside a transaction, so no line here needs to be undone: the next
process to open the database drops the unfinished tail of the write-ahead log. Creating the store
is such a transaction too; an empty file left by a crash before it is simply filled by the next.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Sequence

from .contract import Compare, KeyAbsent, KeyAtRevision, Value
from .sqlite import Database

SCHEMA = 1
KEEP_SECONDS = 3600.0
KEEP_CHANGES = 100_000
TRIM_EVERY = 256
"""The change log is trimmed in each transaction whose revision is a multiple of this."""

LAST = "\U0010ffff"  # sorts after every key

TABLES = (
    "CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL,"
    " owner TEXT) WITHOUT ROWID",
    "CREATE INDEX kv_owner ON kv (owner) WHERE owner IS NOT NULL",
    "CREATE TABLE changes (revision INTEGER NOT NULL, key TEXT NOT NULL, value TEXT,"
    " at REAL NOT NULL, PRIMARY KEY (revision, key)) WITHOUT ROWID",
    "CREATE TABLE leases (owner TEXT PRIMARY KEY, ttl REAL NOT NULL, beat INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE meta (revision INTEGER NOT NULL, compacted INTEGER NOT NULL,"
    " logged INTEGER NOT NULL)",
    "INSERT INTO meta VALUES (0, 0, 0)",
    f"PRAGMA user_version = {SCHEMA}",
)

Row = tuple[str, str | None]  # a changed key and its value's text, None where it was deleted


class OwnerEnded(Exception):
    """Another process ended this process's owner just now."""


def encode(value: Value) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def write(
    database: Database,
    work: Callable[[sqlite3.Connection, int], Sequence[Row] | None],
    limit: float | None = None,
) -> tuple[int, int] | None:
    """
    Run ``work`` in a transaction and log the changes that it returns.

    ``work`` is told the revision that its changes will have. Returns the store's revision and
    the number of changes, or None where ``work`` returned None and nothing was written.
    """

    def attempt(connection: sqlite3.Connection) -> tuple[int, int] | None:
        connection.execute("BEGIN IMMEDIATE")
        revision: int = connection.execute("SELECT revision FROM meta").fetchone()[0]
        changes = work(connection, revision + 1)
        if changes is None:
            connection.execute("ROLLBACK")
            return None
        if changes:
            revision += 1
            _log(connection, revision, changes)
        connection.execute("COMMIT")
        return revision, len(changes)

    return database.run(attempt, limit)


def apply(
    connection: sqlite3.Connection,
    new: int,
    compares: Sequence[Compare],
    rows: Sequence[tuple[str, str | None, bool]],
    owner: str | None,
) -> list[Row] | None:
    """Check and write inside a transaction; the changes, or None where a compare does not hold."""
    if not all(_holds(connection, compare) for compare in compares):
        return None
    if owner is not None:
        lease = connection.execute("SELECT 1 FROM leases WHERE owner = ?", (owner,))
        if lease.fetchone() is None:
            raise OwnerEnded
    changes: list[Row] = []
    for key, text, leased in rows:
        if text is None:
            changes += delete(connection, "key = ?", key)
        else:
            connection.execute(
                "INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)",
                (key, text, new, owner if leased else None),
            )
            changes.append((key, text))
    return changes


def _holds(connection: sqlite3.Connection, compare: Compare) -> bool:
    if isinstance(compare, KeyAbsent | KeyAtRevision):
        query = "SELECT revision FROM kv WHERE key = ?"
        row = connection.execute(query, (compare.key,)).fetchone()
        wanted = (compare.revision,) if isinstance(compare, KeyAtRevision) else None
        return bool(row == wanted)
    query = "SELECT 1 FROM kv WHERE key >= ? AND key < ? LIMIT 1"
    some = connection.execute(query, (compare.prefix, compare.prefix + LAST)).fetchone()
    return some is None


def delete(connection: sqlite3.Connection, where: str, *arguments: str) -> list[Row]:
    keys = connection.execute(f"SELECT key FROM kv WHERE {where}", arguments).fetchall()
    connection.executemany("DELETE FROM kv WHERE key = ?", keys)
    return [(key, None) for (key,) in keys]


def release(connection: sqlite3.Connection, owner: str) -> list[Row]:
    connection.execute("DELETE FROM leases WHERE owner = ?", (owner,))
    return delete(connection, "owner = ?", owner)


def _log(connection: sqlite3.Connection, revision: int, changes: Sequence[Row]) -> None:
    now = time.time()
    connection.executemany(
        "INSERT INTO changes VALUES (?, ?, ?, ?)",
        [(revision, key, text, now) for key, text in changes],
    )
    connection.execute(
        "UPDATE meta SET revision = ?, logged = logged + ?", (revision, len(changes))
    )
    if revision % TRIM_EVERY == 0:
        _trim(connection, now - KEEP_SECONDS)


def _trim(connection: sqlite3.Connection, oldest: float) -> None:
    """Drop what is older than ``oldest`` (seconds since the epoch) or more than is kept."""
    # The change just written is young enough, so that there always is one to stop at.
    first = connection.execute(
        "SELECT revision FROM changes WHERE at >= ? ORDER BY revision LIMIT 1", (oldest,)
    ).fetchone()
    last_dropped = first[0] - 1
    revision, logged = connection.execute("SELECT revision, logged FROM meta").fetchone()
    if logged > KEEP_CHANGES:
        surplus = connection.execute(
            "SELECT revision FROM changes ORDER BY revision, key LIMIT 1 OFFSET ?",
            (logged - KEEP_CHANGES - 1,),
        ).fetchone()
        last_dropped = min(max(last_dropped, surplus[0]), revision - 1)
    query = "DELETE FROM changes WHERE revision <= ?"
    dropped = connection.execute(query, (last_dropped,)).rowcount
    if dropped:
        connection.execute(
            "UPDATE meta SET compacted = ?, logged = logged - ?", (last_dropped, dropped)
        )
