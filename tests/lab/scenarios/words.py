"""Kinds of volumes, and what is written into them before a fault and read after it."""

import os
from pathlib import Path

from libstorage.manager import VolumeManager

MARKER = "what was written before the fault\n"
CHANGED = "what was written after a snapshot\n"

KINDS = {
    "directory": {"policy": "local"},
    "ext4": {"policy": "local", "fstype": "ext4", "mb_size": 8},
    "ext2": {"policy": "local", "fstype": "ext2", "mb_size": 8},
    "ext3": {"policy": "local", "fstype": "ext3", "mb_size": 8},
    "xfs": {"policy": "local", "fstype": "xfs", "mb_size": 32},
    "btrfs": {"policy": "local", "fstype": "btrfs", "mb_size": 32},
    "raw": {"policy": "local", "fstype": "raw", "mb_size": 8},
    "ram": {"policy": "ram", "mb_size": 8},
    "secure": {"policy": "secure", "mb_size": 8},
}
EDITED = ("directory", "ext4", "ram")
"""An edit knows of a volume only where its data are."""
TRASHED = ("directory", "ext4", "raw", "ram", "secure")
GROWN = {"ext4": 24, "xfs": 64, "btrfs": 256, "raw": 16}
FAST = {"read_bw": 500_000_000, "write_bw": 400_000_000, "read_iops": 0, "write_iops": 0}
SLOWER = {"write_bw": 300_000_000}
OTHER = {"write_bw": 200_000_000}
V = "v"


def write_marker(
    manager: VolumeManager, id: str = "marker", text: str = MARKER, name: str = V
) -> None:
    """Write something through a mount, and unmount; secure volumes keep nothing."""
    point = Path(manager.mount(name, id=id)["Mountpoint"])
    if point.is_block_device():
        with open(point, "r+b") as device:
            device.write(text.encode())
            os.fsync(device.fileno())
    else:
        (point / "marker").write_text(text)
    manager.unmount(name, id=id)


def read_marker(manager: VolumeManager, id: str = "reader", name: str = V) -> str:
    """What was written; the volume can be written still."""
    point = Path(manager.mount(name, id=id)["Mountpoint"])
    if point.is_block_device():
        with open(point, "rb") as device:
            text = device.read(len(MARKER)).decode()
    else:
        text = (point / "marker").read_text()
        (point / "another").write_text("x")
    manager.unmount(name, id=id)
    return text


def assert_intact(manager: VolumeManager, name: str = V) -> None:
    """The volume is there with what was written before the fault, and can be written."""
    [record] = manager.info(name)
    was = record["Containers"]
    if record["Policy"] != "secure":
        assert read_marker(manager, name=name) == MARKER
    elif not was:
        manager.mount(name, id="reader")
        manager.unmount(name, id="reader")
    assert manager.info(name)[0]["Containers"] == was
