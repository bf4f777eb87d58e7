"""
What the store knows of a node, deleted: the node will never come back.

Every step is a transaction of its own, and the node's closing keys go last: a call that dies is
simply made again. Data that only the node had are given up with their records; should the node
come back all the same, its copies of them are named by its doctor, and nothing is removed there.
"""

from collections.abc import Sequence

from ..errors import LibstorageError
from ..records import JSON, Operation, Trashed, Volume
from ..store.contract import (
    Compare,
    Delete,
    Entry,
    KeyAbsent,
    KeyAtRevision,
    PrefixEmpty,
    Put,
    Write,
)
from . import keys
from .context import Context
from .events import Events
from .owners import Owners
from .references import References

BATCH = 90
"""Keys that are deleted in one transaction."""


class Forgetting:
    """Deletes what is known of a node that is dead."""

    def __init__(self, context: Context, owners: Owners, events: Events) -> None:
        self._context = context
        self._store = context.store
        self._owners = owners
        self._events = events

    def only_there(self, node: str) -> list[str]:
        """The volumes, removed ones too, whose only data are on a node."""
        volumes = [volume.name for _, volume in self._volumes(node)]
        return sorted({*volumes, *(trashed.volume.name for _, trashed in self._trashed(node))})

    def forget(self, node: str, by: JSON) -> None:
        """Delete it, with an event for each volume that is given up."""
        for entry in self._store.list(keys.OPERATIONS):
            self._drop_operation(node, entry)
        # Clones before what they were cloned from.
        for entry, volume in sorted(self._volumes(node), key=lambda f: f[1].created_at)[::-1]:
            self._give_up(node, entry, volume, by)
        for entry, trashed in self._trashed(node):
            lost = self._events.success(trashed.volume.name, "lost", by, on=node)
            self._delete(entry, [lost])
        self._forget_shares(node)
        for prefix in (keys.purge(node), keys.delegated(node)):
            self._store.delete_range(prefix, _after(prefix))
        self._forget_itself(node, by)

    def _volumes(self, node: str) -> list[tuple[Entry, Volume]]:
        found = [(e, Volume.from_json(e.value)) for e in self._store.list(keys.VOLUMES)]
        return [(entry, volume) for entry, volume in found if volume.node == node]

    def _trashed(self, node: str) -> list[tuple[Entry, Trashed]]:
        found = [(e, Trashed.from_json(e.value)) for e in self._store.list(keys.TRASH)]
        return [(entry, trashed) for entry, trashed in found if trashed.volume.node == node]

    def _drop_operation(self, node: str, entry: Entry) -> None:
        """What only that node could have finished or undone."""
        operation = Operation.from_json(entry.value)
        if operation.arguments.get("Node") != node:
            return
        if not self._owners.dead(operation):
            raise LibstorageError(
                f"The {operation.verb} of {operation.volume} is still being done on "
                f"{operation.node}; wait for it, or see operations"
            )
        self._delete(entry)

    def _give_up(self, node: str, entry: Entry, volume: Volume, by: JSON) -> None:
        name = volume.name
        for prefix in (keys.snapshots(name), keys.references(name), keys.data(name)):
            self._delete_below(prefix)
        lost = self._events.success(name, "lost", by, on=node)
        compares: list[Compare] = [
            KeyAtRevision(entry.key, entry.revision),
            KeyAbsent(keys.operation(name)),
            PrefixEmpty(keys.attachments(name)),
        ]
        writes: list[Write] = [Delete(entry.key), Delete(keys.access(name)), lost]
        if self._store.transact(compares, writes) is None:
            raise LibstorageError(f"{name} changes while it is given up; try again")

    def _forget_shares(self, node: str) -> None:
        """The node's own data of volumes that have data on other nodes too."""
        for entry in self._store.list("data/"):
            if entry.key.rpartition("/")[2] == node:
                self._delete(entry)
        for entry in self._store.list(keys.TRASH):
            nodes = dict(entry.value["Nodes"])
            if nodes.pop(node, None) is not None:
                unmoved = KeyAtRevision(entry.key, entry.revision)
                self._store.transact([unmoved], [Put(entry.key, {**entry.value, "Nodes": nodes})])
        References(self._context).drop(node)
        for entry in self._store.list("capacity/"):
            if entry.key.rpartition("/")[2] == node:
                self._delete(entry)

    def _forget_itself(self, node: str, by: JSON) -> None:
        for entry in self._store.list(keys.OWNERS):
            if entry.value.get("node") == node:
                self._store.release(entry.key.removeprefix(keys.OWNERS))
        forgotten = self._events.success(node, "forget_node", by)
        own = (keys.node(node), keys.drained(node), keys.fenced(node))
        self._store.transact([], [*map(Delete, own), forgotten])

    def _delete(self, entry: Entry, writes: Sequence[Write] = ()) -> None:
        unmoved = KeyAtRevision(entry.key, entry.revision)
        self._store.transact([unmoved], [Delete(entry.key), *writes])

    def _delete_below(self, prefix: str) -> None:
        found = [Delete(entry.key) for entry in self._store.list(prefix)]
        for start in range(0, len(found), BATCH):
            self._store.transact([], found[start : start + BATCH])


def _after(prefix: str) -> str:
    """The end of the range of all keys with a prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
