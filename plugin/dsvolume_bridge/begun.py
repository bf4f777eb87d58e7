"""
Mounts and unmounts that are begun and not answered.

A bridge that is killed in one may have done it, and Docker was told that it failed: it knows
nothing of such a mount, and never speaks of it again. So each is noted before it begins, until its
answer is there; what a bridge finds noted at its start was never answered.

It also dies with calls that it has not read: of those only the time is known.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

log = logging.getLogger(__name__)

NEVER = datetime.min.replace(tzinfo=UTC)
OPEN = "open"
"""The note that a bridge runs: it is gone where it ended in order."""


class Begun:
    """
    The notes, files of the boot in a folder of their own.

    An ID stays unanswered until its next call is begun.

    killed
        When the bridge before this one is known to have been killed; NEVER where it ended in order.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._unanswered = {path.name for path in folder.iterdir()} - {OPEN}
        killed = (folder / OPEN).exists()
        self.killed = datetime.now(UTC) if killed else NEVER
        (folder / OPEN).touch()

    def close(self) -> None:
        """The bridge ends, and has answered all that came to it."""
        (self._folder / OPEN).unlink(missing_ok=True)

    @contextmanager
    def call(self, id: str) -> Iterator[None]:
        """A mount or unmount of this ID; at its end it is answered, with an error or not."""
        name = sha256(id.encode()).hexdigest()
        note = self._folder / name
        self._unanswered.discard(name)
        try:
            note.touch()
        except OSError as exc:
            log.warning("A call cannot be noted: %s", exc)
        try:
            yield
        finally:
            note.unlink(missing_ok=True)

    def __contains__(self, id: object) -> bool:
        """Did a bridge begin a call of this ID, and end without an answer?"""
        return sha256(str(id).encode()).hexdigest() in self._unanswered

    def forget(self, ids: set[str]) -> None:
        """Drop the notes of all but these IDs: the others use nothing any more."""
        names = {sha256(id.encode()).hexdigest() for id in ids}
        for name in self._unanswered - names:
            self._unanswered.discard(name)
            (self._folder / name).unlink(missing_ok=True)
