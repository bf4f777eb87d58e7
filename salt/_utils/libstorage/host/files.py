"""Files: written whole or not at all, made sparse, removed, wiped."""

import array
import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import BackendError, NoSpace

_GET_FLAGS = 0x80086601
_SET_FLAGS = 0x40086602
_IMMUTABLE = 0x10
_APPEND_ONLY = 0x20
_WRITERS = 8
_WRITING = 60.0
"""Seconds after which a writer that has not finished was killed."""


def explain(exc: OSError, doing: str) -> BackendError:
    """A typed error for an OSError met while ``doing`` something."""
    where = f" ({exc.filename})" if exc.filename and str(exc.filename) not in doing else ""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{doing}: the disk is full{where}; free space and try again")
    return BackendError(f"{doing}: {exc.strerror or exc}{where}")


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Make a directory and its parents; its mode is set also where it exists."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)
    except OSError as exc:
        raise explain(exc, f"The directory {path} cannot be made") from exc


def make_sparse(path: Path, size: int) -> None:
    """
    Make a new file of ``size`` bytes that takes no space yet.

    Raises BackendError where the file exists: what it holds is nobody's to format over.
    """
    try:
        with open(path, "xb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(size)
    except FileExistsError:
        raise BackendError(f"{path} exists already and is left alone; run doctor") from None
    except OSError as exc:
        path.unlink(missing_ok=True)
        raise explain(exc, f"The image {path} cannot be made") from exc


def sync(path: Path) -> None:
    """Bring a file's, or a directory's, data and names to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as exc:
        raise explain(exc, f"{path} cannot be written to the disk") from exc
    finally:
        os.close(fd)


def unfinished(path: Path) -> "list[Path]":
    """Where write_json prepares a file, one name for each writer; killed ones leave theirs."""
    return list(_slots(path))


def _slots(path: Path) -> Iterator[Path]:
    return (path.with_name(f".{path.name}.{slot}") for slot in range(_WRITERS))


def write_json(path: Path, data: Any, *, durable: bool = True) -> None:
    """
    Write a JSON file whole or not at all.

    durable
        It is on the disk when this returns. Until then a crash of the host leaves what was there
        before; of a name that was not there it may leave a part, which reads as absent.
    """
    # Renamed before it is synced, the name comes to the disk with the data: one write less.
    fresh = not path.exists()
    try:
        new, fd = _prepare(path)
    except OSError as exc:
        raise explain(exc, f"{path} cannot be written") from exc
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(json.dumps(data))
            file.flush()
            if fresh:
                new.replace(path)
            if durable:
                os.fsync(file.fileno())
        if not fresh:
            new.replace(path)
        if durable:
            sync(path.parent)
    except OSError as exc:
        for rest in (new, path) if fresh else (new,):
            with suppress(OSError):
                rest.unlink()
        raise explain(exc, f"{path} cannot be written") from exc


def _prepare(path: Path) -> tuple[Path, int]:
    """A name of this writer's own, opened: two may write one file, and each writes it whole."""
    for new in _slots(path):
        with suppress(FileExistsError):
            return new, os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with suppress(FileNotFoundError):
            if time.time() - new.stat().st_mtime > _WRITING:
                new.unlink()
    raise BackendError(f"{path} is written by too many at once; try again")


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where the file is absent or holds none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def remove(path: Path) -> None:
    """Remove a file; absent is as good."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        raise explain(exc, f"{path} cannot be removed") from exc


@contextmanager
def short(folder: Path) -> Iterator[Path]:
    """A short path of a directory, for the names of sockets in it: theirs end after 107 bytes."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def truncate(path: Path, size: int) -> None:
    """Give a file another size in bytes; what is added is a hole."""
    try:
        os.truncate(path, size)
    except OSError as exc:
        raise explain(exc, f"{path} cannot be resized") from exc


def replace(new: Path, path: Path) -> None:
    """Put a finished file in the place of another, at once."""
    try:
        new.replace(path)
    except OSError as exc:
        raise explain(exc, f"{path} cannot be replaced") from exc


def remove_json(path: Path) -> None:
    """Remove a JSON file, and what killed writers have left of it; absent is as good."""
    remove(path)
    start = f"{path.parent}/.{path.name}."
    for slot in range(_WRITERS):
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(f"{start}{slot}")


def wipe(path: Path) -> None:
    """Overwrite what every file below a directory holds, within its filesystem."""
    device = path.stat().st_dev
    for folder, folders, names in os.walk(path):
        folders[:] = [f for f in folders if os.lstat(os.path.join(folder, f)).st_dev == device]
        for name in names:
            try:
                _overwrite(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise explain(exc, f"{folder}/{name} cannot be wiped") from exc


def _overwrite(path: str) -> None:
    entry = os.lstat(path)
    if not stat.S_ISREG(entry.st_mode):
        return
    # An application may have forbidden itself to write; its secrets go all the same.
    _set_flags(Path(path), off=_IMMUTABLE | _APPEND_ONLY)
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        zeros = bytes(2**20)
        at = 0
        # Holes hold nothing, and filling them could take more memory than there is.
        while at < entry.st_size:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
                end = os.lseek(fd, at, os.SEEK_HOLE)
            except OSError:
                return
            while at < end:
                at += os.pwrite(fd, zeros[: end - at], at)
    finally:
        os.close(fd)


def set_immutable(path: Path, on: bool) -> None:
    """Guard a bare mount point against writes where the filesystem can (others: mode 0 must do)."""
    if on:
        _set_flags(path, on=_IMMUTABLE)
    else:
        _set_flags(path, off=_IMMUTABLE)


def _set_flags(path: Path, *, on: int = 0, off: int = 0) -> None:
    """Set and clear a file's attribute flags (chattr), where its filesystem has them."""
    flags = array.array("l", [0])
    with suppress(OSError):
        # A device node bound here would get the request itself: only files and directories.
        if not (path.is_dir() or path.is_file()):
            return
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            fcntl.ioctl(fd, _GET_FLAGS, flags, True)
            wanted = flags[0] & ~off | on
            if wanted != flags[0]:
                flags[0] = wanted
                fcntl.ioctl(fd, _SET_FLAGS, flags)
        finally:
            os.close(fd)


def free_space(path: Path) -> tuple[int, int]:
    """Total and available bytes of the filesystem that holds ``path`` (or will hold it)."""
    while not path.exists():
        path = path.parent
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
