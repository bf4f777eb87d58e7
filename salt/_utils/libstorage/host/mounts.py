"""The mount table, and what is mounted where."""

import os
import re
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import BackendError, CommandFailed, MountBusy
from . import files, holders
from .commands import Work

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """
    A line of the mount table.

    root
        What of its filesystem is mounted: a directory of a bind mount, the node of a device.
    source
        The device or name that was given to mount.
    """

    id: int
    major: int
    minor: int
    root: str
    path: Path
    options: frozenset[str]
    fstype: str
    source: str
    super_options: frozenset[str]


def table(pid: str = "self") -> list[Mount]:
    """The mount table of a process's mount namespace (man 5 proc, mountinfo)."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [_parse(line) for line in file]


def _parse(line: str) -> Mount:
    left, _, right = line.rstrip("\n").partition(" - ")
    id_, _, device, root, path, options = left.split(" ")[:6]
    fstype, source, super_options = right.split(" ")[:3]
    major, _, minor = device.partition(":")
    return Mount(
        id=int(id_),
        major=int(major),
        minor=int(minor),
        root=_plain(root),
        path=Path(_plain(path)),
        options=frozenset(options.split(",")),
        fstype=fstype,
        source=_plain(source),
        super_options=frozenset(super_options.split(",")),
    )


def _plain(text: str) -> str:
    return text if "\\" not in text else _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def at(path: Path) -> Mount | None:
    """What is mounted at exactly this path (the uppermost one)."""
    text, found = str(path), ""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if _plain(line.split(" ", 5)[4]) == text:
                found = line
    return _parse(found) if found else None


def in_host_namespace() -> bool:
    """
    Does this process see the mounts that PID 1 sees?

    Mount ids are unique over all namespaces, so one shared id proves it; /proc/1/ns may be closed
    even to root.
    """
    ours = {mount.id for mount in table()}
    return any(mount.id in ours for mount in table("1"))


def mount(
    work: Work,
    source: str,
    path: Path,
    fstype: str,
    options: str,
    *,
    holding: tuple[int, ...] = (),
) -> None:
    """
    Mount a filesystem at a path that is there.

    holding
        Open files that the command has as well, so that they outlive us for as long as it does.
    """
    argv = ("mount", "-n", "-t", fstype, "-o", options, source, str(path))
    work.run(*argv, holding=holding)


def bind(work: Work, source: Path, path: Path, options: str = "") -> None:
    """Show a directory, or a device node, at another path."""
    work.run("mount", "-n", "-o", f"bind,{options}" if options else "bind", str(source), str(path))


def unmount(work: Work, path: Path, patience: float = 1.0, *, lazy: bool = False) -> str:
    """
    Unmount all that is mounted at this path; nothing there is as good.

    patience
        Seconds for which a busy filesystem is tried again.
    lazy
        Then take it from the path all the same: who holds it keeps what he has open.

    Returns who holds what was taken from the path all the same, "" mostly. Raises MountBusy,
    naming him.
    """
    held = ""
    until = time.monotonic() + patience
    while (mounted := at(path)) is not None:
        try:
            work.run("umount", "-n", str(path))
        except CommandFailed as exc:
            if at(path) is None:
                return held
            if "busy" not in exc.words:
                raise
            if time.monotonic() > until:
                held = _held(path, mounted)
                if not lazy:
                    raise MountBusy(
                        f"{path} is held by {held}; end that and unmount again"
                    ) from exc
                work.run("umount", "-n", "--lazy", str(path))
                continue
            time.sleep(0.1)
    return held


def _held(path: Path, mounted: Mount) -> str:
    """Who keeps a mount busy."""
    who = holders.of(mounted.id, path)
    inside = [str(other.path) for other in table() if path in other.path.parents]
    return ", ".join([*who[:5], *(f"the mount {other}" for other in inside)]) or "the kernel"


def make_point(path: Path, *, node: bool = False) -> None:
    """
    Make the bare directory that a volume is mounted on (``node``: the file, for a device node).

    It is mode 0 and immutable where the filesystem supports that, so that nothing is ever written
    below an unmounted volume.
    """
    files.make_directory(path.parent)
    if mounted := at(path):
        raise BackendError(f"{path} already shows {mounted.source}; run doctor fix=True")
    if not _is_bare(path, node):
        if os.path.lexists(path):
            remove_point(path)
        if os.path.lexists(path):
            raise BackendError(f"Something is in the way at the mount point {path}; move it away")
        try:
            if node:
                path.touch(mode=0, exist_ok=False)
            else:
                path.mkdir(mode=0)
        except OSError as exc:
            raise files.explain(exc, f"The mount point {path} cannot be made") from exc
    files.set_immutable(path, True)


def _is_bare(path: Path, node: bool) -> bool:
    """Is it what make_point makes: an empty directory or, for a device node, a closed file?"""
    try:
        entry = path.lstat()
        if stat.S_ISDIR(entry.st_mode):
            return not node and not any(path.iterdir())
    except OSError:
        return False
    return node and entry.st_mode == stat.S_IFREG and not entry.st_size


def remove_point(path: Path) -> None:
    """Remove a bare mount point; one that is mounted, or is or holds anything else, stays."""
    if at(path) is not None:
        return
    with suppress(OSError):
        if _is_bare(path, node=False):
            files.set_immutable(path, False)
            path.rmdir()
        elif _is_bare(path, node=True):
            files.set_immutable(path, False)
            path.unlink()


def remove_tree(path: Path) -> None:
    """
    Remove a directory with all that it holds; absent is as good.

    Raises BackendError where anything is mounted at it or below it. The mount table is asked: a
    bind mount from the same filesystem cannot be told by its device number.
    """
    if not os.path.lexists(path):
        return
    inside = [mount.path for mount in table() if mount.path.is_relative_to(path)]
    if inside:
        raise BackendError(f"{inside[-1]} is still mounted; unmount it before {path} is removed")
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise files.explain(exc, f"{path} cannot be removed") from exc
