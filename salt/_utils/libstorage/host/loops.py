"""Loop devices, found by the file behind them."""

from pathlib import Path

from ..errors import CommandFailed
from .commands import Work

_BLOCK = Path("/sys/block")


def behind() -> dict[str, Path]:
    """All loop devices in use: ``/dev/loopN`` -> the file behind it."""
    found = {}
    for entry in _BLOCK.glob("loop*/loop/backing_file"):
        try:
            text = entry.read_text().rstrip("\n").removesuffix(" (deleted)")
        except OSError:
            # Freed between the listing and the look.
            continue
        found[f"/dev/{entry.parts[3]}"] = Path(text)
    return found


def of(image: Path) -> list[str]:
    """The loop devices of one image, found by its name (an Id, which nothing else has)."""
    return [device for device, file in behind().items() if file.name == image.name]


def attach(work: Work, image: Path) -> str:
    """The image's loop device; made where it has none."""
    existing = of(image)
    if existing:
        return existing[0]
    return work.run("losetup", "--find", "--show", str(image)).strip()


def detach(work: Work, image: Path) -> None:
    """Let go of the image's loop devices; one still mounted goes with its last unmount."""
    for device in of(image):
        try:
            work.run("losetup", "--detach", device)
        except CommandFailed:
            if device in of(image):
                raise
