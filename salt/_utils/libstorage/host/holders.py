"""Who keeps a mount busy."""

import os
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
