"""The verb flatten: a clone becomes a volume of its own, so that its snapshot can go."""

from dataclasses import replace

from ..controllers.contract import Flattens
from ..errors import LibstorageError, NoSuchVolume, Superseded
from ..records import JSON, Volume
from ..store.contract import Compare, KeyAtRevision, PrefixEmpty, Put, Write
from . import keys
from .context import Deadline
from .journal import Held, Journal, Rule
from .mounts import refuse_if_attached
from .snapshots import without_child
from .verbs import Verbs


class Flattening(Verbs):
    """
    Parts clones from their snapshots.

    What has begun is finished by recovery: to copy a part once more changes nothing. The clone
    leaves the snapshot's Children in the transaction that makes it a volume of its own.
    """

    def _tell_rules(self, journal: Journal) -> None:
        journal.rule("flatten", Rule(recover=self._recover))

    def flatten(
        self, name: str, *, by: JSON, deadline: Deadline, test: bool
    ) -> tuple[Volume, bool]:
        """
        Make a clone independent of its snapshot.

        Returns its record and whether anything changed: what is no clone stays as it is. Raises
        VolumeInUse while it is mounted and shares data with the snapshot.
        """
        while True:
            found = self._lookup.settled(name, deadline, recover=not test)
            if found is None:
                raise NoSuchVolume(name)
            entry, volume = found
            if not volume.parent_snapshot:
                return volume, False
            self._need_here(volume, "flatten", test=test)
            free: list[Compare] = [KeyAtRevision(entry.key, entry.revision)]
            if isinstance(self._context.controller(volume), Flattens):
                if not test:
                    self._attachments.tidy(volume, deadline)
                refuse_if_attached(self._attachments.everywhere(name))
                free.append(PrefixEmpty(keys.attachments(name)))
            if test:
                return _parted(volume), True
            arguments = {"Volume": volume.to_json(), "Node": volume.node, "Id": volume.id}
            held = self._journal.begin(name, "flatten", arguments, by, free, "flatten")
            if held is not None:
                return self._flatten(held), True
            deadline.check(f"{name} changes faster than this call can flatten it; try again")

    def _flatten(self, held: Held) -> Volume:
        try:
            return self._finish(held)
        except LibstorageError as exc:
            if not isinstance(exc, Superseded):
                exc.add_note(f"The flatten of {held.volume} goes on at the next call or doctor")
            raise
        finally:
            held.let_go()

    def _finish(self, held: Held) -> Volume:
        volume = Volume.from_json(held.record.arguments["Volume"])
        controller = self._context.controller(volume)
        if isinstance(controller, Flattens):
            controller.flatten(held.work, volume)
        parted = [_parted(volume)]

        def done() -> tuple[list[Compare], list[Write]]:
            key = keys.volume(volume.name)
            entry = self._store.get(key, linearizable=True)
            if entry is None:
                return [], []  # a recovery has finished it: the operation is not ours any more
            parted[:] = [_parted(Volume.from_json(entry.value))]
            compares, writes = without_child(self._store, volume)
            snapshot = volume.parent_snapshot
            event = self._events.success(volume.name, "flatten", held.record.by, snapshot=snapshot)
            compares.append(KeyAtRevision(key, entry.revision))
            return compares, [*writes, Put(key, parted[0].to_json()), event]

        held.commit(done)
        # As after every edit: it may lag, and who finds the volume removed takes it back.
        self._attachments.edits.copy(parted[0])
        return parted[0]

    def _recover(self, held: Held) -> None:
        self._finish(held)


def _parted(volume: Volume) -> Volume:
    return replace(volume, is_clone=False, parent_snapshot="", revision=volume.revision + 1)
