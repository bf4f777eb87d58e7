"""
The verbs on nodes: emptied, declared dead, forgotten; and a volume taken from one by force.

None of them is an operation: each is a row of transactions that any later call of the same verb
goes on with.
"""

import time
from collections.abc import Callable
from typing import Any, Unpack

from ..errors import (
    Elsewhere,
    InvalidInput,
    LibstorageError,
    NoSuchNode,
    NotHere,
    VolumeInUse,
)
from ..records import JSON, Attachment, check_name, now
from ..store.contract import Delete, KeyAbsent, KeyAtRevision, Put
from . import keys
from .attachments import Attachments
from .calls import Call, Told
from .context import Context, Deadline
from .events import Events
from .fencing import Fencing
from .forgetting import Forgetting
from .journal import Journal
from .lookup import Lookup
from .nodes import Nodes

POLL = 0.2
"""Seconds between looks at whether users of a drained node have gone, or a dead one's lease."""
NAMED = 10

Begin = Callable[[str, Call], Told]
Once = Callable[..., JSON]


class Cluster:
    """
    Verbs on nodes.

    The shared arguments and the errors are those of the volume manager's other verbs. Every verb
    raises NoSuchNode for a node that the store does not know.
    """

    def __init__(
        self,
        context: Context,
        lookup: Lookup,
        journal: Journal,
        attachments: Attachments,
        events: Events,
        nodes: Nodes,
        fencing: Fencing,
        forgetting: Forgetting,
        begin: Begin,
        once: Once,
    ) -> None:
        self._context = context
        self._store = context.store
        self._lookup = lookup
        self._journal = journal
        self._attachments = attachments
        self._events = events
        self._nodes = nodes
        self._fencing = fencing
        self._forgetting = forgetting
        self._begin = begin
        self._once = once

    # -- drain --------------------------------------------------------------------------------

    def drain(self, node: str, *, force: bool = False, **call: Unpack[Call]) -> JSON:
        """
        Let a node take no new mounts, and wait until nothing is mounted there any more.

        force
            Take the volumes from their users instead of waiting for them.

        Returns ``{"Node", "Drained": True, "Attached": [volume], "Changed"}``; under ``test`` what
        is attached still. Raises VolumeInUse at the end of ``timeout``, naming the users; the node
        stays closed.
        """
        _need_flag("force", force)
        told = self._on(node, call)

        def act() -> JSON:
            self._need_known(node)
            was = self._store.get(keys.drained(node), linearizable=True) is not None
            held = self._fencing.attached(node)
            if not told.test:
                self._close(node, told.by)
                self._empty(node, force, told.by, told.deadline)
            changed = not was or bool(held)
            left = [attachment.volume for attachment in held] if told.test else []
            return {"Node": node, "Drained": True, "Attached": left, "Changed": changed}

        return self._once("drain", node, {"force": force}, act, told)

    def _close(self, node: str, by: JSON) -> None:
        key = keys.drained(node)
        value = {"Node": node, "At": now(), "By": by}
        event = self._events.success(node, "drain", by)
        self._store.transact([KeyAbsent(key)], [Put(key, value), event])

    def _empty(self, node: str, force: bool, by: JSON, deadline: Deadline) -> None:
        """Wait until nothing is attached to a closed node."""
        while held := self._fencing.attached(node):
            for attachment in held:
                if force or not attachment.users:
                    self._take_off(attachment, force, by, deadline)
            held = self._fencing.attached(node)
            if held and not deadline.left():
                raise VolumeInUse(self._still_used(node, held))
            time.sleep(min(POLL, deadline.left()) if held else 0)

    def _take_off(self, attachment: Attachment, force: bool, by: JSON, deadline: Deadline) -> None:
        """Detach one, here or through the node's agent; what fails is named in the end."""
        name, node = attachment.volume, attachment.node
        try:
            if force:
                self.force_detach(name, node, by=by, timeout=deadline.left())
            elif node == self._context.node:
                self._attachments.tidy(self._lookup.known(name, deadline)[1], deadline)
        except LibstorageError:
            # Held, or without an agent: the deadline says so, if it stays so.
            return

    def _still_used(self, node: str, held: list[Attachment]) -> str:
        said = []
        for attachment in held[:NAMED]:
            users = ", ".join(user.who for user in attachment.users) or attachment.status
            said.append(f"{attachment.volume} by {users}")
        more = ", ..." if len(held) > NAMED else ""
        agent = "" if self._nodes.alive(node) or node == self._context.node else " (no agent there)"
        return (
            f"{node} is drained and takes no new mounts, but in use there is still: "
            f"{'; '.join(said)}{more}{agent}; end that, or drain it with force=True"
        )

    def undrain(self, node: str, **call: Unpack[Call]) -> JSON:
        """
        Let a drained node take mounts again.

        Returns ``{"Node", "Drained": False, "Changed"}``.
        """
        told = self._on(node, call)

        def act() -> JSON:
            self._need_known(node)
            while (entry := self._store.get(keys.drained(node), linearizable=True)) is not None:
                event = self._events.success(node, "undrain", told.by)
                unmoved = KeyAtRevision(entry.key, entry.revision)
                if told.test or self._store.transact([unmoved], [Delete(entry.key), event]):
                    break
            return {"Node": node, "Drained": False, "Changed": entry is not None}

        return self._once("undrain", node, {}, act, told)

    # -- by force -----------------------------------------------------------------------------

    def force_detach(self, name: str, node: str, **call: Unpack[Call]) -> JSON:
        """
        Take a volume from a node and from all who use it there.

        Files that are held open stay so until their processes end; the volume is attached nowhere
        else before.

        Returns ``{"Name", "Node", "Users": [who], "Changed"}``. Raises NoSuchVolume; NotHere where
        no agent lives on the node; MountBusy, naming what is held, while it is.
        """
        check_name(node, "node")
        told = self._begin(name, call)

        def act() -> JSON:
            with self._events.refusals(name, "force_detach", told.by, test=told.test, on=node):
                users = self._force_detach(name, node, told)
            return {
                "Name": name,
                "Node": node,
                "Users": users or [],
                "Changed": users is not None,
            }

        return self._once("force_detach", name, {"node": node}, act, told)

    def _force_detach(self, name: str, node: str, told: Told) -> list[str] | None:
        """The users it was taken from; None where it is not attached there."""
        deadline = told.deadline
        _, volume = self._lookup.known(name, deadline, recover=not told.test)
        entry = self._store.get(keys.attachment(name, node), linearizable=True)
        if entry is None:
            return None
        if told.test:
            return [user.who for user in Attachment.from_json(entry.value).users]
        if node != self._context.node:
            self._need_agent(node)
            raise Elsewhere(node)
        while True:
            found = self._attachments.settled(name, volume, deadline, recover=True)
            if found is None:
                return None
            who = [user.who for user in found[1].users]
            if self._attachments.detach(*found, volume, {"forced": who, "by": told.by}):
                return who
            self._journal.settle(name, deadline)
            deadline.check(f"{name} changes faster than this call can detach it; try again")

    def _need_agent(self, node: str) -> None:
        if not self._nodes.alive(node):
            raise NotHere(
                f"No agent is running on {node}; start the engine dsvolume_agent there, or, if it "
                f"is dead for certain, fence {node}"
            )

    # -- dead nodes ---------------------------------------------------------------------------

    def fence(self, node: str, *, confirmed: bool = False, **call: Unpack[Call]) -> JSON:
        """
        Take it from the operator that a node is dead, and release what it has attached.

        confirmed
            His word that it is switched off. Not needed where all that it has attached is on
            storage that can shut it out.

        Returns ``{"Node", "Fenced": True, "Released": [volume], "Changed"}``. Raises NotHere while
        the node lives. When it is back it lets go of everything before it touches a volume.
        """
        _need_flag("confirmed", confirmed)
        told = self._on(node, call)

        def act() -> JSON:
            self._need_known(node)
            was = self._fencing.fenced(node) is not None
            if not (confirmed or was or self._fencing.can_shut_out(node)):
                raise InvalidInput(
                    f"The storage cannot shut {node} out: switch it off, then say so with "
                    f"confirmed=True"
                )
            if not was:
                self._need_dead(node, "fence", told.deadline)
            held = [attachment.volume for attachment in self._fencing.attached(node)]
            if not told.test:
                self._fencing.fence(node, told.by)
                held = self._fencing.release(node, told.by)
            changed = bool(held) or not was
            return {"Node": node, "Fenced": True, "Released": held, "Changed": changed}

        return self._once("fence", node, {"confirmed": confirmed}, act, told)

    def forget(self, node: str, *, force: bool = False, **call: Unpack[Call]) -> JSON:
        """
        Delete all that the store knows of a node that will never come back.

        force
            Also volumes, snapshots and removed volumes whose only data were there: they are given
            up.

        Returns ``{"Node", "Lost": [volume], "Changed": True}``. Raises NotHere while the node
        lives; VolumeInUse where volumes are attached there (fence it first), or have their data
        there.
        """
        _need_flag("force", force)
        told = self._on(node, call)

        def act() -> JSON:
            self._need_known(node)
            self._need_dead(node, "forget", told.deadline)
            attached = [attachment.volume for attachment in self._fencing.attached(node)]
            if attached:
                raise VolumeInUse(
                    f"Attached on {node} is still: {_some(attached)}; fence {node} first"
                )
            lost = self._forgetting.only_there(node)
            if lost and not force:
                raise VolumeInUse(
                    f"Only {node} has the data of {_some(lost)}; bring it back, or give them up "
                    f"with force=True"
                )
            if not told.test:
                self._forgetting.forget(node, told.by)
            return {"Node": node, "Lost": lost, "Changed": True}

        return self._once("forget_node", node, {"force": force}, act, told)

    def _need_dead(self, node: str, verb: str, deadline: Deadline) -> None:
        """Wait for a dead node's leases to lapse; raise NotHere where they do not."""
        if node == self._context.node:
            raise InvalidInput(f"{node} is this node, and lives; {verb} it from another one")
        while self._nodes.living(node):
            if not deadline.left():
                raise NotHere(
                    f"{node} lives: its lease is being renewed; switch it off, then {verb} it"
                )
            time.sleep(min(POLL, deadline.left()))

    # -- alike in all -------------------------------------------------------------------------

    def _need_known(self, node: str) -> None:
        known = self._nodes.known()
        if node not in known and node != self._context.node:
            raise NoSuchNode(f"No such node: {node}; there are: {_some(known) or 'none'}")

    def _on(self, node: str, call: Call) -> Told:
        check_name(node, "node")
        return self._begin(node, call)


def _need_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be true or false, not {str(value)[:60]!r}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
