"""
Filesystems: how small they may be, how each is made, checked, mounted, grown and told apart.

Smallest sizes were measured with Debian 12's and 13's tools: ext3 and ext4 need 2 MB for a
journal; mkfs.xfs wants 300 MB, or 16 with --unsupported; mkfs.btrfs 109 MB, or 16 with --mixed.
The kernel grows a btrfs to 256 MB or more only.
"""

import errno
import os
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import BackendError, CommandFailed, Damaged, InvalidInput, Unsupported
from ..records import MB
from . import files, mounts
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
    grow, renew
        The commands that grow it, and that give it another UUID.
    grows_mounted
        It can be grown only where it is mounted.
    grows_to
        MB below which it cannot be grown.
    replays
        Only the kernel replays its log, when it is mounted.
    """

    smallest: int
    mkfs: tuple[str, ...]
    small: int = 0
    small_flags: tuple[str, ...] = ()
    read_only: str = "ro"
    check: tuple[str, ...] = ()
    repair: str = ""
    grow: tuple[str, ...] = ()
    renew: tuple[str, ...] = ()
    grows_mounted: bool = False
    grows_to: int = 0
    replays: bool = False


Piece = tuple[int, bytes]
"""Where it is, and what."""
_LOOKS = 9
_SIGNATURES = MB
"""Bytes at the beginning in which the signatures of filesystems are."""

_EXT = ("-q", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")
# Below 32 MB an xfs has a single allocation group, which xfs_repair does not trust by itself.
_FORCE = ("-o", "force_geometry")


# With a seed of its own the checksums of an ext4 do not depend on its UUID (man 5 ext4): another
# UUID is written at once, whatever the size. Otherwise tune2fs has to write them all anew.
_SEED = ("-O", "metadata_csum_seed")
_UNCHECKED = "e2fsck -f"


def _ext(smallest: int, name: str, *flags: str, read_only: str = "ro,noload") -> Kind:
    return Kind(
        smallest,
        (f"mkfs.{name}", *_EXT, *flags),
        read_only=read_only,
        check=("e2fsck", "-p"),
        repair="e2fsck -f",
        grow=("resize2fs",),
        renew=("tune2fs", "-U", "random"),
    )


KINDS = {
    "ext2": _ext(1, "ext2", read_only="ro"),
    "ext3": _ext(2, "ext3"),
    "ext4": _ext(2, "ext4", *_SEED),
    "xfs": Kind(
        16,
        ("mkfs.xfs", "-q", "-K"),
        small=300,
        small_flags=("--unsupported",),
        read_only="ro,norecovery,nouuid",
        check=("xfs_repair", "-n", *_FORCE),
        repair=f"xfs_repair {' '.join(_FORCE)}",
        grow=("xfs_growfs",),
        grows_mounted=True,
        replays=True,
        renew=("xfs_admin", "-U", "generate"),
    ),
    "btrfs": Kind(
        16,
        ("mkfs.btrfs", "-q", "-K"),
        small=110,
        small_flags=("--mixed",),
        read_only="ro,rescue=nologreplay",
        check=("btrfs", "check", "--readonly"),
        repair="btrfs check --repair",
        grow=("btrfs", "filesystem", "resize", "max"),
        renew=("btrfstune", "-f", "-u"),
        grows_mounted=True,
        replays=True,
        grows_to=256,
    ),
    "raw": Kind(1, ()),
}


def check_size(fstype: str, mb_size: int) -> None:
    """Raise InvalidInput where a filesystem cannot be as small as ``mb_size`` MB."""
    smallest = KINDS[fstype].smallest
    if mb_size < smallest:
        raise InvalidInput(f"{fstype} needs at least {smallest} MB, asked {mb_size}")


def check_growth(fstype: str, mb_size: int) -> None:
    """Raise InvalidInput where a filesystem cannot be grown to as little as ``mb_size`` MB."""
    smallest = KINDS[fstype].grows_to
    if mb_size < smallest:
        raise InvalidInput(f"{fstype} can be grown to {smallest} MB or more, asked {mb_size}")


def need_tools(fstype: str) -> None:
    """Raise ToolMissing unless the commands for this filesystem are on the host."""
    kind = KINDS[fstype]
    for tool in (*kind.mkfs[:1], *kind.check[:1]):
        need(tool)


def need_growing_tools(fstype: str) -> None:
    """Raise ToolMissing unless the commands that ``grow`` needs are on the host."""
    kind = KINDS[fstype]
    for tool in (*kind.check[:1], *kind.grow[:1]):
        need(tool)


def need_renewing_tools(fstype: str) -> None:
    """Raise ToolMissing unless the commands that ``renew_uuid`` needs are on the host."""
    kind = KINDS[fstype]
    for tool in (*kind.check[:1], *kind.renew[:1]):
        need(tool)


def _run(
    work: Work, *argv: str, fine: tuple[int, ...] = (0,), holding: tuple[int, ...] = ()
) -> str:
    """
    Run a filesystem's tool, for as long as the work may take.

    btrfs-progs look at every loop device of the host, whether it is theirs, and fail where one is
    freed at that moment: they are started again.
    """
    for _ in range(_LOOKS):
        try:
            return work.run(*argv, limit=work.left(), fine=fine, holding=holding)
        except CommandFailed as exc:
            if "check mount status" not in exc.words:
                raise
            time.sleep(0.02)
    return work.run(*argv, limit=work.left(), fine=fine, holding=holding)


def make(work: Work, path: Path, fstype: str, mb_size: int, holding: tuple[int, ...] = ()) -> None:
    """
    Make a filesystem on a device or image that this operation has just created.

    holding
        Open files that mkfs has as well.

    Raises BackendError where it holds anything already: mke2fs would format over it in silence.
    No flag that overwrites an existing one is ever given.
    """
    kind = KINDS[fstype]
    if not kind.mkfs:
        return
    if not _is_blank(path):
        raise BackendError(f"{path} holds data already and is not formatted over; run doctor")
    flags = kind.small_flags if mb_size < kind.small else ()
    _run(work, *kind.mkfs, *flags, str(path), holding=holding)


@contextmanager
def made(work: Work, folder: Path, fstype: str, mb_size: int) -> Iterator[Iterator[Piece]]:
    """
    What a new filesystem of this size consists of, to be written to where there are only zeros.

    folder
        On a disk, which has room for what mkfs writes; nothing is to be seen there.
    """
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        fd = file.fileno()
        try:
            os.truncate(fd, mb_size * MB)
        except OSError as exc:
            raise files.explain(exc, f"{folder} holds no file of {mb_size} MB") from exc
        make(work, Path(f"/proc/self/fd/{fd}"), fstype, mb_size, holding=(fd,))
        yield _pieces(fd)


def _pieces(fd: int) -> Iterator[Piece]:
    """What a sparse file holds besides zeros."""
    end = 0
    while True:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return
            raise
        end = min(os.lseek(fd, begin, os.SEEK_HOLE), begin + MB)
        data = os.pread(fd, end - begin, begin)
        if data.count(0) < len(data):
            yield begin, data


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


def check(work: Work, path: Path, fstype: str, *, fully: bool = False) -> None:
    """
    Check an unmounted filesystem that was not unmounted cleanly; mend what is safe to mend.

    fully
        Also where it says of itself that it is clean.

    Raises Damaged, naming the command that repairs, where it needs a human.
    """
    kind = KINDS[fstype]
    if not kind.check:
        return
    flags = ("-f",) if fully and _is_ext(kind) else ()
    # 1 of e2fsck: it has mended what it may mend by itself.
    fine = (0, 1) if _is_ext(kind) else (0,)
    try:
        _run(work, *kind.check, *flags, str(path), fine=fine)
    except CommandFailed as exc:
        message = f"The {fstype} on {path} is damaged; repair it with: {kind.repair} {path}"
        raise Damaged(message) from exc


CLEAN = 2048
"""Bytes at the beginning of an ext filesystem that say whether it is clean."""


def clean(head: bytes) -> bool:
    """
    Does an ext filesystem that begins so say of itself that it was unmounted, without errors?

    It is what e2fsck looks at first: the state, and whether the journal has to be replayed.
    """
    block = head[1024:CLEAN]
    magic, state = struct.unpack_from("<HH", block, 0x38)
    [incompatible] = struct.unpack_from("<I", block, 0x60)
    [errors] = struct.unpack_from("<I", block, 0x194)
    return magic == 0xEF53 and state == 1 and not errors and not incompatible & 0x4


def _is_ext(kind: Kind) -> bool:
    return kind.check[:1] == ("e2fsck",)


def grow(
    work: Work, path: Path, fstype: str, mountpoint: Path | None = None, *, again: bool = False
) -> None:
    """
    Grow a filesystem to all of its device or image, which has grown before; grown is as good.

    mountpoint
        Where it is mounted; without it, ``path`` is not mounted.
    again
        An earlier attempt may have been killed: resize2fs then leaves an ext that no careful
        check accepts, and that a full repair makes whole (measured: no data were lost).

    Raises Unsupported where this host's kernel does not let a mounted one grow, ValueError for
    one that must be mounted.
    """
    kind = KINDS[fstype]
    if not kind.grow:
        return
    if mountpoint is None:
        if kind.grows_mounted:
            raise ValueError(f"{fstype} grows only where it is mounted")
        # resize2fs refuses one that was mounted since its last full check.
        try:
            check(work, path, fstype, fully=True)
        except Damaged:
            if not again:
                raise
            work.run("e2fsck", "-f", "-y", str(path), limit=work.left(), fine=(0, 1))
        target = path
    else:
        mounted = mounts.at(mountpoint)
        if mounted is None:
            raise BackendError(f"Nothing is mounted at {mountpoint} that could be grown")
        target = mountpoint if kind.grows_mounted else Path(mounted.source)
    try:
        _run(work, *kind.grow, str(target))
    except CommandFailed as exc:
        if "Permission denied to resize" not in exc.words:
            raise
        raise Unsupported(
            f"This host's kernel does not let a mounted {fstype} grow ({mountpoint}); "
            f"unmount it first, then grow it"
        ) from exc


def renew_uuid(work: Work, image: Path, fstype: str, mount_once: Callable[[str], None]) -> None:
    """
    Give an unmounted filesystem another UUID, so that it and its parent can both be mounted.

    mount_once
        Mounts the image somewhere with the options that it is given, and unmounts it: only the
        kernel replays the log of some.
    """
    kind = KINDS[fstype]
    if not kind.renew:
        return
    before = uuid(work, image)
    if _is_ext(kind):
        # What waits in the journal; one that was frozen has nothing there.
        check(work, image, fstype)
    elif fstype == "btrfs" and _has_log(work, image):
        mount_once("")
    _renew(work, image, fstype)
    # xfs_admin says neither that it did nothing nor why by its exit status.
    if fstype == "xfs" and uuid(work, image) == before:
        # One that was copied while it was frozen has a log to replay.
        mount_once("nouuid")
        _renew(work, image, fstype)
    if uuid(work, image) in ("", before):
        raise BackendError(f"The {fstype} on {image} could not be given another UUID")


def _renew(work: Work, image: Path, fstype: str) -> None:
    renew = (*KINDS[fstype].renew, str(image))
    try:
        _run(work, *renew)
    except CommandFailed as exc:
        # An ext4 that was made without a seed.
        if _UNCHECKED not in exc.words:
            raise
        check(work, image, fstype, fully=True)
        _run(work, *renew)


def _has_log(work: Work, image: Path) -> bool:
    """Does this btrfs have a log? One that was frozen has none: its mount can be spared."""
    out = work.run("btrfs", "inspect-internal", "dump-super", str(image))
    return not any(line.split() == ["log_root", "0"] for line in out.splitlines())


def identify(work: Work, head: bytes, size: int) -> str:
    """
    The type of the filesystem that begins so; "" where it is none.

    size
        Bytes of the whole.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(head)
        file.truncate(size)
        file.flush()
        # 2: nothing was found; 8: several things at once, of which nobody knows which it is.
        argv = ("blkid", "-p", "-o", "value", "-s", "TYPE", file.name)
        return work.run(*argv, fine=(0, 2, 8)).strip()


def uuid(work: Work, image: Path) -> str:
    """The UUID of the filesystem on a device or image; "" where it holds none."""
    # 2: nothing was found.
    argv = ("blkid", "-p", "-o", "value", "-s", "UUID", str(image))
    return work.run(*argv, fine=(0, 2)).strip()
