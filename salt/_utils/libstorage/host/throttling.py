"""
Limits on the I/O of a block device, for the processes of a cgroup.

Two kinds of hierarchy, of which a host has one:

cgroup v2
    ``io.max``. A limit counts for a cgroup and everything below it together, buffered writes
    included. The root has none.
cgroup v1
    ``blkio.throttle.*``. A limit counts for the processes of the very cgroup; what the kernel
    writes back for them later counts for the root, which may be limited too.

The kernel counts by the tenth of a second, and bytes exactly. Of operations it rounds down to ten
in a second (25 are 20; Linux 6.1); and it lets a tenth of a second's worth through ahead.

A limit belongs to a device's number and stays when the device is let go: who is given the device
next inherits it, unless it is lifted. Sources: the kernel's admin-guide/cgroup-v2 (IO) and
admin-guide/cgroup-v1/blkio-controller.
"""

import errno
import os
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar, Protocol

from ..errors import BackendError
from . import mounts

ROOT = "/"
MAX_IOPS = 2**32 - 1
MAX_BW = 2**63 - 1
WEIGHTS = (10, 1000)
"""The least and the greatest weight, as container engines know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Operations and bytes per second, and a weight; 0 is none."""

    read_iops: int = 0
    read_bw: int = 0
    write_iops: int = 0
    write_bw: int = 0
    weight: int = 0


NONE = Limits()


class Hierarchy(Protocol):
    """
    The host's cgroups, as far as block I/O goes.

    scope
        What a limit holds for: ``node``, all who use the device on this node together, or
        ``container``, each cgroup for itself.
    """

    scope: str

    def base(self) -> str:
        """The cgroup that limits are always written to, whoever uses the device."""

    def exists(self, cgroup: str) -> bool:
        """Is there a cgroup of this path?"""

    def settle(self, cgroups: Sequence[str], device: str, limits: Limits) -> None:
        """Get cgroups that are at work on a device ready for other limits; ``limit`` follows."""

    def limit(self, cgroup: str, device: str, limits: Limits) -> None:
        """
        Let the cgroup's I/O on a device have these limits and no others.

        A cgroup or device that is gone needs none. A weight is left out where it has no effect.
        """

    def limits(self, cgroup: str, device: str) -> Limits:
        """What is in effect there now."""


def number(device: str) -> str:
    """``MAJOR:MINOR`` of a block device; "" where there is no such device."""
    try:
        entry = os.stat(device)
    except OSError:
        return ""
    if not stat.S_ISBLK(entry.st_mode):
        return ""
    return f"{os.major(entry.st_rdev)}:{os.minor(entry.st_rdev)}"


@cache
def hierarchy(parent: str = "") -> Hierarchy | None:
    """
    The host's hierarchy; None where its kernel limits no block I/O.

    parent
        The cgroup below which containers run; only cgroup v2 uses it.
    """
    for mount in mounts.table():
        if mount.fstype == "cgroup" and "blkio" in mount.super_options:
            return (
                Version1(mount.path) if (mount.path / Version1.FILES["read_bw"]).exists() else None
            )
    for mount in mounts.table():
        if mount.fstype == "cgroup2" and "io" in _read(mount.path / "cgroup.controllers").split():
            return Version2(mount.path, parent)
    return None


class Version1:
    """The hierarchy of cgroup v1's blkio controller."""

    scope = "container"
    FILES: ClassVar[dict[str, str]] = {
        "read_iops": "blkio.throttle.read_iops_device",
        "read_bw": "blkio.throttle.read_bps_device",
        "write_iops": "blkio.throttle.write_iops_device",
        "write_bw": "blkio.throttle.write_bps_device",
    }
    WEIGHT = "blkio.bfq.weight_device"

    def __init__(self, root: Path) -> None:
        self._root = root

    def base(self) -> str:
        return ROOT

    def exists(self, cgroup: str) -> bool:
        return _below(self._root, cgroup).is_dir()

    def settle(self, cgroups: Sequence[str], device: str, limits: Limits) -> None:
        return None

    def limit(self, cgroup: str, device: str, limits: Limits) -> None:
        path, id = _below(self._root, cgroup), number(device)
        now = self._now(path, id)
        for name, file in self.FILES.items():
            if getattr(limits, name) != getattr(now, name):
                _write(path / file, f"{id} {getattr(limits, name)}")
        if limits.weight != now.weight and (path / self.WEIGHT).exists() and _by_bfq(id):
            _write(path / self.WEIGHT, f"{id} {limits.weight or 'default'}")

    def limits(self, cgroup: str, device: str) -> Limits:
        return self._now(_below(self._root, cgroup), number(device))

    def _now(self, path: Path, id: str) -> Limits:
        rates = {name: _value(path / file, id) for name, file in self.FILES.items()}
        return Limits(**rates, weight=_value(path / self.WEIGHT, id) if _by_bfq(id) else 0)


