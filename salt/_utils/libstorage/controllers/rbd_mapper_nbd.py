"""
RBD images as block devices of the kernel's module ``nbd``, each served by a daemon ``rbd-nbd``.

::

    <run_dir>/rbd-nbd/<Id>    this node maps the image: there before it does, gone after
    /sys/block/nbd<N>/pid     the daemon of a device, whose command line names the image
    /sys/block/nbd<N>/backend the image, of a device that was made by netlink

The daemon holds RBD's exclusive lock and does not hand it over (``--exclusive``): Ceph itself
refuses other writers; snapshots and growth from elsewhere go through it. It outlives whoever
started it, and its service. It follows the size of its image by itself.

Before Ceph 18 a device goes with its daemon. Later ones are made by netlink and stay without one,
so that another daemon could take over: whoever waits for one does until ``rbd-nbd unmap``.

The kernel would let a device go that is mounted, so it is looked at before.
"""

from contextlib import suppress
from pathlib import Path

from ..host import daemons, devices, modules, processes
from ..host.commands import Work, need
from .rbd_connection import Place
from .rbd_marks import Marks

DAEMON = "rbd-nbd"
MODULE = "nbd"
BLOCK = Path("/sys/block")
PROC = Path("/proc")
OPTIONS = ("--exclusive", "--reattach-timeout", "0")
"""What comes when the daemon has died has an error at once: none takes over."""
SECONDS = 30.0
"""For the daemon's start, and for its end: it writes out what it has."""


class RbdNbd:
    """Maps images of one pool on this node."""

    name = "rbd-nbd"

    def __init__(self, place: Place, run_dir: Path) -> None:
        self._place = place
        self._marks = Marks(run_dir / "rbd-nbd")

    def need(self) -> None:
        need(DAEMON)
        modules.need(MODULE)

    def find(self, id: str) -> Path | None:
        return self._marks.device(id, served()) if self._marks.marked(id) else None

    def begin(self, work: Work, id: str) -> None:
        """Nothing can be done before."""

    def map(self, work: Work, id: str) -> Path:
        if (device := self.find(id)) is not None:
            return device
        self.need()
        self.unmap(work, id)  # what is left of a dead daemon
        self._marks.begin(id)
        words = (*self._words(), *OPTIONS, "--cookie", id, "map", f"{self._place}/{id}")
        try:
            device = Path(daemons.run(work, *words, limit=SECONDS).strip())
            self._marks.note(id, device)
        except BaseException:
            self.unmap(work, id)
            raise
        return device

    def _words(self) -> tuple[str, ...]:
        return (DAEMON, "--conf", str(self._place.conf), "--id", self._place.client)

    def unmap(self, work: Work, id: str) -> None:
        if (device := self.find(id)) is not None:
            devices.need_free(device)
            self._end(work, device)
        elif (device := self._orphan(id)) is not None:
            devices.need_free(device)
            self._disconnect(work, device)
        self._marks.end(id)

    def _end(self, work: Work, device: Path) -> None:
        """The daemon's end, and the device's where that does not go with it."""
        pid = _pid(device)
        if pid and (daemon := processes.of(pid)) is not None:
            processes.finish(daemon, SECONDS)
        if pid and _pid(device) == pid:
            self._disconnect(work, device)

    def _orphan(self, id: str) -> Path | None:
        """The device of an image whose daemon has died."""
        return self._marks.device(id, orphaned()) if self._marks.marked(id) else None

    def _disconnect(self, work: Work, device: Path) -> None:
        """No daemon will come. A device that is mounted is not given to another image before."""
        work.run(*self._words(), "unmap", str(device), limit=SECONDS)

    def grow(self, work: Work, id: str, size: int) -> None:
        if (device := self.find(id)) is not None:
            devices.wait_for_size(device, size)

    def client(self, id: str) -> str:
        return ""

    def held(self) -> dict[str, str]:
        return self._marks.held(served() | orphaned())

    def lives(self, id: str) -> bool:
        return self.find(id) is not None

    def give_up(self, work: Work, id: str) -> None:
        if (device := self._orphan(id)) is not None:
            self._disconnect(work, device)


def _pid(device: Path) -> int | None:
    """The pid of a device's daemon, which may have died."""
    try:
        return int((BLOCK / device.name / "pid").read_text())
    except (OSError, ValueError):
        return None


def orphaned() -> dict[Path, str]:
    """The images whose devices have outlived their daemons on this host: device -> name."""
    living = served()
    found = {}
    for entry in BLOCK.glob("nbd*/backend"):
        device = Path("/dev") / entry.parent.name
        if device not in living:
            with suppress(OSError):  # taken away since the listing
                found[device] = entry.read_text().strip()
    return found


def served() -> dict[Path, str]:
    """The images that living daemons serve on this host: device -> name."""
    found = {}
    for entry in BLOCK.glob("nbd*/pid"):
        device = Path("/dev") / entry.parent.name
        try:
            # Whoever has ended, reaped or not, has no command line any more.
            words = (PROC / str(_pid(device)) / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue
        if Path(words[0]).name == DAEMON and "map" in words:
            found[device] = words[words.index("map") + 1].rpartition("/")[2]
    return found
