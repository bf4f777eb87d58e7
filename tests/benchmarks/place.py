"""A temporary root with one long-lived manager, and beside it what the floors need."""

import subprocess
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from benchmarks.floors import BareStore, Hand
from lab.etcd import Cluster
from lab.site import NO_TRASH, Site
from libstorage.host import mounts
from libstorage.manager import Given, VolumeManager
from libstorage.store.contract import Delete, Put

SIZE = 100  # MB, the size that the figures are meant for
GROWN = 500  # transactions, each of some pages
DISK = 64 * 1024  # MB of the disk whose files share blocks, in a sparse file
T = TypeVar("T")
LEASE = 15  # seconds, as by default: the lab's short one would write all the time


class Place:
    """Where the stories happen. Whatever they leave behind is taken from the host at the end."""

    def __init__(self, root: Path) -> None:
        # Looked at as by default, and told once at most.
        self._site = Site(root, lease=LEASE, capacity={"near_full": 85})
        self._also = ExitStack()
        self._reflink: Place | None = None
        self._etcd: EtcdPlace | None = None

    def __enter__(self) -> Self:
        self._site.__enter__()
        try:
            self.root = self._site.root
            self.manager: VolumeManager = self._site.manager()
            self.manager.create("first", Given(policy="local"))
            self.record = dict(self._site.values("volumes/")["volumes/first"])
            self.manager.rm("first")
            self.hand = Hand(self.root / "hand", self.record)
            self.bare = BareStore(self.root / "hand" / "bare.db")
            self._grow()
        except BaseException:
            self._site.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with self._also:
                self.bare.close()
        finally:
            self._site.close()

    def on_reflink(self) -> "Place":
        """Another such place on a disk whose files share blocks; made when first asked for."""
        if self._reflink is None:
            folder = self.root.parent / "reflink"
            self._reflink = self._also.enter_context(ReflinkDisk(folder))
        return self._reflink

    def on_etcd(self) -> "EtcdPlace":
        """A place whose records are in etcd; made when first asked for."""
        if self._etcd is None:
            self._etcd = self._also.enter_context(EtcdPlace(self.root.parent / "on-etcd"))
        return self._etcd

    def also(self, context: AbstractContextManager[T]) -> T:
        """Enter a context that ends with this place."""
        return self._also.enter_context(context)

    def _grow(self) -> None:
        """
        Bring both stores into the state of a long-lived process.

        SQLite's write-ahead log grows to its full size (1000 pages) and is overwritten in place
        from then on, which is flushed to the disk in less time than what makes a file longer.
        """
        for number in range(GROWN):
            self.bare.transact(f"grow/{number}", self.record)
            self._site.store.transact([], [Put("events/0", self.record)])
        self._site.store.transact([], [Delete("events/0")])

    @property
    def site(self) -> Site:
        return self._site

    def create(self, name: str, policy: str, fstype: str | None = None) -> object:
        size = SIZE if fstype or policy != "local" else None
        return self.manager.create(name, Given(policy=policy, fstype=fstype, mb_size=size))

    def point(self, name: str) -> Path:
        return self.manager.config.mount_root / name

    def check_mounts(self, name: str) -> None:
        """A floor is fair only if what is mounted by hand is mounted as ours is."""
        ours, hand = mounts.at(self.point(name)), mounts.at(self.hand.point(name))
        assert ours and hand, f"{name} is not mounted twice"
        for what in ("fstype", "options", "super_options"):
            assert getattr(ours, what) == getattr(hand, what), f"{name}: {what} differ"


class EtcdPlace:
    """A long-lived manager whose records are in etcd, of one member on this host."""

    def __init__(self, folder: Path) -> None:
        self._cluster = Cluster(folder / "etcd")
        self.prefix = "/bench"
        self.site = Site(
            folder / "root", lease=LEASE, trash=NO_TRASH, store=self._cluster.store(self.prefix)
        )
        self.filled = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._cluster)
            stack.enter_context(self.site)
            self.manager: VolumeManager = self.site.manager()
            self.port = self._cluster.members[0].port
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class ReflinkDisk:
    """An xfs in a file, and a place on it."""

    def __init__(self, folder: Path) -> None:
        self._image, self._point = folder / "disk", folder / "point"
        self._stack = ExitStack()

    def __enter__(self) -> Place:
        self._point.mkdir(parents=True)
        with open(self._image, "wb") as file:
            file.truncate(DISK * 2**20)
        subprocess.run(["mkfs.xfs", "-q", "-K", "-m", "reflink=1", self._image], check=True)
        subprocess.run(["mount", "-o", "loop", self._image, self._point], check=True)
        with ExitStack() as stack:
            # Lazily: a process with a mount namespace of its own may still show it.
            stack.callback(subprocess.run, ["umount", "--lazy", self._point], check=True)
            place = stack.enter_context(Place(self._point / "root"))
            self._stack = stack.pop_all()
        return place

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def nothing() -> None:
    """The floor, or our part, of a step that only one of the two needs."""
