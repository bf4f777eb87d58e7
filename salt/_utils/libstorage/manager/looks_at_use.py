"""
The doctor's looks at what is in use on this node: operations, attachments, mounts, devices, limits.

Others work meanwhile. Each look at the host therefore stands between two looks at the store: what
is there rightly is in the first unless it was just made, and in the second unless it is just gone.
And a mend that takes something away asks once more before it acts.
"""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ..controllers.contract import Controller
from ..errors import BackendError
from ..host import mounts
from ..host.commands import Work
from ..host.throttling import NONE
from ..records import ATTACHED, DAMAGED, Attachment, Operation, Volume
from . import keys
from .attachments import Attachments
from .context import Context, Deadline
from .events import Events
from .fencing import Fencing
from .findings import DOCTOR, Finding
from .journal import Journal
from .limiter import Limiter
from .lookup import Lookup
from .mounts import Mounts
from .offline import Offline
from .owners import Owners


class UseLooks:
    """Looks at this node's processes, mounts and devices."""

    def __init__(
        self,
        context: Context,
        owners: Owners,
        journal: Journal,
        lookup: Lookup,
        attachments: Attachments,
        events: Events,
        limiter: Limiter,
        fencing: Fencing,
        mount_verbs: Mounts,
        offline: Offline,
    ) -> None:
        self._context = context
        self._store = context.store
        self._owners = owners
        self._journal = journal
        self._lookup = lookup
        self._attachments = attachments
        self._events = events
        self._limiter = limiter
        self._fencing = fencing
        self._mount_verbs = mount_verbs
        self._offline = offline

    def fenced(self, deadline: Deadline) -> Iterator[Finding]:
        node = self._context.node
        if (entry := self._fencing.fenced(node)) is not None:
            says = f"{node} was fenced at {entry.value['At']}; what it had is no longer its own."
            yield Finding("node", node, says, self._fencing.come_back)

    def untold(self, deadline: Deadline) -> Iterator[Finding]:
        for name in self._offline.names():
            says = f"The store does not know yet who used {name} while it was away."
            tell = partial(self._mount_verbs.catch_up, name, by=DOCTOR, deadline=deadline)
            yield Finding("mount", name, says, tell)

    def operations(self, deadline: Deadline) -> Iterator[Finding]:
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
                    self._settling(operation, deadline),
                )

    def _settling(self, operation: Operation, deadline: Deadline) -> Callable[[], object] | None:
        """None for what others mend, where nobody can wait until they have."""
        if not deadline.left() and self._journal.left_to_others(operation):
            return None
        return partial(self._journal.settle, operation.volume, deadline)

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

    def attachments_here(self, deadline: Deadline) -> Iterator[Finding]:
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
        elif not self._attachments.served(volume):
            says = f"What served {name} on {attachment.node} has died; unmount and mount it again."
            mark = None if volume.state == DAMAGED else partial(self._mark_unserved, volume)
            yield Finding("mount", name, says, mark)

    def _mark_unserved(self, volume: Volume) -> None:
        cause = f"what served it on {self._context.node} has died"
        self._attachments.give_up(volume)
        event = self._events.failure(volume.name, "damaged", DOCTOR, cause, cause=cause)
        self._attachments.edits.mark(volume, DAMAGED, event)

    def _restore(self, name: str, volume: Volume) -> None:
        found = self._attachments.here(name)
        if found and found[1].status == ATTACHED and not self._attachments.shown(found[1]):
            claimed = self._attachments.claim_again(*found)
            if claimed is not None:
                self._attachments.attach(claimed, volume, None, DOCTOR)

    def mount_table(self, deadline: Deadline) -> Iterator[Finding]:
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

    def held(self, deadline: Deadline) -> Iterator[Finding]:
        """Loop devices and maintenance mounts that no attachment or operation accounts for."""
        known = self._known()
        held = [
            (controller, id, what)
            for controller in self._context.controllers.all()
            for id, what in controller.in_use().items()
        ]
        if not held:
            return
        names = self._names()
        known |= self._known()
        for controller, id, what in held:
            name = names.get(id, id)
            if name not in known:
                says = f"The {what} of {name} belongs to no attachment or operation."
                yield Finding("device", name, says, self._letting_go(controller, id))

    def _letting_go(self, controller: Controller, id: str) -> Callable[[], None]:
        def let_go() -> None:
            if self._names().get(id, id) in self._known():
                return
            controller.end_inspection(Work(), id)
            controller.detach(Work(), id)

        return let_go

    def limits(self, deadline: Deadline) -> Iterator[Finding]:
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

    def _known(self) -> set[str]:
        """The volumes that this node has attached, or that an operation may be touching."""
        attached = {
            value["Volume"]
            for value in self._store.values(keys.ATTACHMENTS)
            if value["Node"] == self._context.node
        }
        return attached | {operation.volume for operation in self._journal.list()}

    def _names(self) -> dict[str, str]:
        """The volume of each Id; what a create under way makes has no record yet."""
        names = {a["Id"]: a["Volume"] for a in self._store.values(keys.ATTACHMENTS)}
        names |= {v["Id"]: v["Name"] for v in self._store.values(keys.VOLUMES)}
        for operation in self._journal.list():
            told = operation.arguments
            for part in (told, told.get("Volume"), told.get("Snapshot")):
                if isinstance(part, dict) and "Id" in part:
                    names.setdefault(part["Id"], operation.volume)
        return names
