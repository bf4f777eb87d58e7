"""
The connection to a Ceph cluster, by the distribution's bindings ``rados`` and ``rbd``.

librados is not fork safe: a parent's connection hangs in its child. So there is one for each
process id, kept, and made anew where it was shut down (its client was put on the blocklist).
"""

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import BackendError, NoSpace, ToolMissing
from ..records import JSON

AWAY_SECONDS = "20"
"""After so long Ceph counts as away: each call then ends with an error."""
PAUSE_SECONDS = 5.0
"""For so long it is then not asked again: who takes back what he had begun need not wait, too."""
OPTIONS = {
    "rados_osd_op_timeout": AWAY_SECONDS,
    "rados_mon_op_timeout": AWAY_SECONDS,
    "client_mount_timeout": AWAY_SECONDS,
    # librbd would write to the standard error of whoever calls.
    "log_to_stderr": "false",
    "err_to_stderr": "false",
    "log_file": "",
    "admin_socket": "",
    # Clones need no protected snapshots, and outlive a parent in the trash.
    "rbd_default_clone_format": "2",
}
SHUT_OUT_SECONDS = 5 * 365 * 86400
"""A client is told apart by a number that no later one gets."""
LARGEST = 1 << 22
_AWAY = {errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTUNREACH, errno.ECONNREFUSED}
_inherited: list[object] = []
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class Place:
    """
    Where images are.

    conf
        Ceph's configuration file, which names the monitors and the keyring.
    client
        The cephx user, without ``client.``.
    namespace
        The pool's namespace; "" is its default one.
    """

    conf: Path
    client: str
    pool: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.pool}/{self.namespace}" if self.namespace else self.pool


def bindings() -> tuple[ModuleType, ModuleType]:
    """The modules ``rados`` and ``rbd``. Raises ToolMissing."""
    try:
        import rados  # noqa: PLC0415
        import rbd  # noqa: PLC0415
    except ImportError as exc:
        raise ToolMissing(
            f"Python's bindings of Ceph are not to be had here ({exc}); install the packages "
            f"python3-rados and python3-rbd, and see docs/ceph.md"
        ) from exc
    return rados, rbd


def host_of(client: str) -> str:
    """The host's address in a client's: ``[v2:][fe80::1]:0/17``."""
    return (
        client.partition("/")[0]
        .rpartition(":")[0]
        .removeprefix("v1:")
        .removeprefix("v2:")
        .strip("[]")
    )


def instance_of(client: str) -> str:
    """A client's address without the protocol: Ceph and the kernel write it differently."""
    return client.removeprefix("v1:").removeprefix("v2:")


class Connection:
    """A kept connection to one pool."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._away_until = 0.0
        self._cluster: Any = None
        self._pool: Any = None

    @contextmanager
    def pool(self, doing: str) -> Iterator[Any]:
        """
        The pool's I/O context, for as long as something is done.

        doing
            What cannot be done where Ceph refuses or is away: ``The image of db cannot be made``.

        Raises BackendError, NoSpace, ToolMissing; what says that an image is there, or is not, is
        the caller's.
        """
        rados, rbd = bindings()
        if time.monotonic() < self._away_until:
            raise self._away(doing)
        try:
            yield self._connected(rados)
        except (rbd.ImageNotFound, rbd.ImageExists, rbd.ImageHasSnapshots):
            raise
        except (rados.Error, rbd.Error) as exc:
            raise self._explained(exc, doing) from exc

    def _connected(self, rados: ModuleType) -> Any:
        if self._pid != os.getpid():
            # A parent's is the parent's: it is neither closed here nor collected.
            _inherited.append((self._cluster, self._pool))
            self._pid, self._lock = os.getpid(), threading.Lock()
            self._cluster = self._pool = None
        with self._lock:
            if self._pool is None:
                place = self.place
                cluster = rados.Rados(
                    conffile=str(place.conf), name=f"client.{place.client}", conf=OPTIONS
                )
                cluster.connect(timeout=int(AWAY_SECONDS))
                pool = cluster.open_ioctx(place.pool)
                pool.set_namespace(place.namespace)
                # What is full would let us wait for room.
                pool.set_osdmap_full_try()
                self._cluster, self._pool = cluster, pool
            return self._pool

    def ask(self, doing: str, **command: str) -> Any:
        """
        What the monitors answer to a command, such as ``prefix="df"``.

        Raises BackendError, also where this user may not ask that.
        """
        with self.pool(doing):
            words = json.dumps({**command, "format": "json"})
            number, said, why = self._cluster.mon_command(words, b"", timeout=int(AWAY_SECONDS))
        if number:
            raise self._explained(OSError(abs(number), why), doing)
        return json.loads(said)

    def put(self, name: str, value: JSON) -> None:
        """Keep something as an object of the pool; it is on the disks when this returns."""
        with self.pool(f"{self.place}/{name} cannot be written") as pool:
            pool.write_full(name, json.dumps(value).encode())

    def get(self, name: str) -> JSON | None:
        """What is kept as an object; None where there is none that can be read."""
        rados, _ = bindings()
        with self.pool(f"{self.place}/{name} cannot be read") as pool:
            try:
                value = json.loads(pool.read(name, LARGEST))
            except (rados.ObjectNotFound, ValueError):
                return None
        return value if isinstance(value, dict) else None

    def shut_out(self, client: str) -> None:
        """
        Put a client on Ceph's blocklist, and return when every OSD refuses it.

        client
            Its address as a watcher has it: ``10.0.0.5:0/3710147553``.
        """
        with self.pool(f"Ceph's client {client} cannot be shut out"):
            self._cluster.blocklist_add(client, SHUT_OUT_SECONDS)
            self._cluster.wait_for_latest_osdmap()

    def close(self) -> None:
        """Let go of it; the next call connects anew."""
        cluster, self._cluster, self._pool = self._cluster, None, None
        if cluster is not None and self._pid == os.getpid():
            with suppress(Exception):
                cluster.shutdown()

    def _away(self, doing: str) -> BackendError:
        return BackendError(
            f"{doing}: Ceph gave no answer within {AWAY_SECONDS} s; see ceph status"
        )

    def _explained(self, exc: Exception, doing: str) -> BackendError:
        place = self.place
        number = abs(getattr(exc, "errno", 0) or 0)
        if number == errno.ESHUTDOWN:
            self.close()
            return BackendError(
                f"{doing}: Ceph has shut this client out (blocklist); it connects anew at the "
                f"next call"
            )
        if number in _AWAY:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            return self._away(doing)
        if number in _FULL:
            return NoSpace(f"{doing}: the pool {place.pool} is full; free space or add storage")
        if number in (errno.EPERM, errno.EACCES):
            return BackendError(
                f"{doing}: client.{place.client} may not do that in {place}; see docs/ceph.md "
                f"for the capabilities that it needs"
            )
        if number == errno.ENOENT:
            return BackendError(
                f"{doing}: {place} or what it should hold is not in Ceph (configuration "
                f"{place.conf}, pillar dsvolume:ceph)"
            )
        return BackendError(f"{doing}: Ceph says: {exc}")
