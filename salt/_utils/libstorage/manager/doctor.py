"""
The doctor: what disagrees between store, backend, mount table and loop devices on this node.

A finding is one sentence on one thing. With ``fix`` each is mended by the same code that the verbs
use: a dead owner's work is recovered, a lost mount is made again, what nobody knows is removed.
Never removed: an object that carries a copy of its record, or belongs to another cluster.

Others work meanwhile. Each look at the host therefore stands between two looks at the store: what
is there rightly is in the first unless it was just made, and in the second unless it is just gone.
And a mend that takes something away asks once more before it acts.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..controllers.contract import Controller, Found, Snapshots
from ..errors import BackendError, LibstorageError
from ..host import mounts
from ..host.commands import Work
from ..host.throttling import NONE
from ..records import ATTACHED, JSON, Attachment, Operation, Snapshot, Trashed, Volume, now
from . import keys
from .attachments import Attachments
from .capacity import Capacity
from .context import Context, Deadline
from .delegation import Delegation
from .events import Events
from .fencing import Fencing
from .journal import Journal
from .limiter import Limiter
from .lookup import Lookup
from .mounts import Mounts
from .nodes import Nodes
from .offline import Offline
from .owners import Owners
from .profiles import Profiles
from .requests import Requests
from .trash import Trash
from .volumes import Volumes

DOCTOR: JSON = {"door": "doctor"}
ORPHAN_AGE = 3600.0
"""Seconds after which a half-made backend object that nothing knows is removed."""


Look = Callable[[Deadline], Iterator["Finding"]]


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Something that disagrees.

    mend
        What ``fix`` does about it; None where only an operator can.
    """

    kind: str
    name: str
    says: str
    mend: Callable[[], object] | None = None


