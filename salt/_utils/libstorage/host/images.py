"""
Images, copied: by sharing blocks where the filesystem can (xfs, btrfs), else without their holes.

What is done in a moment is done here: sharing the blocks of a file of few pieces, copying one with
little data. A program (cp) takes longer to start. The rest is cp's, a child that can be ended.

Nothing here is brought to the disk: whoever keeps a copy syncs it, after a freeze is over.
"""

import errno
import fcntl
import os
import re
import stat
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

from ..errors import BackendError, CommandFailed, NoSpace
from . import files
from .commands import Work

FICLONE = 0x40049409
_FIEMAP = 0xC020660B
_COUNT_EXTENTS = struct.pack("=QQIIII", 0, 2**64 - 1, 0, 0, 0, 0)

FEW = 5000
"""Pieces of a file whose blocks are shared here: one takes the kernel some ten microseconds."""

SMALL = 16 * 2**20
"""Bytes that are copied here: some ten milliseconds."""

_BLOCK = 2**16
_ZEROS = bytes(_BLOCK)

RATE = 100 * 2**20
"""Bytes per second that a copy without shared blocks surely reaches."""

_HOW = ("--reflink=auto", "--sparse=always")
_FULL = re.compile("No space left|Disk quota exceeded")
_can: dict[int, bool] = {}


def copy(work: Work, source: Path, target: Path, limit: float) -> None:
    """
    Copy an image to a new file; holes stay holes.

    limit
        Seconds that it may take.

    Raises BackendError where the target exists; NoSpace, CommandFailed or CommandTimeout after
    the target was removed again.
    """
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise BackendError(f"{target} exists already and is left alone; run doctor") from None
    except OSError as exc:
        raise files.explain(exc, f"The image {target} cannot be made") from exc
    try:
        try:
            done = min(limit, work.left()) > 0 and copy_here(source, fd)
        finally:
            os.close(fd)
        if not done:
            # It shares blocks where it can. A child can be ended, whatever it waits for.
            work.run("cp", *_HOW, str(source), str(target), limit=limit)
    except BaseException as exc:
        files.remove(target)
        if isinstance(exc, CommandFailed) and _FULL.search(exc.words):
            raise NoSpace(
                f"{target.parent} has no room for a copy of {source.name}; free space and try again"
            ) from exc
        raise


def copy_here(source: Path, target: int) -> bool:
    """
    Copy an image into an empty file, if that is done in a moment.

    Returns False where it would not be, or does not go well: cp does it, or says what is wrong.
    """
    try:
        fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return False
        if _share(fd, target):
            return True
        if found.st_blocks * 512 > SMALL:
            return False
        _copy_data(fd, target, found.st_size)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _share(source: int, target: int) -> bool:
    """Let two files share blocks; False where they cannot, or that may take long."""
    with suppress(OSError):
        counted = fcntl.ioctl(source, _FIEMAP, _COUNT_EXTENTS)
        if struct.unpack("=QQIIII", counted)[3] <= FEW:
            fcntl.ioctl(target, FICLONE, source)
            return True
    return False


def _copy_data(source: int, target: int, size: int) -> None:
    """Copy all but holes and zeros."""
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            break  # nothing but a hole up to the end
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end:
            block = os.pread(source, min(_BLOCK - at % _BLOCK, end - at), at)
            if not block:
                raise OSError(errno.EIO, "the image became shorter")
            if block != _ZEROS[: len(block)]:
                view = memoryview(block)
                done = 0
                while done < len(block):
                    done += os.pwrite(target, view[done:], at + done)
            at += len(block)
    os.ftruncate(target, size)


def can_reflink(folder: Path) -> bool:
    """Can two files in this directory share blocks? Tried once for each filesystem."""
    device = folder.stat().st_dev
    if device not in _can:
        _can[device] = _try_reflink(folder)
    return _can[device]


def _try_reflink(folder: Path) -> bool:
    try:
        # Files without a name: nothing is left, whenever this is killed.
        with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as two:
            one.write(b"x")
            one.flush()
            fcntl.ioctl(two.fileno(), FICLONE, one.fileno())
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise files.explain(exc, f"Nothing can be written in {folder}") from exc
        return False
    return True


def allocated(path: Path) -> int:
    """Bytes that an image takes of its filesystem, shared ones included."""
    return path.stat().st_blocks * 512


def copy_seconds(path: Path) -> float:
    """Seconds that a copy takes at most where no blocks can be shared."""
    return allocated(path) / RATE
