"""
The etcd store's owners: a lease for each process that needs one.

An owner's id begins with the number of its lease, so that whoever knows the owner can end the
lease. It is made in this order: the lease; the key ``owners/<id>``, bound to it; only then does
:meth:`EtcdLeases.owner` answer with the id, so that no key names an owner that is not there. A
thread of the process renews the lease three times in a lease time. Killed between lease and key, a
process leaves a lease without keys, which lapses by itself. Killed or stopped later, it renews no
more, and etcd deletes ``owners/<id>`` with all keys bound to the lease: the owner is dead exactly
when its key is absent. etcd counts a lease's time anew when its leader changes or it restarts, so
that an outage of etcd ends nobody's lease.

A forked child begins without owner. A process that went on after its lease had lapsed (it was
stopped, or cut off) finds its key absent at the next :meth:`EtcdLeases.owner` and makes a new one.
"""

import atexit
import math
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress

from ..errors import StoreUnavailable
from . import etcd_client
from .contract import Describe, Value
from .etcd_client import Client, Refused

_EXIT_PATIENCE = 0.3


def lease_of(owner: str) -> int | None:
    """The number of an owner's lease, None for what is no owner's id."""
    try:
        return (int(owner[:16], 16) & 0x7FFF_FFFF_FFFF_FFFF) or 1
    except ValueError:
        return None


class _Owner:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.id = uuid.uuid4().hex
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None


class EtcdLeases:
    """
    This process's owner.

    put(owner, value, lease, limit)
        Writes the key of an owner, bound to a lease.
    exists(owner, limit)
        Is an owner's key there?
    """

    def __init__(
        self,
        client: Client,
        describe: Describe,
        lease: float,
        *,
        put: Callable[[str, Value, int, float], None],
        exists: Callable[[str, float], bool],
    ) -> None:
        self._client = client
        self._describe = describe
        self._seconds = max(1, math.ceil(lease))
        self._put = put
        self._exists = exists
        self._lock = threading.RLock()
        self._mine: _Owner | None = None
        _all.add(self)

    def owner(self) -> str:
        """This process's owner id; a new one after a fork, or where its lease has ended."""
        end = time.monotonic() + etcd_client.LIMIT

        def left() -> float:
            return max(0.05, end - time.monotonic())

        # All threads wait together, not one after the other, for a store that is away.
        if not self._lock.acquire(timeout=left()):
            raise StoreUnavailable("The store cannot be reached: another thread waits for it, too")
        try:
            mine = self._own()
            if mine and self._exists(mine.id, left()):
                return mine.id
            if mine:
                mine.ended.set()
            mine = _Owner()
            self._grant(mine, left())
            self._put(mine.id, self._describe(), lease_of(mine.id) or 0, left())
            self._keep(mine)
            return mine.id
        finally:
            self._lock.release()

    def _keep(self, mine: _Owner) -> None:
        mine.thread = threading.Thread(
            target=self._keep_alive, args=(mine,), name="libstorage-lease", daemon=True
        )
        self._mine = mine
        mine.thread.start()
        atexit.unregister(self._at_exit)
        atexit.register(self._at_exit)

    def release(self, owner: str, limit: float | None = None) -> None:
        """End an owner's lease; etcd deletes every key bound to it in the same transaction."""
        lease = lease_of(owner)
        if lease is None:
            return
        try:
            self._client.call("lease/revoke", {"ID": str(lease)}, limit=limit)
        except Refused as refusal:
            if "lease not found" not in refusal.words:
                raise

    def close(self) -> None:
        """End this process's owner, as far as etcd answers."""
        atexit.unregister(self._at_exit)
        self._end(etcd_client.LIMIT)

    def _own(self) -> _Owner | None:
        mine = self._mine
        return mine if mine and mine.pid == os.getpid() else None

    def _grant(self, mine: _Owner, limit: float) -> None:
        body = {"ID": str(lease_of(mine.id)), "TTL": str(self._seconds)}
        try:
            self._client.call("lease/grant", body, limit=limit)
        except Refused as refusal:
            # A first attempt whose answer was lost.
            if "already exists" not in refusal.words:
                raise

    def _keep_alive(self, mine: _Owner) -> None:
        """Renew the lease; where that fails, at once again."""
        body = {"ID": str(lease_of(mine.id))}
        pause = self._seconds / 3
        while not mine.ended.wait(pause):
            try:
                answer, _ = self._client.call("lease/keepalive", body, limit=2 * self._seconds / 3)
                if not int(answer.get("TTL", 0)):
                    return
                pause = self._seconds / 3
            except Exception:  # whatever it is, an owner that works must not look dead
                pause = min(0.1, self._seconds / 10)

    def _end(self, limit: float) -> None:
        mine = self._own()
        if mine is None:
            return
        self._mine = None
        mine.ended.set()
        began = time.monotonic()
        if mine.thread is not None:
            mine.thread.join(min(limit, 1.0))
        with suppress(StoreUnavailable):  # its lease lapses by itself
            self.release(mine.id, max(0.05, limit - (time.monotonic() - began)))

    def _at_exit(self) -> None:
        with suppress(Exception):
            self._end(_EXIT_PATIENCE)

    def _forked(self) -> None:
        self._lock = threading.RLock()
        self._mine = None


_all: "weakref.WeakSet[EtcdLeases]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for leases in list(_all):
        leases._forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
