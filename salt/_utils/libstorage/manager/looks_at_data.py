"""The doctor's looks at data: on the backends, in the trash, in copies, and the room for them."""

from collections.abc import Callable, Iterator
from functools import partial

from ..controllers.contract import Common, Controller, Found, Snapshots
from ..errors import LibstorageError
from ..host.commands import Work
from ..records import DAMAGED, Snapshot, Trashed, Volume, now
from . import keys
from .capacity import Capacity
from .context import Context, Deadline
from .findings import DOCTOR, Finding
from .journal import Journal
from .lookup import Lookup
from .profiles import Profiles
from .trash import Trash
from .volumes import Volumes

ORPHAN_AGE = 3600.0
"""Seconds after which a half-made backend object that nothing knows is removed."""


class DataLooks:
    """
    Looks at what the records say that there is.

    Never removed: an object that carries a copy of its record, or belongs to another cluster.
    """

    def __init__(
        self,
        context: Context,
        journal: Journal,
        lookup: Lookup,
        volumes: Volumes,
        trash: Trash,
        profiles: Profiles,
        capacity: Capacity,
    ) -> None:
        self._context = context
        self._store = context.store
        self._journal = journal
        self._lookup = lookup
        self._volumes = volumes
        self._trash = trash
        self._profiles = profiles
        self._capacity = capacity

    def purges(self, deadline: Deadline) -> Iterator[Finding]:
        for entry in self._store.list(keys.purge(self._context.node)):
            name = entry.value["volume"]
            says = f"This node still holds data of {name}, which was removed."
            yield Finding("purge", name, says, self._volumes.purge)

    def records(self, deadline: Deadline) -> Iterator[Finding]:
        """Records whose data are not where they should be."""
        busy = {operation.volume for operation in self._journal.list()}
        for value in self._store.values(keys.VOLUMES):
            volume = Volume.from_json(value)
            if volume.name in busy or volume.node not in ("", self._context.node):
                continue
            try:
                controller = self._context.controller(volume)
            except LibstorageError as exc:
                yield Finding("record", volume.name, f"{exc}.")
                continue
            if not controller.node_local(volume) and not controller.exists(volume):
                now = self._lookup.record(volume.name)
                if now is None or now[1].id != volume.id or self._journal.find(volume.name):
                    continue
                says = f"The data of {volume.name} are missing from {volume.voltype}; restore them."
                yield Finding("record", volume.name, says)
                continue
            if volume.state == DAMAGED:
                says = f"{volume.name} is damaged; mounting it names the repair."
                yield Finding("record", volume.name, says)
            if isinstance(controller, Snapshots):
                yield from self._snapshots_of(controller, volume)

    def _snapshots_of(self, controller: Snapshots, volume: Volume) -> Iterator[Finding]:
        for value in self._store.values(keys.snapshots(volume.name)):
            snapshot = Snapshot.from_json(value)
            if not controller.snapshot_exists(snapshot) and not self._journal.find(volume.name):
                says = f"The data of {snapshot.full_name} are missing from {volume.voltype}."
                yield Finding("record", snapshot.full_name, says)

    def in_trash(self, deadline: Deadline) -> Iterator[Finding]:
        """Removed volumes whose time is over, or whose data are gone."""
        for trashed in self._trash.here():
            volume = trashed.volume
            if trashed.until <= now():
                says = f"{volume.name} was removed at {trashed.at}; its time in the trash is over."
                yield Finding("trash", volume.name, says, self._expiring(trashed, deadline))
                continue
            try:
                controller = self._context.controller(volume)
            except LibstorageError as exc:
                yield Finding("trash", volume.name, f"{exc}.")
                continue
            missing = not controller.node_local(volume) and not controller.exists(volume)
            if missing and trashed in self._trash.here():
                says = (
                    f"The data of {volume.name}, which is in the trash, are missing from "
                    f"{volume.voltype}; restore them, or let go of it with rm purge=True."
                )
                yield Finding("trash", volume.name, says)

    def _expiring(self, trashed: Trashed, deadline: Deadline) -> Callable[[], None]:
        return lambda: self._trash.expire(trashed, deadline)

    def backend(self, deadline: Deadline) -> Iterator[Finding]:
        """Backend objects and copies that disagree with records; an empty store removes none."""
        cluster = self._context.schema()
        busy, records = self._accounted()
        everything = [
            (controller, found, partial(controller.destroy, Work(), found.id))
            for controller in self._context.controllers.all()
            for found in controller.inventory()
        ]
        for controller in self._context.controllers.all():
            if isinstance(controller, Snapshots):
                everything += [
                    (controller, found, partial(controller.snapshot_remove, Work(), found.id))
                    for found in controller.snapshot_inventory()
                ]
        # What was made while we looked is in the second answer, what was removed in the first.
        busy_now, known = self._accounted()
        passing = busy | busy_now | (records.keys() - known.keys())
        # What was removed or brought back meanwhile is in both, as something else.
        passing |= {id for id in known if type(known[id]) is not type(records.get(id, known[id]))}
        for controller, found, remove in everything:
            if found.id in passing:
                continue
            record = known.get(found.id)
            if record is None:
                yield from self._orphan(found, remove, cluster, bool(known))
            elif isinstance(record, Trashed):
                copied = ((found.copy or {}).get("Revision"), found.trashed)
                if copied != (record.volume.revision, record.state):
                    name = record.volume.name
                    says = (
                        f"The copy of the record of {name}, which is in the trash, is not current."
                    )
                    yield Finding("copy", name, says, partial(self._trash.mend_copy, found.id))
            elif (
                isinstance(record, Volume)
                and cluster
                and ((found.copy or {}).get("Revision"), found.trashed) != (record.revision, None)
            ):
                says = f"The copy of the record of {record.name} beside its data is not current."
                mend = self._copying(controller, record, cluster)
                yield Finding("copy", record.name, says, mend)

    def _accounted(self) -> tuple[set[str], dict[str, Volume | Snapshot | Trashed]]:
        """The Ids that operations and purges are about, and the records by Id."""
        busy = {str(operation.arguments.get("Id")) for operation in self._journal.list()}
        purges = self._store.list(keys.purge(self._context.node))
        busy |= {entry.key.rpartition("/")[2] for entry in purges}
        known: dict[str, Volume | Snapshot | Trashed] = {}
        for value in self._store.values(keys.SNAPSHOTS):
            known[value["Id"]] = Snapshot.from_json(value)
        for value in self._store.values(keys.VOLUMES):
            known[value["Id"]] = Volume.from_json(value)
        for value in self._store.values(keys.TRASH):
            known[value["Volume"]["Id"]] = Trashed.from_json(value)
        return busy, known

    def _copying(self, controller: Controller, volume: Volume, cluster: str) -> Callable[[], None]:
        return lambda: controller.put_copy(volume, cluster)

    def _orphan(
        self, found: Found, remove: Callable[[], None], cluster: str | None, not_empty: bool
    ) -> Iterator[Finding]:
        name = str((found.copy or {}).get("Name", found.id))
        if found.cluster and found.cluster != cluster:
            says = f"The {found.what} ({name}) belongs to another cluster and is left alone."
            yield Finding("backend", name, says)
        elif found.copy is not None:
            held = "the trash of the store" if found.trashed is not None else "the store"
            says = f"The {found.what} carries the record of {name}, which {held} does not have."
            yield Finding("backend", name, says)
        elif not_empty and found.age > ORPHAN_AGE:
            says = f"The {found.what} belongs to no volume and was never finished."
            yield Finding("backend", found.id, says, remove)

    def copied(self, deadline: Deadline) -> Iterator[Finding]:
        """Copies of the QoS profiles."""
        if not self._profiles.copied():
            says = "The copy of the QoS profiles beside the data is not current."
            yield Finding("copy", "qos", says, self._profiles.copy)

    def room_due(self) -> bool:
        """Is it time to look at the room again?"""
        return self._capacity.due()

    def room(self, deadline: Deadline) -> Iterator[Finding]:
        """Storage that is near full; when it becomes so, the event is written by this look too."""
        for name, says in self._capacity.near_full(DOCTOR):
            yield Finding("capacity", name, says)

    def ill(self, deadline: Deadline) -> Iterator[Finding]:
        """Storage that says itself that it is not well."""
        for controller in self._context.controllers.all():
            if isinstance(controller, Common) and (health := controller.health()).checks:
                says = f"The storage of {controller.name} says {health.status}: "
                yield Finding("health", controller.name, f"{says}{'; '.join(health.checks)}.")