class Doctor:
    """Finds, and mends where asked."""

    def __init__(
        self,
        context: Context,
        owners: Owners,
        journal: Journal,
        lookup: Lookup,
        attachments: Attachments,
        volumes: Volumes,
        events: Events,
        requests: Requests,
        profiles: Profiles,
        limiter: Limiter,
        trash: Trash,
        capacity: Capacity,
        delegation: Delegation,
        fencing: Fencing,
        nodes: Nodes,
        mount_verbs: Mounts,
        offline: Offline,
    ) -> None:
        self._context = context
        self._store = context.store
        self._owners = owners
        self._journal = journal
        self._lookup = lookup
        self._attachments = attachments
        self._volumes = volumes
        self._events = events
        self._requests = requests
        self._profiles = profiles
        self._limiter = limiter
        self._trash = trash
        self._capacity = capacity
        self._delegation = delegation
        self._fencing = fencing
        self._nodes = nodes
        self._mount_verbs = mount_verbs
        self._offline = offline

    def examine(self, *, fix: bool, deadline: Deadline) -> list[JSON]:
        """
        All findings, as ``{"Kind", "Name", "Says", "Fixed"}``; Fixed is None where not tried.

        Each look is taken when those before it are mended, so that one pass is enough.
        """
        report = []
        for look in self._looks():
            for finding in list(look(deadline)):
                report.append(self._report(finding, fix))
        return report

    def _looks(self) -> tuple[Look, ...]:
        return (
            self._fenced,
            self._untold,
            self._operations,
            self._attachments_here,
            self._mount_table,
            self._held,
            self._purges,
            self._records,
            self._in_trash,
            self._backend,
            self._limits,
            self._room,
            self._unlike,
            self._own_housekeeping,
            self._housekeeping,
        )

    def tend(self, *, everything: bool, elected: bool) -> Iterator[Finding]:
        """
        What the node's agent has to mend now.

        everything
            Also what takes a look at the whole backend.
        elected
            Also what one node does for all.
        """
        looks: tuple[Look, ...] = (
            self._fenced,
            self._untold,
            self._operations,
            self._attachments_here,
            self._purges,
            self._in_trash,
            self._limits,
            self._own_housekeeping,
        )
        if everything:
            looks = tuple(look for look in self._looks() if look != self._housekeeping)
        if elected:
            looks = (*looks, self._housekeeping)
        for look in looks:
            # Nobody is waited for: who lives is left alone, and who is dead shows at the next look.
            yield from (finding for finding in list(look(Deadline(0))) if finding.mend)

    def mend(self, finding: Finding) -> JSON:
        """Mend what was found; the finding as ``examine`` tells it."""
        return self._report(finding, True)

    def _report(self, finding: Finding, fix: bool) -> JSON:
        fixed: bool | None = None
        says = finding.says
        if fix and finding.mend:
            try:
                finding.mend()
                fixed = True
            except LibstorageError as exc:
                fixed = False
                says = f"{says} It could not be mended: {exc}."
        return {"Kind": finding.kind, "Name": finding.name, "Says": says, "Fixed": fixed}

    def _fenced(self, deadline: Deadline) -> Iterator[Finding]:
        node = self._context.node
        if (entry := self._fencing.fenced(node)) is not None:
            says = f"{node} was fenced at {entry.value['At']}; what it had is no longer its own."
            yield Finding("node", node, says, self._fencing.come_back)

    def _untold(self, deadline: Deadline) -> Iterator[Finding]:
        for name in self._offline.names():
            says = f"The store does not know yet who used {name} while it was away."
            tell = partial(self._mount_verbs.catch_up, name, by=DOCTOR, deadline=deadline)
            yield Finding("mount", name, says, tell)

    def _operations(self, deadline: Deadline) -> Iterator[Finding]:
        for operation in self._journal.list():
            if self._abandoned(operation, deadline):
                found = self._journal.find(operation.volume)
                if found is None or found[1].token != operation.token:
                    continue
                yield Finding(
                    "operation",
                    operation.volume,
                    f"The {operation.verb} of {operation.volume} was left at step "
                    f"{operation.step or 'begin'} by a process of {operation.node} that is gone.",
                    self._settling(operation.volume, deadline),
                )

    def _settling(self, name: str, deadline: Deadline) -> Callable[[], object]:
        return lambda: self._journal.settle(name, deadline)

    def _abandoned(self, owned: Operation | Attachment, deadline: Deadline) -> bool:
        """
        Does nobody work on it any more?

        A stopped owner is watched until its lease has lapsed; on a busy host that takes longer
        than a lease. One that is out of sight is watched for the time of a lease: it may live.
        """
        patience = Deadline(min(self._context.config.lease * 1.5, deadline.left()))
        while not self._owners.dead(owned):
            if self._owners.stopped(owned):
                left = deadline.left()
            else:
                left = patience.left() if self._owners.unseen(owned) else 0
            if not left:
                return False
            time.sleep(0.05)
        return True

    def _attachments_here(self, deadline: Deadline) -> Iterator[Finding]:
        for value in self._store.values(keys.ATTACHMENTS):
            attachment = Attachment.from_json(value)
            if attachment.node != self._context.node:
                continue
            for finding in self._attachment(attachment, deadline):
                now = self._attachments.here(attachment.volume)
                if now is not None and now[1] == attachment:
                    yield finding

    def _attachment(self, attachment: Attachment, deadline: Deadline) -> Iterator[Finding]:
        name = attachment.volume
        found = self._lookup.record(name)
        if found is None:
            yield Finding("attachment", name, f"{name} is attached here but has no record.")
            return
        volume = found[1]

        def tidy() -> None:
            self._attachments.tidy(volume, deadline)

        if attachment.boot_id != self._context.seen_boot_id():
            says = f"The attachment of {name} is of an older boot of this node."
            yield Finding("attachment", name, says, tidy)
        elif attachment.status != ATTACHED:
            if self._abandoned(attachment, deadline):
                says = f"{name} was left {attachment.status} by a process that is gone."
                yield Finding("attachment", name, says, tidy)
        elif not attachment.users:
            yield Finding("attachment", name, f"{name} is attached but has no user.", tidy)
        elif not self._attachments.shown(attachment):
            says = f"{name} is attached but not mounted at {attachment.mountpoint}."
            yield Finding("mount", name, says, lambda: self._restore(name, volume))

    def _restore(self, name: str, volume: Volume) -> None:
        found = self._attachments.here(name)
        if found and found[1].status == ATTACHED and not self._attachments.shown(found[1]):
            claimed = self._attachments.claim_again(*found)
            if claimed is not None:
                self._attachments.attach(claimed, volume, None, DOCTOR)

    def _known(self) -> set[str]:
        """The volumes that this node has attached, or that an operation may be touching."""
        attached = {
            value["Volume"]
            for value in self._store.values(keys.ATTACHMENTS)
            if value["Node"] == self._context.node
        }
        return attached | {operation.volume for operation in self._journal.list()}

    def _mount_table(self, deadline: Deadline) -> Iterator[Finding]:
        root = self._context.config.mount_root
        known = self._known()
        mounted = {m.path for m in mounts.table() if m.path.parent == root}
        bare = set(root.iterdir()) - mounted if root.is_dir() else set()
        known |= self._known()
        for point in sorted(mounted | bare):
            if point.name not in known:
                is_so = "is mounted" if point in mounted else "is left over"
                says = f"The mount point {point} {is_so} although nothing is attached there."
                yield Finding("mount", point.name, says, self._unmounting(point))

    def _unmounting(self, point: Path) -> Callable[[], None]:
        def unmount() -> None:
            if point.name in self._known():
                return
            mounts.unmount(Work(), point)
            mounts.remove_point(point)
            if os.path.lexists(point):
                raise BackendError(f"{point} is no bare mount point; move away what is there")

        return unmount

    def _held(self, deadline: Deadline) -> Iterator[Finding]:
        """Loop devices and maintenance mounts that no attachment or operation accounts for."""
        known = self._known()
        held = [
            (controller, id, what)
            for controller in self._context.controllers.all()
            for id, what in controller.in_use().items()
        ]
        if not held:
            return
        ids = {a["Id"]: a["Volume"] for a in self._store.values(keys.ATTACHMENTS)}
        ids |= {v["Id"]: v["Name"] for v in self._store.values(keys.VOLUMES)}
        known |= self._known()
        for controller, id, what in held:
            name = ids.get(id, id)
            if name not in known:
                says = f"The {what} of {name} belongs to no attachment or operation."
                yield Finding("device", name, says, self._letting_go(controller, id, name))

    def _letting_go(self, controller: Controller, id: str, name: str) -> Callable[[], None]:
        def let_go() -> None:
            if name in self._known():
                return
            controller.end_inspection(Work(), id)
            controller.detach(Work(), id)

        return let_go

    def _purges(self, deadline: Deadline) -> Iterator[Finding]:
        for entry in self._store.list(keys.purge(self._context.node)):
            name = entry.value["volume"]
            says = f"This node still holds data of {name}, which was removed."
            yield Finding("purge", name, says, self._volumes.purge)

    def _records(self, deadline: Deadline) -> Iterator[Finding]:
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
            if volume.state != "ok":
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

    def _in_trash(self, deadline: Deadline) -> Iterator[Finding]:
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

    def _backend(self, deadline: Deadline) -> Iterator[Finding]:
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

    def _limits(self, deadline: Deadline) -> Iterator[Finding]:
        """Limits on this host that are not as the records say, and old copies of the profiles."""
        for value in self._store.values(keys.ATTACHMENTS):
            attachment = Attachment.from_json(value)
            here = attachment.node == self._context.node and attachment.status == ATTACHED
            found = self._lookup.record(attachment.volume) if here else None
            if found is not None and attachment.device and not self._limiter.scope:
                if self._limiter.wanted(found[1]) != NONE:
                    name = attachment.volume
                    says = f"This host's kernel cannot limit the I/O of {name}, as its QoS asks."
                    yield Finding("limit", name, says)
            elif found is not None and not self._limiter.agrees(attachment, found[1]):
                name = attachment.volume
                says = f"The limits of {name} on this host are not as its records say."
                yield Finding("limit", name, says, partial(self._limiter.enforce, name))
        if not self._profiles.copied():
            says = "The copy of the QoS profiles beside the data is not current."
            yield Finding("copy", "qos", says, self._profiles.copy)

    def _room(self, deadline: Deadline) -> Iterator[Finding]:
        """Storage that is near full; when it becomes so, the event is written by this look too."""
        for name, says in self._capacity.near_full(DOCTOR):
            yield Finding("capacity", name, says)

    def _unlike(self, deadline: Deadline) -> Iterator[Finding]:
        """Nodes whose settings or libstorage are not those of the others."""
        for name, says in self._nodes.differing():
            yield Finding("node", name, says)

    def _own_housekeeping(self, deadline: Deadline) -> Iterator[Finding]:
        """What each node has to forget of its own."""
        gone = self._owners.gone()
        if gone:
            says = f"Processes that are gone are registered as owners ({len(gone)})."
            yield Finding("owners", self._context.node, says, self._owners.sweep)
        if self._delegation.old():
            says = "Answers to other nodes are kept that were asked for long ago."
            yield Finding("requests", self._context.node, says, self._delegation.forget_old)

    def _housekeeping(self, deadline: Deadline) -> Iterator[Finding]:
        """What one node does for all as time passes; said only where something is to do."""
        if self._events.old():
            says = f"Events are older than {self._context.config.retention:g} days."
            yield Finding("events", self._context.node, says, self._events.forget_old)
        for node in self._fencing.left():
            says = f"{node} is fenced, and still has volumes attached or referred to."
            yield Finding("node", node, says, partial(self._fencing.release, node, DOCTOR))
        if self._requests.old():
            says = "Answers to jobs are kept that ended long ago."
            yield Finding("requests", self._context.node, says, self._requests.forget_old)
