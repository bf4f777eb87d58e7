"""
One SQLite database, used from many threads, forks and processes.

**Connections.** Each thread of each process has one of its own; each is in WAL mode and flushes
every commit (synchronous FULL). While another process has the database locked, an action is run
again from its beginning, up to the limit. Errors become StoreUnavailable, with the way out.

**Making it.** The first write makes the directory, the file and the tables; the tables are made in
one transaction, so that of many processes that come first one makes them, and an empty file left
by a crash before it is simply filled by the next. A read makes nothing: where the file is missing
there is nothing to read.

**Forks.** SQLite keeps its file locks in process-wide tables. A child that inherits an open
connection believes that it holds locks which the kernel gives to its parent only, and then even a
connection that the child opens itself can write into a log that others have deleted. Therefore
every connection is closed before a fork and opened again when it is next needed. One that is stuck
in the kernel at that moment is never touched or freed in the child, which refuses this store.
"""

import ctypes
import errno
import os
import re
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ..errors import StoreUnavailable
from .stopped import StoppedWriter

_ATTEMPT = 0.05  # seconds; SQLite waits ever longer within one attempt, which starves the patient
_FORK_PATIENCE = 5.0

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_FULL = (errno.ENOSPC, errno.EDQUOT)

_UNSUITABLE = re.compile(
    r"nfs|nfs4|cifs|smb3|smbfs|9p|virtiofs|ceph|fuse|fuse\..*|glusterfs|lustre|ocfs2|gfs2|gpfs"
    r"|beegfs|afs|coda|orangefs|pvfs2|vboxsf|vmhgfs"
)

Rows = list[Any]
_Result = TypeVar("_Result")


