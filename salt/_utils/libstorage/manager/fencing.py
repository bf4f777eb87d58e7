"""
Fenced nodes: those of which an operator has said that they are dead.

The key
    ``fenced/<node>`` says since when, by whose word, and which half-made mounts (``Claims``) were
    released. While it is there, no process of that node begins anything: every claim and every
    begin of an operation compares that it is absent.

The order
    1. *fence*: the node's leases have lapsed -> ``fenced/<node>``.
    2. *release*: one transaction for each attachment of the node: the attachment goes, with the
       event; a half-made one is noted in ``Claims``. Then what its containers refer to.
    3. The node comes back, rebooted or not: its agent, or doctor fix=True there, ends who worked
       on the claims, takes the volumes from the host (by force), and drops the key.

Why a crash between any two lines is harmless
    After 1 the node can claim nothing more; an elected agent, doctor fix=True anywhere, or the
    same call again goes on with 2. A node that lived after all loses its attachments in 2: whoever
    works on one there finds another revision and touches nothing more. 3 is made again until all
    is clean; only then the key goes.

Who keeps it from writing
    The storage, where it can (``Fences``): whoever has the volume open there is shut out, and that
    is confirmed, before its attachment is released. Elsewhere nobody does: the operator's word is
    needed that the node is off.
"""

from pathlib import Path

from ..controllers.contract import Fences
from ..host import mounts
from ..host.commands import Work
from ..records import ATTACHED, JSON, Attachment, Volume, now
from ..store.contract import Delete, Entry, KeyAbsent, KeyAtRevision, Put, Write
from . import keys
from .context import Context
from .events import Events
from .limiter import Limiter
from .memory import AttachmentMemory
from .owners import Owners
from .references import References


class Fencing:
    """Closes a node, releases what it had, and lets it in again."""

    def __init__(self, context: Context, owners: Owners, events: Events, limiter: Limiter) -> None:
        self._context = context
        self._store = context.store
        self._owners = owners
        self._events = events
        self._limiter = limiter
        self._memory = AttachmentMemory(context)
        self._references = References(context)

    def fenced(self, node: str) -> Entry | None:
        """What is known of a node's fence."""
        return self._store.get(keys.fenced(node), linearizable=True)

    def attached(self, node: str) -> list[Attachment]:
        """A node's attachments."""
        found = map(Attachment.from_json, self._store.values(keys.ATTACHMENTS))
        return [attachment for attachment in found if attachment.node == node]

    def fence(self, node: str, by: JSON) -> None:
        """Close a node; one that is closed stays so."""
        key = keys.fenced(node)
        value = {"Node": node, "At": now(), "By": by, "Claims": []}
        event = self._events.success(node, "fence", by)
        self._store.transact([KeyAbsent(key)], [Put(key, value), event])

    def left(self) -> list[str]:
        """The fenced nodes that still have attachments, or containers that refer to volumes."""
        fenced = {entry.key.removeprefix(keys.FENCED) for entry in self._store.list(keys.FENCED)}
        if not fenced:
            return []
        attached = {value["Node"] for value in self._store.values(keys.ATTACHMENTS)}
        return sorted(fenced & (attached | self._references.nodes()))

    def release(self, node: str, by: JSON) -> list[str]:
        """
        Release a fenced node's attachments, and forget its containers.

        Returns the names of the volumes that were attached.
        """
        released = []
        for attachment in self.attached(node):
            while not self._release(node, attachment.volume, by):
                pass
            released.append(attachment.volume)
        self._references.drop(node)
        return released

    def _release(self, node: str, name: str, by: JSON) -> bool:
        """Release one; False where it has moved on meanwhile: look again."""
        fence = self.fenced(node)
        entry = self._store.get(keys.attachment(name, node), linearizable=True)
        if fence is None or entry is None:
            return True
        attachment = Attachment.from_json(entry.value)
        self._shut_out(attachment)
        users = [user.who for user in attachment.users]
        writes: list[Write] = [
            Delete(entry.key),
            self._events.success(name, "release", by, on=node, users=users),
        ]
        if attachment.status != ATTACHED:
            claims = [*fence.value["Claims"], entry.value]
            writes.append(Put(fence.key, {**fence.value, "Claims": claims}))
        compares = [
            KeyAtRevision(entry.key, entry.revision),
            KeyAtRevision(fence.key, fence.revision),
        ]
        return self._store.transact(compares, writes) is not None

    def can_shut_out(self, node: str) -> bool:
        """Is all that a node has attached on storage that can shut it out?"""
        held = [self._storage(attachment) for attachment in self.attached(node)]
        return bool(held) and None not in held

    def _shut_out(self, attachment: Attachment) -> None:
        storage = self._storage(attachment)
        if storage is not None:
            storage.shut_out(attachment.id, attachment.client)

    def _storage(self, attachment: Attachment) -> Fences | None:
        """Who can shut a node out of an attached volume; None where nobody can."""
        entry = self._store.get(keys.volume(attachment.volume), linearizable=True)
        if entry is None:
            return None
        controller = self._context.controller(Volume.from_json(entry.value))
        return controller if isinstance(controller, Fences) else None

    # -- on the node itself -------------------------------------------------------------------

    def come_back(self) -> None:
        """
        This node was fenced: let go of all that it had, then let it take part again.

        Raises BackendError, and leaves the node closed, where something cannot be taken away.
        """
        node = self._context.node
        self._context.need_mount_namespace()
        self.release(node, {"door": "doctor"})
        fence = self.fenced(node)
        if fence is None:
            return
        for value in fence.value["Claims"]:
            self._owners.bury(Attachment.from_json(value))
        self._clear()
        compares = [KeyAtRevision(fence.key, fence.revision)]
        back = self._events.success(node, "back", {"door": "doctor"})
        self._store.transact(compares, [Delete(fence.key), back])

    def _clear(self) -> None:
        root = self._context.config.mount_root
        shown = [m.path for m in mounts.table() if m.path.is_relative_to(root)]
        for point in reversed(shown):
            self._lift(point)
            mounts.unmount(Work(), point, lazy=True)
        for point in root.iterdir() if root.is_dir() else ():
            mounts.remove_point(point)
        busy = {str(value["Arguments"].get("Id")) for value in self._store.values(keys.OPERATIONS)}
        busy |= {value["Id"] for value in self._store.values(keys.ATTACHMENTS)}
        for controller in self._context.controllers.all():
            for id in controller.in_use().keys() - busy:
                controller.end_inspection(Work(), id)
                controller.detach(Work(), id)

    def _lift(self, point: Path) -> None:
        """Limits would stay on the device for the next volume."""
        held = self._memory.recall(point.name)
        if held is not None:
            self._limiter.lift(Attachment.from_json(held))
        self._memory.follow(point.name)
