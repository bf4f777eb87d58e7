"""
Loop devices, found by the file behind them.

No device is ever opened but those of the image itself, and a free one that the kernel has named.
Others may not answer: while the storage behind a device is away, whoever lets go of it last can
hang with its lock, and so does everybody who opens it then. ``mount -o loop``, ``losetup --find``
and ``losetup --all`` open every device of the host.
"""

import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ..errors import BackendError, CommandFailed, CommandTimeout, MountBusy
from . import holders, mounts
from .commands import Work

_BLOCK = Path("/sys/block")
_PARTITIONS = Path("/proc/partitions")
_CONTROL = "/dev/loop-control"
_TRIES = 100
_LETS_GO = 'exec 3<"$1" && IFS= read -r is <"$2" && [ "$is" = "$3" ] && exec losetup -d "$1"'
"""
Between the look and the act a device may have been freed and given to another image; while it is
open that cannot happen, so one looks once more then.
"""
_unanswered: set[str] = set()
"""Devices of which nobody could let go: not asked again while who asked hangs."""
_Result = TypeVar("_Result")

# What follows is linux/loop.h.
_STATUS = 0x4C05
"""LOOP_GET_STATUS64."""
_CONFIGURE = 0x4C0A
"""LOOP_CONFIGURE (Linux 5.8)."""
_GET_FREE = 0x4C82
"""LOOP_CTL_GET_FREE: a device that has no file; made where there is none."""
_READ_ONLY, _CLEARS_ITSELF, _DIRECT = 1, 4, 16
_CONFIG = struct.Struct("=II52xI64s176x")
"""struct loop_config: the file's descriptor, the block's size, flags, the file's name."""
_INFO = struct.Struct("=QQ216x")
"""struct loop_info64: the file's device and inode."""


def behind() -> dict[str, Path]:
    """All loop devices in use: ``/dev/loopN`` -> the file behind it."""
    found = {}
    for name in _with_room():
        # Absent where the device is free, also where it was freed since the listing.
        with suppress(OSError), open(f"{_BLOCK}/{name}/loop/backing_file") as file:
            text = file.read().rstrip("\n").removesuffix(" (deleted)")
            found[f"/dev/{name}"] = Path(text)
    return found


def _with_room() -> list[str]:
    """
    The names of the loop devices that have a size.

    A kernel keeps every loop device that was ever used, and to ask sysfs about each takes ten
    times as long as this list, which leaves out what is empty: a device without a file, or (no
    image is so small) with a file of less than a sector.
    """
    try:
        names = [line.split()[-1] for line in _PARTITIONS.read_text().splitlines() if line]
    except OSError:
        names = os.listdir(_BLOCK)
    # A partition of a loop device is named loop0p1.
    return [name for name in names if name.startswith("loop") and name[4:].isdigit()]


def of(image: Path) -> list[str]:
    """The loop devices of one image, found by its name (an Id, which nothing else has)."""
    return [device for device, file in behind().items() if file.name == image.name]


def attach(image: Path, *, direct: bool = False) -> str:
    """
    The image's loop device, there until it is detached; made where it has none.

    direct
        Past the page cache: for an image in a filesystem that has a cache of its own.

    Raises BackendError where the kernel gives no device.
    """
    if existing := of(image):
        return existing[0]
    flags = _DIRECT if direct else 0
    with ExitStack() as stack:
        return _on_a_free_one(image, lambda device: _configure(stack, device, image, flags))[0]


def mount(work: Work, image: Path, point: Path, fstype: str, options: str) -> None:
    """
    Mount an image at a path that is there, by a loop device that ends with its last umount.

    Nobody has to take the device away: whoever is killed on the way, the kernel frees it.

    Raises CommandFailed where it cannot be mounted, BackendError where there is no loop device.
    """
    with _held(image, read_only="ro" in options.split(",")) as (device, fd):
        # Held by the command as well: should we die, nobody else's image comes to this device.
        mounts.mount(work, device, point, fstype, options, holding=(fd,))


@contextmanager
def _held(image: Path, *, read_only: bool) -> Iterator[tuple[str, int]]:
    """A loop device of the image, and what holds it meanwhile: the one that it has, or a new."""
    with ExitStack() as stack:
        flags = _CLEARS_ITSELF | (_READ_ONLY if read_only else 0)
        yield _existing(stack, image) or _on_a_free_one(
            image, lambda device: _configure(stack, device, image, flags)
        )


