"""
Filesystems: how small they may be, and how each is made, checked and mounted.

Smallest sizes were measured with Debian 12's and 13's tools: ext3 and ext4 need 2 MB for a
journal; mkfs.xfs wants 300 MB, or 16 with --unsupported; mkfs.btrfs 109 MB, or 16 with --mixed.
"""

from dataclasses import dataclass
from pathlib import Path

from ..errors import CommandFailed, Damaged, InvalidInput
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
    """

    smallest: int
    mkfs: tuple[str, ...]
    small: int = 0
    small_flags: tuple[str, ...] = ()
    read_only: str = "ro"
    checker: str = ""


_EXT = ("-q", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")

KINDS = {
    "ext2": Kind(1, ("mkfs.ext2", *_EXT), checker="e2fsck"),
    "ext3": Kind(2, ("mkfs.ext3", *_EXT), read_only="ro,noload", checker="e2fsck"),
    "ext4": Kind(2, ("mkfs.ext4", *_EXT), read_only="ro,noload", checker="e2fsck"),
    "xfs": Kind(
        16,
        ("mkfs.xfs", "-q", "-K"),
        small=300,
        small_flags=("--unsupported",),
        read_only="ro,norecovery,nouuid",
        checker="xfs_repair",
    ),
    "btrfs": Kind(
        16,
        ("mkfs.btrfs", "-q", "-K"),
        small=110,
        small_flags=("--mixed",),
        read_only="ro,rescue=nologreplay",
        checker="btrfs",
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
    for tool in (*kind.mkfs[:1], kind.checker):
        if tool:
            need(tool)


def make(work: Work, path: Path, fstype: str, mb_size: int) -> None:
    """
    Make a filesystem on a device or image that this operation has just created.

    No flag that overwrites an existing one is ever given: mkfs itself refuses what carries a
    signature.
    """
    kind = KINDS[fstype]
    if kind.mkfs:
        flags = kind.small_flags if mb_size < kind.small else ()
        work.run(*kind.mkfs, *flags, str(path), limit=work.left())


def check(work: Work, path: Path, fstype: str) -> None:
    """
    Check an unmounted filesystem that was not unmounted cleanly; mend what is safe to mend.

    Raises Damaged, naming the command that repairs, where it needs a human.
    """
    command: tuple[str, ...]
    if fstype.startswith("ext"):
        repair, command = "e2fsck -f", ("e2fsck", "-p", str(path))
    elif fstype == "xfs":
        repair, command = "xfs_repair", ("xfs_repair", "-n", str(path))
    elif fstype == "btrfs":
        repair, command = "btrfs check --repair", ("btrfs", "check", "--readonly", str(path))
    else:
        return
    try:
        # 1 of e2fsck: it has mended what it may mend by itself.
        work.run(*command, limit=work.left(), fine=(0, 1) if command[0] == "e2fsck" else (0,))
    except CommandFailed as exc:
        message = f"The {fstype} on {path} is damaged; repair it with: {repair} {path}"
        raise Damaged(message) from exc
