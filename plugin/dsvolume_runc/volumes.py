"""
Which volume of this node a path belongs to.

libstorage keeps a note of each volume that is attached here, ``<run_dir>/attachments/<name>.json``,
written before an engine is told where the volume is. It is looked up by the names in the path, so
that the number of volumes does not matter.
"""

import json
import os
import stat
from typing import Any

from .errors import Refused


class Volume:
    """
    A volume that is attached here.

    device
        The number of its block device; None for a directory, or memory.
    """

    def __init__(self, name: str, mountpoint: str, device: "int | None") -> None:
        self.name = name
        self.mountpoint = mountpoint
        self.device = device

    def shows(self, source: str) -> bool:
        """
        Is the source of a mount this raw volume's own device?

        A device node that lies in a volume is none: anybody may have made it there. Raises Refused
        where the mount point shows another device than the volume's.
        """
        if os.path.realpath(source) != os.path.realpath(self.mountpoint):
            return False
        found = block_device(source)
        if found is not None and found != self.device:
            raise Refused(
                f"volume {self.name} shows the device {told(found)}, which is not its own; "
                f"stop its users and run docker dsvolume doctor --fix"
            )
        return found is not None


def volume_of(source: str, run_dir: str) -> "Volume | None":
    """The volume that a path is, or lies in; None for any other. Raises Refused."""
    for start in dict.fromkeys((os.path.normpath(source), os.path.realpath(source))):
        path = start
        while name := os.path.basename(path):
            note = _note(run_dir, name)
            if note and os.path.realpath(str(note.get("Mountpoint"))) == os.path.realpath(path):
                return Volume(name, note["Mountpoint"], block_device(str(note.get("Device"))))
            path = os.path.dirname(path)
    return None


def _note(run_dir: str, name: str) -> "dict[str, Any] | None":
    """The note of this boot on a volume's attachment."""
    path = os.path.join(run_dir, "attachments", f"{name}.json")
    try:
        with open(path, encoding="utf-8") as file:
            note = json.load(file)
        with open(os.path.join(run_dir, "boot-id"), encoding="utf-8") as file:
            boot = file.read().split()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise Refused(
            f"{path} cannot be read ({exc}), so it cannot be told what the container may do with "
            f"volume {name}; unmount the volume and mount it again, which writes it anew"
        ) from exc
    same = isinstance(note, dict) and boot and note.get("BootId") == boot[0]
    return note if same else None


def block_device(path: str) -> "int | None":
    """The number of the block device at a path; None where there is none."""
    try:
        entry = os.stat(path)
    except OSError:
        return None
    return entry.st_rdev if stat.S_ISBLK(entry.st_mode) else None


def told(device: int) -> str:
    """A device's number as people know it."""
    return f"{os.major(device)}:{os.minor(device)}"