def _existing(stack: ExitStack, image: Path) -> tuple[str, int] | None:
    """A device that the image has; another image's of the same name is none."""
    for device in of(image):
        # It may be gone already.
        with suppress(OSError), ExitStack() as holding:
            fd, info, there = _open(holding, device), bytearray(_INFO.size), image.stat()
            fcntl.ioctl(fd, _STATUS, info)
            if _INFO.unpack(info) == (there.st_dev, there.st_ino):
                stack.push(holding.pop_all())
                return device, fd
    return None


def _on_a_free_one(image: Path, put: Callable[[str], _Result | None]) -> _Result:
    """
    Put an image behind a device that nobody has; returns what ``put`` does.

    put
        Is given a device that was free a moment ago; returns None where somebody was faster.

    Raises BackendError where there is none.
    """
    try:
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(_TRIES):
                done = put(f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}")
                if done is not None:
                    return done
        finally:
            os.close(control)
        why = "others were always faster"
    except OSError as exc:
        why = exc.strerror or str(exc)
    raise BackendError(f"There is no loop device for {image}: {why}; see losetup and {_CONTROL}")


def _configure(stack: ExitStack, device: str, image: Path, flags: int) -> tuple[str, int] | None:
    """
    Put an image behind a free device; None where somebody was faster.

    Returns the device with what holds it until the stack ends. That is opened to read only: what
    somebody has open to write may not be mounted on every kernel.
    """
    mode = os.O_RDONLY if flags & _READ_ONLY else os.O_RDWR
    with ExitStack() as meanwhile, ExitStack() as holding:
        file = _open(meanwhile, str(image), mode)
        own = _open(meanwhile, device, mode)
        held = _open(holding, device)
        config = _CONFIG.pack(file, 0, flags, os.fsencode(image)[:63])
        try:
            fcntl.ioctl(own, _CONFIGURE, config)
        except OSError as exc:
            if exc.errno == errno.EBUSY:
                return None
            raise
        stack.push(holding.pop_all())
        return device, held


def _open(stack: ExitStack, path: str, mode: int = os.O_RDONLY) -> int:
    """Have something open until the stack ends."""
    fd = os.open(path, mode | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def refresh(work: Work, image: Path, patience: float = 5.0, *, size: int = 0) -> None:
    """
    Let the image's loop devices become as large as the image has become.

    size
        How large that is in bytes, where the file itself may not tell yet.
    patience
        Seconds that the size of a file in a FUSE filesystem may take to be seen.

    Raises BackendError, naming the device, where one stays smaller.
    """
    until = time.monotonic() + patience
    for device in of(image):
        wanted = (size or image.stat().st_size) // 512
        sectors = _BLOCK / Path(device).name / "size"
        while int(sectors.read_text()) < wanted:
            if time.monotonic() > until:
                raise BackendError(f"{device} does not become as large as {image}")
            work.run("losetup", "--set-capacity", device)
            if int(sectors.read_text()) < wanted:
                time.sleep(0.02)


def detach(work: Work, image: Path, patience: float = 3.0) -> None:
    """
    Let go of the image's loop devices and wait until they are free.

    patience
        Seconds for which somebody may still have one open: whoever looks for a free device opens
        each for a moment, and the kernel frees it with the last close only.

    Raises MountBusy, naming the devices.
    """
    until = time.monotonic() + patience
    asked = False
    while devices := of(image):
        if not asked:
            for device in devices:
                _let_go(work, image, device, patience)
            asked = True
        elif time.monotonic() > until:
            who = [one for device in devices for one in holders.of_device(device)]
            raise MountBusy(
                f"{image} is still behind {', '.join(devices)}, held by "
                f"{', '.join(who[:5]) or 'somebody who has just let go'}; end that and try again"
            )
        else:
            time.sleep(0.005)


def _let_go(work: Work, image: Path, device: str, patience: float) -> None:
    """
    Let go of a device that still is the image's; ended is as good.

    By a command: where the storage is away it hangs, whatever is sent to it.

    Raises MountBusy where it has no answer for so many seconds.
    """
    no_answer = (
        f"{image} is still behind {device}, which gives no answer; is its storage reachable?"
    )
    if device in _unanswered and any(holders.asking(_LETS_GO, device)):
        raise MountBusy(no_answer)
    _unanswered.discard(device)
    file = _BLOCK / Path(device).name / "loop/backing_file"
    try:
        text = file.read_text().rstrip("\n")
        if Path(text.removesuffix(" (deleted)")).name == image.name:
            work.run("sh", "-c", _LETS_GO, "sh", device, str(file), text, limit=patience)
    except CommandTimeout as exc:
        _unanswered.add(device)
        raise MountBusy(no_answer) from exc
    except (OSError, CommandFailed):
        """It was freed meanwhile, or is another image's now: the caller looks again."""
