"""
Filesystems: how small they may be, and how each is made, checked and mounted.

Smallest sizes were measured with Debian 12's and 13's tools: ext3 and ext4 need 2 MB for a
journal; mkfs.xfs wants 300 MB, or 16 with --unsupported; mkfs.btrfs 109 MB, or 16 with --mixed.
"""

import errno
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from ..errors import BackendError, CommandFailed, Damaged, InvalidInput
from ..records import MB
from .commands import Work, need


@dataclass(frozen=True, slots=True)
class Kind:
    """
    What one filesystem needs.

    smallest
        MB below which it cannot be made.
    small, small_flags
        Below ``small`` MB, mkfs needs these flags.
    read_only
        Mount options that leave the device as it is, also where a journal waits for replay.
    check, repair
        The commands that check it and mend what is safe, and that a human repairs it with.
    """

    smallest: int
    mkfs: tuple[str, ...]
    small: int = 0
    small_flags: tuple[str, ...] = ()
    read_only: str = "ro"
    check: tuple[str, ...] = ()
    repair: str = ""


_LOOKS = 9
_SIGNATURES = MB
"""Bytes at the beginning in which the signatures of filesystems are."""

_EXT = ("-q", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")
_CHECK, _REPAIR = ("e2fsck", "-p"), "e2fsck -f"
# Below 32 MB an xfs has a single allocation group, which xfs_repair does not trust by itself.
_FORCE = ("-o", "force_geometry")

KINDS = {
    "ext2": Kind(1, ("mkfs.ext2", *_EXT), check=_CHECK, repair=_REPAIR),
    "ext3": Kind(2, ("mkfs.ext3", *_EXT), read_only="ro,noload", check=_CHECK, repair=_REPAIR),
    "ext4": Kind(2, ("mkfs.ext4", *_EXT), read_only="ro,noload", check=_CHECK, repair=_REPAIR),
    "xfs": Kind(
        16,
        ("mkfs.xfs", "-q", "-K"),
        small=300,
        small_flags=("--unsupported",),
        read_only="ro,norecovery,nouuid",
        check=("xfs_repair", "-n", *_FORCE),
        repair=f"xfs_repair {' '.join(_FORCE)}",
    ),
    "btrfs": Kind(
        16,
        ("mkfs.btrfs", "-q", "-K"),
        small=110,
        small_flags=("--mixed",),
        read_only="ro,rescue=nologreplay",
        check=("btrfs", "check", "--readonly"),
        repair="btrfs check --repair",
    ),
    "raw": Kind(1, ()),
}


def check_size(fstype: str, mb_size: int) -> None:
    """Raise InvalidInput where a filesystem cannot be as small as ``mb_size`` MB."""
    smallest = KINDS[fstype].smallest
    if mb_size < smallest:
        raise InvalidInput(f"{fstype} needs at least {smallest} MB, asked {mb_size}")


def need_tools(fstype: str) -> None:
    """Raise ToolMissing unless the commands for this filesystem are on the host."""
    kind = KINDS[fstype]
    for tool in (*kind.mkfs[:1], *kind.check[:1]):
        need(tool)


def _run(work: Work, *argv: str, fine: tuple[int, ...] = (0,)) -> str:
    """
    Run a filesystem's tool, for as long as the work may take.

    btrfs-progs look at every loop device of the host, whether it is theirs, and fail where one is
    freed at that moment: they are started again.
    """
    for _ in range(_LOOKS):
        try:
            return work.run(*argv, limit=work.left(), fine=fine)
        except CommandFailed as exc:
            if "check mount status" not in exc.words:
                raise
            time.sleep(0.02)
    return work.run(*argv, limit=work.left(), fine=fine)


def make(work: Work, path: Path, fstype: str, mb_size: int) -> None:
    """
    Make a filesystem on a device or image that this operation has just created.

    Raises BackendError where it holds anything already: mke2fs would format over it in silence.
    No flag that overwrites an existing one is ever given.
    """
    kind = KINDS[fstype]
    if not kind.mkfs:
        return
    if not _is_blank(path):
        raise BackendError(f"{path} holds data already and is not formatted over; run doctor")
    flags = kind.small_flags if mb_size < kind.small else ()
    _run(work, *kind.mkfs, *flags, str(path))


def _is_blank(path: Path) -> bool:
    """Are there only zeros where signatures would be? A hole is told without reading it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_DATA) >= _SIGNATURES:
            return True
        head = os.pread(fd, _SIGNATURES, 0)
        return head.count(0) == len(head)
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            return True
        raise
    finally:
        os.close(fd)


def check(work: Work, path: Path, fstype: str) -> None:
    """
    Check an unmounted filesystem that was not unmounted cleanly; mend what is safe to mend.

    Raises Damaged, naming the command that repairs, where it needs a human.
    """
    kind = KINDS[fstype]
    if not kind.check:
        return
    # 1 of e2fsck: it has mended what it may mend by itself.
    fine = (0, 1) if kind.check[0] == "e2fsck" else (0,)
    try:
        _run(work, *kind.check, str(path), fine=fine)
    except CommandFailed as exc:
        message = f"The {fstype} on {path} is damaged; repair it with: {kind.repair} {path}"
        raise Damaged(message) from exc
