"""
RBD images as block devices of the kernel's module ``rbd``.

::

    <run_dir>/krbd/<Id>           this node maps the image: there before it does, gone after
    /sys/bus/rbd/devices/<N>/     what the kernel has mapped: name, current_snap, client_addr
    /dev/rbd<N>                   its device

Each image has a client of its own in the kernel (``noshare``), so that one can be shut out of Ceph
and the others go on. The kernel hands RBD's exclusive lock over when it is asked to: with the map
option ``exclusive`` no snapshot could be made from elsewhere. Nobody waits for udev (``noudev``).
"""

import errno
import time
from pathlib import Path

from ..errors import CommandFailed
from ..host import devices, modules
from ..host.commands import Work, need
from .rbd_connection import Place
from .rbd_marks import Marks

DEVICES = Path("/sys/bus/rbd/devices")
MODULE = "rbd"
SECONDS = 30.0
"""For mapping and unmapping."""
OPTIONS = "noudev,noshare,mount_timeout=20"
PATIENCE = 3.0
"""Seconds for which somebody may have a device open that is to go: who looks at it, mostly."""


class Krbd:
    """Maps images of one pool on this node."""

    name = "krbd"

    def __init__(self, place: Place, run_dir: Path) -> None:
        self._place = place
        self._marks = Marks(run_dir / "krbd")

    def need(self) -> None:
        need("rbd")
        modules.need(MODULE)

    def find(self, id: str) -> Path | None:
        return self._marks.device(id, mapped()) if self._marks.marked(id) else None

    def begin(self, work: Work, id: str) -> None:
        """Nothing can be done before."""

    def map(self, work: Work, id: str) -> Path:
        if (device := self.find(id)) is not None:
            return device
        self.need()
        self._marks.begin(id)
        try:
            device = Path(self._rbd(work, "map", OPTIONS, f"{self._place}/{id}").strip())
            self._marks.note(id, device)
        except BaseException:
            self.unmap(work, id)
            raise
        return device

    def _rbd(self, work: Work, verb: str, options: str, what: str) -> str:
        place = self._place
        who = ("--conf", str(place.conf), "--id", place.client)
        return work.run("rbd", *who, "device", verb, "--options", options, what, limit=SECONDS)

    def unmap(self, work: Work, id: str) -> None:
        until = time.monotonic() + PATIENCE
        while (device := self.find(id)) is not None:
            try:
                self._rbd(work, "unmap", "noudev", str(device))
            except CommandFailed as exc:
                if self.find(id) is None:
                    continue
                if exc.status != errno.EBUSY:
                    raise
                if time.monotonic() > until:
                    raise devices.busy(device) from exc
                time.sleep(0.05)
        self._marks.end(id)

    def grow(self, work: Work, id: str, size: int) -> None:
        if (device := self.find(id)) is not None:
            # The kernel is told by Ceph, and need not be waited for.
            devices.tell(_entry(device) / "refresh", "1")
            devices.wait_for_size(device, size)

    def client(self, id: str) -> str:
        device = self.find(id)
        return "" if device is None else (_entry(device) / "client_addr").read_text().strip()

    def held(self) -> dict[str, str]:
        return self._marks.held(mapped())

    def lives(self, id: str) -> bool:
        return self.find(id) is not None

    def give_up(self, work: Work, id: str) -> None:
        """It does not die."""


def _entry(device: Path) -> Path:
    return DEVICES / device.name.removeprefix("rbd")


def mapped() -> dict[Path, str]:
    """The images that the kernel has mapped, no snapshots: device -> name."""
    found = {}
    for entry in DEVICES.iterdir() if DEVICES.is_dir() else ():
        try:
            snapshot = (entry / "current_snap").read_text().strip()
            if snapshot == "-":
                found[Path(f"/dev/rbd{entry.name}")] = (entry / "name").read_text().strip()
        except OSError:  # unmapped since the listing
            continue
    return found
