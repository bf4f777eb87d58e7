"""
How full a pool of Ceph is, and how Ceph is, as its monitors say.

Only the monitors are asked, for what ``mon 'profile rbd'`` may read, and they answer from memory.
How much is stored they know from Ceph's manager (ceph-mgr): where none runs, nothing is known, but
that a pool is full they know all the same.

Ceph lets whoever writes to a full pool wait. So a verb looks before it begins, and what it does by
librbd itself fails at once (``rados_set_osdmap_full_try``), while what frees room goes on.
"""

from dataclasses import dataclass
from typing import Any

from ..errors import BackendError, NoSpace
from ..records import MB
from .contract import Health
from .rbd_connection import Connection

QUOTA = "full_quota"
FULL = "full"


@dataclass(frozen=True, slots=True)
class Room:
    """
    How full a pool is; bytes as volumes see them, without further copies of data.

    total
        What the pool's disks can hold for it before Ceph counts them as full, or its quota where
        that is less; 0 where it is not known.
    full
        Why it takes nothing more; "" where it does.
    """

    total: int
    available: int
    full: str


class RbdPool:
    """Asks for one pool."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._name = connection.place.pool

    def room(self) -> Room:
        """How full it is. Raises BackendError."""
        doing = f"How full the pool {self._name} is cannot be told"
        pools = self._connection.ask(doing, prefix="osd pool ls", detail="detail")
        pool = next((one for one in pools if one["pool_name"] == self._name), None)
        if pool is None:
            raise BackendError(f"{doing}: Ceph has no such pool")
        full = _why_full(pool)
        known = self._connection.ask(doing, prefix="df", detail="detail")["pools"]
        stats = next((one["stats"] for one in known if one["name"] == self._name), None)
        if stats is None:
            return Room(0, 0, full)
        stored, left = int(stats["stored"]), int(stats["max_avail"])
        if quota := int(pool["quota_max_bytes"]):
            left = min(left, max(0, quota - stored))
        return Room(stored + left, 0 if full else left, full)

    def need_room(self, mb_size: int) -> None:
        """
        Raise NoSpace where nothing of ``mb_size`` MB could ever be written.

        Images take only what is written to them: one may promise all that there is, not more.
        """
        room = self.room()
        if room.full:
            raise NoSpace(f"The pool {self._name} of Ceph is full: {room.full}")
        if room.total and mb_size * MB > room.total:
            raise NoSpace(
                f"The pool {self._name} of Ceph has {room.total // MB} MB in all, asked {mb_size}; "
                f"add storage or ask for less"
            )

    def health(self) -> Health:
        """How Ceph says that it is; what an operator has muted is left out. Raises BackendError."""
        said = self._connection.ask("How Ceph is cannot be told", prefix="health")
        checks = (
            f"{check['summary']['message']} ({code})"
            for code, check in said["checks"].items()
            if not check.get("muted")
        )
        return Health(said["status"], tuple(checks))


def _why_full(pool: dict[str, Any]) -> str:
    flags = pool["flags_names"].split(",")
    if QUOTA in flags:
        return "its quota is reached; remove volumes or raise it (ceph osd pool set-quota)"
    if FULL in flags:
        return "an OSD is; remove volumes or add storage (see ceph health detail)"
    return ""
