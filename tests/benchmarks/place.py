"""A temporary root with one long-lived manager, and beside it what the floors need."""

from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.floors import BareStore, Hand
from lab.site import Site
from libstorage.host import mounts
from libstorage.manager import Given, VolumeManager
from libstorage.store.contract import Delete, Put

SIZE = 100  # MB, the size that the figures are meant for
GROWN = 500  # transactions, each of some pages
LEASE = 15  # seconds, as by default: the lab's short one would write all the time


class Place:
    """Where the stories happen. Whatever they leave behind is taken from the host at the end."""

    def __init__(self, root: Path) -> None:
        self._site = Site(root, lease=LEASE)

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
            self.bare.close()
        finally:
            self._site.close()

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


def nothing() -> None:
    """The floor, or our part, of a step that only one of the two needs."""
