"""This node in time: a boot id that changes when what its mounts and memory held is gone."""

import fcntl
import os
import uuid
from pathlib import Path

KERNEL_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_boot_id(run_dir: Path) -> str:
    """The id of this boot of this node; "" where nothing has needed one since the boot."""
    try:
        made, _, kernel = (run_dir / "boot-id").read_text().strip().partition(" ")
    except FileNotFoundError:
        return ""
    return made if kernel == KERNEL_BOOT_ID.read_text().strip() else ""


def boot_id(run_dir: Path) -> str:
    """
    The id of this boot of this node, made now where there is none.

    It is bound to the kernel's own boot id, so that it changes with a reboot of the machine (also
    where ``run_dir`` is on disk) and of a container that is a node (``run_dir`` on its own tmpfs).
    """
    if made := read_boot_id(run_dir):
        return made
    run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open(run_dir / ".boot-id.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made := read_boot_id(run_dir):
            return made
        made = str(uuid.uuid4())
        new = run_dir / ".boot-id.new"
        new.write_text(f"{made} {KERNEL_BOOT_ID.read_text().strip()}\n")
        os.replace(new, run_dir / "boot-id")
        return made
