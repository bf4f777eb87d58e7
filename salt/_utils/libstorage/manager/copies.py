"""
Copies of records that lie beside this node's data, kept up to date while others change the records.

Whoever changes a record writes the copies on his own node. Those on other nodes, and the one that
he died before, lag behind until this node's agent sees the change: it notes what has changed,
and looks at the copies of that alone. What is noted is forgotten once it is seen to be current.
"""

from collections.abc import Iterator
from functools import partial

from ..errors import BackendError, LibstorageError, StoreUnavailable
from ..records import JSON, Trashed, Volume
from ..store.contract import Change
from . import keys
from .context import Context
from .edits import Edits
from .findings import Finding
from .trash import Trash, data_here


class Copies:
    """Notes changes of records, and finds the copies that are behind."""

    def __init__(self, context: Context, edits: Edits, trash: Trash) -> None:
        self._context = context
        self._store = context.store
        self._edits = edits
        self._trash = trash
        self._noted: set[str] = set()

    def note(self, change: Change) -> None:
        """A record has changed, or went into the trash."""
        if change.value is not None and change.key.startswith((keys.VOLUMES, keys.TRASH)):
            self._noted.add(change.key)

    def lagging(self) -> Iterator[Finding]:
        """
        The copies on this node that are behind what was noted.

        Raises BackendError where storage is away.
        """
        for key in sorted(self._noted):
            # Before it is looked at: what changes meanwhile is noted again.
            self._noted.discard(key)
            try:
                finding = self._behind(key)
            except (BackendError, StoreUnavailable):
                self._noted.add(key)
                raise
            except LibstorageError:
                continue  # a controller that this node has no more: the doctor names it
            if finding is not None:
                self._noted.add(key)
                yield finding

    def _behind(self, key: str) -> Finding | None:
        entry = self._store.get(key, linearizable=True)
        if entry is None:
            return None
        if key.startswith(keys.TRASH):
            trashed = Trashed.from_json(entry.value)
            if trashed.busy or not data_here(self._context, trashed.volume, trashed.nodes):
                return None
            mend = partial(self._trash.mend_copy, trashed.volume.id)
            return self._compared(trashed.volume, trashed.state, mend)
        volume = Volume.from_json(entry.value)
        if not self._edits.data_here(volume):
            return None
        return self._compared(volume, None, partial(self._edits.copy, volume))

    def _compared(
        self, volume: Volume, state: JSON | None, mend: "partial[None]"
    ) -> Finding | None:
        copy = self._context.controller(volume).copy_of(volume.id) or {}
        if (copy.get("record", {}).get("Revision"), copy.get("trashed")) == (
            volume.revision,
            state,
        ):
            return None
        says = f"The copy of the record of {volume.name} beside its data was behind."
        return Finding("copy", volume.name, says, mend)
