"""
Marks: which images this node maps by one mapper, told before it begins and until it has ended.

A mark is a file ``<folder>/<Id>``; it names the device as soon as there is one. A host may be
several nodes, and one of them may have been shut out of an image that the other maps now.
"""

from collections.abc import Mapping
from pathlib import Path

from ..host import files


class Marks:
    """The marks of one mapper."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, id: str) -> None:
        """The image will be mapped; its device is not known yet."""
        files.make_directory(self._folder, 0o700)
        (self._folder / id).write_text("")

    def note(self, id: str, device: Path) -> None:
        """The image has this device."""
        (self._folder / id).write_text(str(device))

    def end(self, id: str) -> None:
        """The image is not mapped any more; no mark is as good."""
        files.remove(self._folder / id)

    def marked(self, id: str) -> bool:
        return (self._folder / id).exists()

    def device(self, id: str, images: Mapping[Path, str]) -> Path | None:
        """
        The device of an image that this node has mapped.

        images
            What the host has mapped: device -> the image's name.
        """
        try:
            noted = (self._folder / id).read_text()
        except FileNotFoundError:
            return None
        ours = (d for d, image in images.items() if image == id and noted in ("", str(d)))
        return next(ours, None)

    def held(self, images: Mapping[Path, str]) -> dict[str, str]:
        """What is mapped, or half mapped: Id -> what there is."""
        found = {}
        for mark in self._folder.iterdir() if self._folder.is_dir() else ():
            device = self.device(mark.name, images)
            found[mark.name] = f"device {device}" if device else f"mark {mark}"
        return found
