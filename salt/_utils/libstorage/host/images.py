"""
Images, copied: by sharing blocks where the filesystem can (xfs, btrfs), else without their holes.

Nothing here is brought to the disk: whoever keeps a copy syncs it, after a freeze is over.
"""

import errno
import fcntl
import os
import re
import tempfile
from pathlib import Path

from ..errors import BackendError, CommandFailed, NoSpace
from . import files
from .commands import Work

FICLONE = 0x40049409

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
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise BackendError(f"{target} exists already and is left alone; run doctor") from None
    except OSError as exc:
        raise files.explain(exc, f"The image {target} cannot be made") from exc
    try:
        # It shares blocks where it can. A child can be ended, whatever it waits for.
        work.run("cp", *_HOW, str(source), str(target), limit=limit)
    except BaseException as exc:
        files.remove(target)
        if isinstance(exc, CommandFailed) and _FULL.search(exc.words):
            raise NoSpace(
                f"{target.parent} has no room for a copy of {source.name}; free space and try again"
            ) from exc
        raise


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
