"""
Edits: changes of a record that touch no data (labels, protection, QoS, State). No operations.

The order
    1. The operation on the volume, then the record are read; the edit is decided on the record.
    2. One transaction compares both at the revisions read and writes the record, its Revision one
       higher, with the event. Where somebody was faster: 1 again, until the deadline.
    3. The record's copy beside the data is rewritten where the data are on this node.

Beside an operation
    An edit waits for none but a removal: it compares that the operation is the one it has seen, and
    an operation changes only its own fields of the record that its commit reads. A removal cannot
    begin on a record that an edit has moved on (its begin compares the revision), and no edit
    succeeds while one is under way: who protects a volume in time keeps it, who comes too late is
    told that it is gone.

Why a crash between any two lines is harmless
    Before 2 nothing has happened, after it all has but the copy, which is behind by its Revision:
    the doctor rewrites it. Copies are put in any order by those who edit at the same time, so each
    puts again until it has put what the record still says; one put while the volume was removed is
    dropped again, or says that the volume is in the trash.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..errors import BackendError, InvalidInput, LibstorageError, NoSuchVolume
from ..records import JSON, Trashed, Volume
from ..store.contract import Compare, Entry, KeyAbsent, KeyAtRevision, Put, Write
from . import keys
from .context import Context, Deadline
from .events import Events
from .given import check_labels, merge_labels
from .journal import Journal
from .lookup import Lookup

REMOVAL = "rm"
Beside = Callable[[], tuple[list[Compare], list[Write]]]
"""What an edit depends on or changes besides the record; asked again at every try."""

COPY_TRIES = 20
"""Those who write one copy at the same moment get in each other's way; one of them is the last."""

Subject = tuple[Entry, Volume, Compare]
"""The record that an edit is about, and that no other operation is on it than the one seen."""


