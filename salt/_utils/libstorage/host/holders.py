"""Who keeps a mount or a device busy."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil


def of(mount_id: int, path: Path) -> list[str]:
    """
    The processes that use a mount, as texts such as ``postgres (4711)``.

    mount_id, path
        The mount's id in /proc/self/mountinfo and where it is.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if _has_open(process.pid, mount_id) or _works_in(process.pid, path):
                found.append(f"{process.name()} ({process.pid})")
    return found


def of_device(device: str) -> list[str]:
    """
    The processes that have a block device open, or its filesystem mounted, as texts.

    A mount is looked for in every mount namespace; of each one process is named.
    """
    rdev = os.stat(device).st_rdev
    number = f"{os.major(rdev)}:{os.minor(rdev)}"
    found, seen = [], set[str]()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            pid = process.pid
            space = os.readlink(f"/proc/{pid}/ns/mnt")
            mounts = space not in seen and _mounts(pid, number)
            seen.add(space)
            if mounts or _has_device_open(pid, device):
                found.append(f"{process.name()} ({pid})")
    return found


def asking(*words: str) -> Iterator[int]:
    """The processes that were started with all of these words."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if set(words).issubset(process.cmdline()):
                yield process.pid


def _mounts(pid: int, number: str) -> bool:
    """Is something of the device mounted in the process's mount namespace?"""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return any(line.split(" ", 3)[2] == number for line in table)


def _has_device_open(pid: int, device: str) -> bool:
    folder = f"/proc/{pid}/fd"
    for fd in os.listdir(folder):
        with suppress(OSError):
            if os.readlink(f"{folder}/{fd}") == device:
                return True
    return False


def _has_open(pid: int, mount_id: int) -> bool:
    """Open files tell their mount by id: a path would not tell a bind mount from its source."""
    folder = f"/proc/{pid}/fdinfo"
    for fd in os.listdir(folder):
        with suppress(OSError), open(f"{folder}/{fd}", encoding="utf-8") as file:
            if any(line.split() == ["mnt_id:", str(mount_id)] for line in file):
                return True
    return False


def _works_in(pid: int, path: Path) -> bool:
    used = []
    for link in ("cwd", "root", "exe"):
        with suppress(OSError):
            used.append(os.readlink(f"/proc/{pid}/{link}"))
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        used += [line.split(maxsplit=5)[5].rstrip("\n") for line in maps if " /" in line]
    return any(Path(name).is_relative_to(path) for name in used)