class Version2:
    """The one hierarchy of cgroup v2."""

    scope = "node"
    KEYS: ClassVar[dict[str, str]] = {
        "read_iops": "riops",
        "read_bw": "rbps",
        "write_iops": "wiops",
        "write_bw": "wbps",
    }
    PARENTS = ("/system.slice", "/docker")
    """Where engines put their containers: with systemd, and without it."""
    HIGH: ClassVar[dict[str, int]] = {
        "read_iops": MAX_IOPS - 1,
        "read_bw": MAX_BW,
        "write_iops": MAX_IOPS - 1,
        "write_bw": MAX_BW,
    }
    """Limits that the kernel counts by, and that hold nobody up."""
    FORGETS = 0.2
    """Seconds after which it has counted anew: it counts by the tenth of one."""

    def __init__(self, root: Path, parent: str = "") -> None:
        self._root = root
        self._parent = parent

    def base(self) -> str:
        if self._parent:
            return self._parent
        return next((p for p in self.PARENTS if self.exists(p)), self.PARENTS[-1])

    def exists(self, cgroup: str) -> bool:
        return _below(self._root, cgroup).is_dir()

    def settle(self, cgroups: Sequence[str], device: str, limits: Limits) -> None:
        # Linux 6.1 to 6.6 take what waits at the moment of a change into the new limit's account,
        # and a debt there for a huge credit: what is then let through is a debt of minutes, in
        # which all I/O stands still. Below a limit that holds nobody up, the account is cleared.
        if not (6, 1) <= _release() < (6, 7):
            return
        id, settling = number(device), False
        for cgroup in cgroups:
            path = _below(self._root, cgroup)
            now = self._now(path, id)
            wanted = {name: getattr(limits, name) for name in self.KEYS}
            differ = [name for name, rate in wanted.items() if rate not in (0, getattr(now, name))]
            if differ and _line(path / "io.stat", id):
                rates = (f"{self.KEYS[name]}={self.HIGH[name]}" for name in differ)
                _write(path / "io.max", f"{id} {' '.join(rates)}")
                settling = True
        if settling:
            time.sleep(self.FORGETS)

    def limit(self, cgroup: str, device: str, limits: Limits) -> None:
        path, id = _below(self._root, cgroup), number(device)
        if limits != NONE:
            self._prepare(cgroup)
        now = self._now(path, id)
        if replace(limits, weight=0) != replace(now, weight=0):
            rates = (f"{key}={getattr(limits, name) or 'max'}" for name, key in self.KEYS.items())
            _write(path / "io.max", f"{id} {' '.join(rates)}")
        if limits.weight != now.weight:
            self._weigh(path, id, limits.weight)

    def _prepare(self, cgroup: str) -> None:
        """Make the base where no container has made it yet, and let its parents hand io down."""
        path = _below(self._root, cgroup)
        try:
            if cgroup == self.base():
                path.mkdir(parents=True, exist_ok=True)
            for parent in reversed(path.parents):
                inside = parent == self._root or self._root in parent.parents
                if inside and "io" not in _read(parent / "cgroup.subtree_control").split():
                    _write(parent / "cgroup.subtree_control", "+io")
        except OSError as exc:
            raise BackendError(f"The cgroup {cgroup} cannot be made: {exc.strerror}") from exc

    def _weigh(self, path: Path, id: str, weight: int) -> None:
        if _by_bfq(id) and (path / "io.bfq.weight").exists():
            _write(path / "io.bfq.weight", f"{id} {weight or 'default'}")
        elif self._by_cost(id) and (path / "io.weight").exists():
            _write(path / "io.weight", f"{id} {_cost_weight(weight) if weight else 'default'}")

    def limits(self, cgroup: str, device: str) -> Limits:
        return self._now(_below(self._root, cgroup), number(device))

    def _now(self, path: Path, id: str) -> Limits:
        found = _line(path / "io.max", id)
        told = dict(part.split("=", 1) for part in found.split() if "=" in part)
        rates = {name: _amount(told.get(key, "max")) for name, key in self.KEYS.items()}
        return Limits(**rates, weight=self._weight(path, id))

    def _weight(self, path: Path, id: str) -> int:
        if _by_bfq(id):
            return _value(path / "io.bfq.weight", id)
        if self._by_cost(id):
            least, most = WEIGHTS
            value = _value(path / "io.weight", id)
            same = (w for w in range(least, most + 1) if _cost_weight(w) == value)
            return next(same, 0)
        return 0

    def _by_cost(self, id: str) -> bool:
        """Does io.cost look after the device?"""
        return "enable=1" in _line(self._root / "io.cost.qos", id).split()


@cache
def _release() -> tuple[int, int]:
    """The kernel's version, as far as it matters."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _cost_weight(weight: int) -> int:
    """10 to 1000 as io.weight's 1 to 10000 (the OCI runtimes' conversion for cgroup v2)."""
    least, most = WEIGHTS
    return 1 + (weight - least) * 9999 // (most - least)


def _by_bfq(id: str) -> bool:
    """Does the BFQ scheduler order the device's I/O?"""
    return bool(id) and "[bfq]" in _read(Path(f"/sys/dev/block/{id}/queue/scheduler"))


def _below(root: Path, cgroup: str) -> Path:
    return root / cgroup.strip("/")


def _read(file: Path) -> str:
    """A file's text; "" where the cgroup, or the file in it, is not there (any more)."""
    try:
        return file.read_text()
    except OSError:
        return ""


def _line(file: Path, id: str) -> str:
    """What a file of lines ``MAJOR:MINOR ...`` says of a device."""
    for line in _read(file).splitlines():
        name, _, rest = line.partition(" ")
        if name == id:
            return rest
    return ""


def _value(file: Path, id: str) -> int:
    return _amount(_line(file, id) or "0")


def _amount(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _write(file: Path, text: str) -> None:
    """
    Write into a file of a cgroup.

    Gone is as good: a container's cgroup ends with it, and a device's limits with the device.
    """
    gone = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
    try:
        with open(file, "w") as handle:
            handle.write(text)
    except OSError as exc:
        if exc.errno not in gone:
            raise BackendError(f"{file} does not take {text!r}: {exc.strerror}") from exc


def check(cgroup: str) -> bool:
    """Can this be the path of a cgroup?"""
    parts = cgroup.split("/")
    return cgroup.startswith("/") and cgroup.isprintable() and not {".", ".."} & set(parts)