class Edits:
    """Changes records in single transactions."""

    def __init__(self, context: Context, journal: Journal, lookup: Lookup, events: Events) -> None:
        self._context = context
        self._store = context.store
        self._journal = journal
        self._lookup = lookup
        self._events = events

    def label(
        self, name: str, labels: Mapping[str, str], *, by: JSON, deadline: Deadline, test: bool
    ) -> Volume:
        """Set labels; one with an empty value is removed. Raises NoSuchVolume."""
        check_labels(labels)
        if not labels:
            raise InvalidInput("label needs at least one KEY=VALUE; KEY= removes that label")

        def edit(volume: Volume) -> Volume:
            return replace(volume, labels=merge_labels(volume.labels, labels))

        return self._change(name, edit, "label", by, deadline, test=test, labels=dict(labels))

    def protect(
        self, name: str, protected: bool, *, by: JSON, deadline: Deadline, test: bool
    ) -> Volume:
        """Let a volume be removed no more, or again. Raises NoSuchVolume."""
        verb = "protect" if protected else "unprotect"
        return self._change(
            name, lambda volume: replace(volume, protected=protected), verb, by, deadline, test=test
        )

    def qos(
        self,
        name: str,
        verb: str,
        fields: Mapping[str, object],
        *,
        by: JSON,
        deadline: Deadline,
        test: bool,
        beside: Beside | None = None,
    ) -> Volume:
        """Set QoSState or QoSProfile. Raises NoSuchVolume."""

        def edit(volume: Volume) -> Volume:
            return replace(volume, **fields)  # type: ignore[arg-type]

        told = {"profile": fields["qos_profile"]} if "qos_profile" in fields else {}
        return self._change(name, edit, verb, by, deadline, test=test, beside=beside, **told)

    def mark(self, volume: Volume, state: str, *events: Write) -> None:
        """
        Set State as it was found; a removal is left alone.

        events
            Tell of it; none where a mount has found it, which has an event of its own.
        """
        while (subject := self._beside(volume.name)) is not None:
            entry, record, unmoved = subject
            if record.id != volume.id or record.state == state:
                return
            edited = replace(record, state=state, revision=record.revision + 1)
            if self._write(entry, [unmoved], [Put(entry.key, edited.to_json()), *events]):
                self.copy(edited)
                return

    def _change(
        self,
        name: str,
        edit: Callable[[Volume], Volume],
        verb: str,
        by: JSON,
        deadline: Deadline,
        *,
        test: bool,
        beside: Beside | None = None,
        **told: object,
    ) -> Volume:
        """The record as the edit leaves it; one that changes nothing writes nothing."""
        while True:
            compares, writes = beside() if beside else ([], [])
            entry, volume, unmoved = self._subject(name, deadline, recover=not test)
            edited = edit(volume)
            if edited == volume:
                return volume
            edited = replace(edited, revision=volume.revision + 1)
            if test:
                return edited
            event = self._events.success(name, verb, by, **told)
            writes = [Put(entry.key, edited.to_json()), event, *writes]
            if self._write(entry, [unmoved, *compares], writes):
                self.copy(edited)
                return edited
            deadline.check(f"{name} changes faster than this call can {verb} it; try again")

    def _subject(self, name: str, deadline: Deadline, *, recover: bool) -> Subject:
        """
        The volume to edit; a removal in progress is waited for.

        recover
            A dead owner's removal is finished; otherwise it is judged as if it were.

        Raises NoSuchVolume.
        """
        if (subject := self._beside(name)) is not None:
            return subject
        found = self._lookup.settled(name, deadline, recover=recover)
        if found is None:
            raise NoSuchVolume(name)
        return *found, KeyAbsent(keys.operation(name))

    def _beside(self, name: str) -> Subject | None:
        """The volume, whatever is done with it; None where it is absent or being removed."""
        # The operation first: one that has made or removed the record meanwhile fails the compare.
        operation = self._journal.find(name)
        if operation is not None and operation[1].verb == REMOVAL:
            return None
        found = self._lookup.record(name)
        if found is None:
            return None
        if operation is None:
            return *found, KeyAbsent(keys.operation(name))
        return *found, KeyAtRevision(operation[0].key, operation[0].revision)

    def _write(self, entry: Entry, compares: list[Compare], writes: list[Write]) -> bool:
        compares = [KeyAtRevision(entry.key, entry.revision), *compares]
        return self._store.transact(compares, writes) is not None

    def copy(self, volume: Volume) -> None:
        """Bring the copy beside the data up to date; where that fails it lags, for the doctor."""
        try:
            controller = self._context.controller(volume)
            put: Volume | None = None
            for _ in range(COPY_TRIES):
                subject = self._beside(volume.name)
                if subject is None or subject[1].id != volume.id:
                    if put is not None:
                        self.copy_removed(volume)
                    return
                if subject[1] == put or not self.data_here(subject[1]):
                    return
                try:
                    controller.put_copy(subject[1], self._context.cluster)
                    put = subject[1]
                except BackendError:
                    put = None
        except LibstorageError:
            return

    def copy_removed(self, volume: Volume) -> None:
        """Put right a copy that was put while the volume went, or came back under another name."""
        controller = self._context.controller(volume)
        operation = self._journal.find(volume.name)
        going = operation[1].arguments if operation and operation[1].verb == REMOVAL else {}
        # The entry second: a removal that ended in between has made it.
        entry = self._store.get(keys.trash(volume.id), linearizable=True)
        there = entry.value if entry else going.get("Trashed")
        if there and there["Volume"]["Id"] == volume.id:
            trashed = Trashed.from_json(there)
            controller.put_copy(trashed.volume, self._context.cluster, trashed.state)
            return
        living = [v for v in self._store.values(keys.VOLUMES) if v["Id"] == volume.id]
        # One that is being destroyed has its record until that is done, and needs no copy any more.
        if living and going.get("Id") != volume.id:
            controller.put_copy(Volume.from_json(living[0]), self._context.cluster)
        else:
            controller.drop_copy(volume.id)

    def data_here(self, volume: Volume) -> bool:
        """Are data of the volume on this node, or where every node reaches them?"""
        if self._context.controller(volume).node_local(volume):
            data = self._store.get(keys.data(volume.name, self._context.node))
            return data is not None
        return volume.node in ("", self._context.node)
