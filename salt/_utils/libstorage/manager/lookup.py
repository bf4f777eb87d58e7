"""Find a volume by name, minding the operation that may be about to make or remove it."""

from ..errors import NoSuchVolume
from ..records import Volume
from ..store.contract import Entry
from . import keys
from .context import Context, Deadline
from .journal import Journal

Found = tuple[Entry, Volume]


class Lookup:
    """Absence is only ever answered after a linearizable read in the very call."""

    def __init__(self, context: Context, journal: Journal) -> None:
        self._context = context
        self._journal = journal

    def record(self, name: str) -> Found | None:
        """The record as it is now."""
        entry = self._context.store.get(keys.volume(name), linearizable=True)
        return None if entry is None else (entry, Volume.from_json(entry.value))

    def settled(self, name: str, deadline: Deadline, *, recover: bool) -> Found | None:
        """
        The record once no operation is on the volume.

        recover
            A dead owner's operation is recovered first; otherwise it is judged as recovery would
            leave it, and nothing is written.
        """
        dead = self._journal.settle(name, deadline, recover=recover)
        if dead is not None and not self._journal.leaves_volume(dead):
            return None
        return self.record(name)

    def known(self, name: str, deadline: Deadline, *, recover: bool = False) -> Found:
        """
        The record, whatever operation is on it; a create in progress is waited for.

        Raises NoSuchVolume.
        """
        found = self.record(name) or self.settled(name, deadline, recover=recover)
        if found is None:
            raise NoSuchVolume(name)
        return found
