"""Loop devices, found by the file behind them."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from ..errors import BackendError, MountBusy
from .commands import Work

_BLOCK = Path("/sys/block")
_PARTITIONS = Path("/proc/partitions")
_CLEAR = 0x4C01
"""LOOP_CLR_FD (linux/loop.h): at once, or with the last close."""


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


def attach(work: Work, image: Path) -> str:
    """The image's loop device; made where it has none."""
    existing = of(image)
    if existing:
        return existing[0]
    return work.run("losetup", "--find", "--show", str(image)).strip()


def refresh(work: Work, image: Path, patience: float = 5.0) -> None:
    """
    Let the image's loop devices become as large as the image has become.

    patience
        Seconds that the size of a file in a FUSE filesystem may take to be seen.

    Raises BackendError, naming the device, where one stays smaller.
    """
    until = time.monotonic() + patience
    for device in of(image):
        wanted = image.stat().st_size // 512
        size = _BLOCK / Path(device).name / "size"
        while int(size.read_text()) < wanted:
            if time.monotonic() > until:
                raise BackendError(f"{device} does not become as large as {image}")
            work.run("losetup", "--set-capacity", device)
            if int(size.read_text()) < wanted:
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
            _ask(image, devices)
            asked = True
        elif time.monotonic() > until:
            raise MountBusy(
                f"{image} is still behind {', '.join(devices)}, which somebody has open or "
                f"mounted; end that and try again"
            )
        else:
            time.sleep(0.005)


def _ask(image: Path, devices: list[str]) -> None:
    """
    Let go of the devices that still are the image's.

    Between the look and the act a device may have been freed and given to another image; while
    we have it open that cannot happen, so we look once more then.
    """
    for device in devices:
        with suppress(OSError):
            fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if device in of(image):
                    fcntl.ioctl(fd, _CLEAR)
            finally:
                os.close(fd)
