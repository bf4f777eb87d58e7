"""
The contract of every store.

A store holds JSON values under keys such as ``volumes/db``, relative to ``<prefix>/v1/``.
Every successful transaction raises the store's revision by one; a key carries the revision of
its last change. The one key that a store writes by itself is ``owners/<owner>``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Value = dict[str, Any]
Values = list[Value]

MAX_WRITES = 100
"""Writes in one transaction, at most (etcd's default limit is 128 operations)."""
MAX_READS = 100
"""Keys in one read, at most."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it was read; ``revision`` is that of its last change."""

    key: str
    value: Value
    revision: int


@dataclass(frozen=True, slots=True)
class Changed:
    """
    What was changed below a prefix, of one read.

    revision
        The store's, up to which it is told.
    count
        The keys that there are below the prefix, changed or not.
    keys
        Those that were changed and are there, in order. What was deleted is not among them: who
        had all keys, and now has more than ``count``, has some that are gone.
    """

    revision: int
    count: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch reports: ``value`` is None where the key was deleted."""

    key: str
    value: Value | None
    revision: int


@dataclass(frozen=True, slots=True)
class KeyAbsent:
    key: str


@dataclass(frozen=True, slots=True)
class KeyAtRevision:
    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class PrefixEmpty:
    prefix: str


@dataclass(frozen=True, slots=True)
class Put:
    """``leased`` binds the key to this process's owner: it goes when the owner's lease ends."""

    key: str
    value: Value
    leased: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


Compare = KeyAbsent | KeyAtRevision | PrefixEmpty
Write = Put | Delete

Describe = Callable[[], Value]
"""Tells who this process is (node, boot id, pid, ...); called whenever an owner is made."""


class Store(Protocol):
    """
    Every method may raise StoreUnavailable, within 10 seconds. Safe to use from any thread, and
    from a forked child (which gets connections and an owner of its own).
    """

    def get(self, key: str, *, linearizable: bool = False) -> Entry | None:
        """The key's entry, or None where it is absent."""

    def read(self, *keys: str) -> Sequence[Entry]:
        """
        The entries of several keys that are there, in key order, of one linearizable read.

        A key that ends in ``/`` stands for all below it. At most MAX_READS keys.
        """

    def list(self, prefix: str, *, linearizable: bool = False) -> Iterator[Entry]:
        """All entries whose key starts with ``prefix``, in key order, read in pages."""

    def values(self, prefix: str, start: str = "", end: str = "") -> Values:
        """
        The values alone, in key order, of one consistent read: the fast way for many records.

        start, end
            Keys, of which only those with ``start <= key < end`` are read; "": no such limit.
        """

    def changed(self, prefix: str, since: int = 0) -> Changed:
        """Which keys below ``prefix`` were changed after a revision, and how many there are."""

    def probe(self, seconds: float) -> None:
        """Raise StoreUnavailable unless it answers within so long."""

    def revision(self) -> int:
        """The store's revision now."""

    def transact(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int | None:
        """
        Apply all writes if all compares hold.

        Returns the new revision, or None where a compare did not hold and nothing was written.
        At most MAX_WRITES writes (ValueError beyond).
        """

    def delete_range(self, start: str, end: str) -> int:
        """Delete the keys with ``start <= key < end``; returns how many there were."""

    def watch(
        self, prefix: str, revision: int, *, timeout: float | None = None
    ) -> Iterator[Change]:
        """
        Report changes below ``prefix`` from ``revision`` on (inclusive), in order.

        Ends after ``timeout`` seconds without a change (None: never). Raises Compacted where the
        changes since ``revision`` are no longer kept.
        """

    def owner(self) -> str:
        """
        This process's owner id.

        Made at the first call, and again after a fork: the key ``owners/<id>`` is there, bound to
        a lease that a thread keeps alive, before this returns.
        """

    def alive(self, owner: str) -> bool:
        """
        Does the owner's lease still run?

        False where the key ``owners/<owner>`` is absent, or where this observer has seen the lease
        lapse while the store answered throughout.
        """

    def release(self, owner: str) -> None:
        """End an owner's lease and delete every key bound to it."""

    def close(self) -> None:
        """End this process's owner and let go of all connections."""
