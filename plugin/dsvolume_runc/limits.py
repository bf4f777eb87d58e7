"""
The limits that a device has on this host.

With cgroup v1 libstorage writes a volume's limits to the root cgroup before an engine is told where
the volume is, and keeps them up to date there. So the kernel itself knows what a container that is
about to be made may have. (With cgroup v2 limits are on the parent of all containers, and nothing
is left to be done.)
"""

import re

from .errors import Refused

FILES = {
    "throttleReadBpsDevice": "blkio.throttle.read_bps_device",
    "throttleWriteBpsDevice": "blkio.throttle.write_bps_device",
    "throttleReadIOPSDevice": "blkio.throttle.read_iops_device",
    "throttleWriteIOPSDevice": "blkio.throttle.write_iops_device",
}
"""Names in ``config.json``, and where the kernel has them."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


def in_effect(device: str) -> "dict[str, int]":
    """The rates of a device (``MAJOR:MINOR``), by their names in ``config.json``."""
    root = _hierarchy()
    if not root:
        return {}
    found = {}
    for name, file in FILES.items():
        rate = _rate(f"{root}/{file}", device)
        if rate:
            found[name] = rate
    return found


def _hierarchy() -> str:
    """Where cgroup v1's blkio controller is mounted; "" where it is not."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.rstrip("\n").partition(" - ")
            fstype, _, options = right.split(" ")[:3]
            if fstype == "cgroup" and "blkio" in options.split(","):
                path = left.split(" ")[4]
                return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), path)
    return ""


def _rate(file: str, device: str) -> int:
    try:
        with open(file, encoding="ascii") as lines:
            for line in lines:
                name, _, rate = line.partition(" ")
                if name == device:
                    return int(rate)
    except FileNotFoundError:
        # This kernel limits nothing, and libstorage says so.
        return 0
    except (OSError, ValueError) as exc:
        raise Refused(f"the limits in {file} cannot be read ({exc})") from exc
    return 0
