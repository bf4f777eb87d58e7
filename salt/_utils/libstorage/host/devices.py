"""Block devices, whatever is behind them."""

import errno
import os
import time
from pathlib import Path

from ..errors import BackendError, MountBusy
from . import holders

BLOCK = Path("/sys/class/block")
SECTOR = 512


def need_free(device: Path, patience: float = 3.0) -> None:
    """
    Raise MountBusy, naming who holds it, while a device is mounted or taken.

    patience
        Seconds for which somebody may hold it still: who has just let go, or looks at it.
    """
    until = time.monotonic() + patience
    while not _free(device):
        if time.monotonic() > until:
            raise busy(device)
        time.sleep(0.02)


def _free(device: Path) -> bool:
    try:
        # A mount in whatever namespace has a device for itself.
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as exc:
        return exc.errno != errno.EBUSY
    return True


def busy(device: Path) -> MountBusy:
    """That a device is in use, and by whom."""
    try:
        who = holders.of_device(str(device))
    except OSError:
        who = []
    return MountBusy(
        f"{device} is in use by {', '.join(who[:5]) or 'somebody who has just let go'}; end that "
        f"and try again"
    )


def size(device: Path) -> int:
    """A device's size in bytes."""
    return int((BLOCK / device.name / "size").read_text()) * SECTOR


def wait_for_size(device: Path, wanted: int, patience: float = 10.0) -> None:
    """Return when a device shows ``wanted`` bytes. Raises BackendError where it never does."""
    until = time.monotonic() + patience
    while (shown := size(device)) // SECTOR != wanted // SECTOR:
        if time.monotonic() > until:
            raise BackendError(f"{device} shows {shown} bytes and not the image's {wanted}")
        time.sleep(0.02)


def tell(file: Path, text: str) -> None:
    """Write into a file of sysfs; one that is gone needs nothing. Raises BackendError."""
    try:
        file.write_text(text)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise BackendError(f"{file} does not take {text!r}: {exc.strerror}") from exc