class _Link:
    """One thread's connection; whoever uses or closes it holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.connection: sqlite3.Connection | None = None

    def let_go(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


class _NotMade(Exception):
    """The database is missing, and the action is not one that makes it."""


class Database:
    """
    A database that each thread opens when it first needs it.

    path
        The file; it and its directory are made by the first ``run``.
    tables
        The statements that make the tables, and set ``PRAGMA user_version`` to ``schema``.
    schema
        The newest version of them that can be used.
    patience
        Seconds to wait for another writer.
    stopped
        Seconds after which a writer that was stopped is ended.
    """

    def __init__(
        self, path: Path, tables: Sequence[str], schema: int, *, patience: float, stopped: float
    ) -> None:
        self.path = path.absolute()
        self.patience = patience
        self._tables = tables
        self._schema = schema
        self._stopped = stopped
        self._links: dict[tuple[int, int], _Link] = {}
        with _gate:
            _databases.add(self)

    def rows(self, query: str, *arguments: Any) -> Rows:
        """What a query finds; nothing where the database is missing."""
        return self.read(lambda connection: connection.execute(query, arguments).fetchall(), [])

    def read(self, action: Callable[[sqlite3.Connection], _Result], nothing: _Result) -> _Result:
        """Run ``action``, or return ``nothing`` where the database is missing, which it stays."""
        try:
            return self.run(action, make=False)
        except _NotMade:
            return nothing

    def run(
        self,
        action: Callable[[sqlite3.Connection], _Result],
        limit: float | None = None,
        *,
        make: bool = True,
    ) -> _Result:
        """
        Run ``action`` on this thread's connection, again while the database is locked.

        limit
            Seconds after which StoreUnavailable is raised; default: what the constructor said.
        make
            Whether a missing database is made; else _NotMade is raised.
        """
        limit = self.patience if limit is None else limit
        deadline = time.monotonic() + limit
        stopped = StoppedWriter(self.path, self._stopped)
        while True:
            try:
                with self._connection(make) as connection:
                    return action(connection)
            except sqlite3.Error as error:
                if not _is_busy(error) or time.monotonic() >= deadline:
                    raise self._unavailable(error, limit) from error
            except OSError as error:
                raise self._unavailable(error, limit) from error
            stopped.look()
            time.sleep(0.001)

    @contextmanager
    def _connection(self, make: bool) -> Iterator[sqlite3.Connection]:
        """This thread's connection; after an error it is clean, or made anew when next needed."""
        link = self._link()
        with link.lock:
            if link.connection is None:
                link.connection = self._connect(make)
            try:
                yield link.connection
            except BaseException as error:
                if isinstance(error, sqlite3.Error) and not _is_busy(error):
                    link.let_go()
                elif link.connection is not None and link.connection.in_transaction:
                    try:
                        link.connection.execute("ROLLBACK")
                    except sqlite3.Error:
                        link.let_go()
                raise

    def _link(self) -> _Link:
        me = (os.getpid(), threading.get_ident())
        with _gate:  # always, so that a fork need not win a race against busy threads
            return self._links.get(me) or self._new_link(me)

    def _new_link(self, me: tuple[int, int]) -> _Link:
        if any(pid != me[0] for s in _databases if s.path == self.path for pid, _ in s._links):
            raise StoreUnavailable(
                f"The store {self.path} cannot be used in this process, which was forked while"
                " the store hung: start the process anew"
            )
        threading.current_thread()  # a thread that Python did not start is listed from here on
        living = {thread.ident for thread in threading.enumerate()}
        for key in [key for key in self._links if key[1] not in living]:
            self._links.pop(key).let_go()
        self._links[me] = _Link()
        return self._links[me]

    def _connect(self, make: bool) -> sqlite3.Connection:
        self._refuse_unsuitable()
        if make:
            self._make_file()
        else:
            self._require_file()
        connection = sqlite3.connect(
            self.path, timeout=_ATTEMPT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_file(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            # Not open(): closing a file drops the locks that this process has on it.
            os.mknod(self.path, 0o600 | stat.S_IFREG)

    def _require_file(self) -> None:
        try:
            self.path.stat()
        except FileNotFoundError:
            raise _NotMade from None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Set WAL and, where the database is new, make the tables."""
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StoreUnavailable(
                f"The store {self.path} cannot keep a write-ahead log on its filesystem: move it"
                " to a local one"
            )
        connection.execute("PRAGMA synchronous = FULL")
        if _version(connection) == 0:
            connection.execute("BEGIN IMMEDIATE")
            if _version(connection) == 0:
                for statement in self._tables:
                    connection.execute(statement)
            connection.execute("COMMIT")
        if (version := _version(connection)) > self._schema:
            raise StoreUnavailable(
                f"The store {self.path} has schema {version}, newer than the {self._schema} that"
                " this libstorage knows: upgrade libstorage"
            )

    def _refuse_unsuitable(self) -> None:
        point, kind = _filesystem(Path(os.path.realpath(self.path.parent)))
        if _UNSUITABLE.fullmatch(kind):
            raise StoreUnavailable(
                f"The store {self.path} cannot be kept on {kind} ({point}), where SQLite's locks"
                " do not hold: move it to a local filesystem, or use etcd"
            )

    def _unavailable(self, error: Exception, waited: float) -> StoreUnavailable:
        code = getattr(error, "sqlite_errorcode", 0)
        number = error.errno if isinstance(error, OSError) else None
        if _is_busy(error):
            why = f"was locked by another process for {waited:g} s: try again, or end that process"
        elif code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            why = "is damaged: restore it from a copy"
        elif code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE) or number in _FULL:
            why = "cannot be written, the disk is full: free some space"
        elif code & 0xFF == sqlite3.SQLITE_READONLY or not os.access(self._nearest(), os.W_OK):
            why = "is read-only: make the file and its filesystem writable"
        else:
            why = f"cannot be used ({error}): check the file and its filesystem"
        return StoreUnavailable(f"The store {self.path} {why}")

    def _nearest(self) -> Path:
        """The database, or where it is missing the directory that it would be made in."""
        return next(p for p in (self.path, *self.path.parents) if os.path.exists(p))

    def close(self) -> None:
        """Close this process's files."""
        with _gate:
            links = [link for (pid, _), link in self._links.items() if pid == os.getpid()]
        for link in links:
            with link.lock:
                link.let_go()

    def _forked(self) -> None:
        """In the child: begin without connections."""
        self._links = {key: link for key, link in self._links.items() if link.connection}
        for link in self._links.values():  # never freed, not even at the interpreter's end
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(link.connection))


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY


# -- the filesystem


def _mountinfo() -> str:
    return Path("/proc/self/mountinfo").read_text(errors="surrogateescape")


def _filesystem(directory: Path) -> tuple[Path, str]:
    """Mount point and type of the filesystem that holds ``directory``, which need not exist."""
    best, kind, below = "/", "", f"{directory}/"
    for line in _mountinfo().splitlines():
        mount, _, source = line.partition(" - ")
        octal = mount.split(" ")[4]
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), octal)
        # Of two mounts on one point the later one is seen.
        if below.startswith(f"{point.rstrip('/')}/") and len(point) >= len(best):
            best, kind = point, source.split(" ")[0]
    return Path(best), kind


# -- forks

_gate = threading.RLock()
_databases: "weakref.WeakSet[Database]" = weakref.WeakSet()
_held: list[_Link] = []


def _before_fork() -> None:
    _gate.acquire()
    deadline = time.monotonic() + _FORK_PATIENCE
    for database in list(_databases):
        for link in list(database._links.values()):
            if link.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                _held.append(link)
                link.let_go()


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().lock.release()
    _gate.release()


def _after_fork_in_child() -> None:
    global _gate  # noqa: PLW0603 - another thread of the parent may have waited for it
    _gate = threading.RLock()
    _held.clear()
    for database in list(_databases):
        database._forked()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
