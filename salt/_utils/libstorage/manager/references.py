"""
References: which containers, running or not, refer to a volume.

The key
    ``references/V/<node>`` names the containers on that node that were made with volume V. One
    that is stopped has nothing attached and wants its data all the same, so ``rm`` compares that
    there are none.

The truth is the engine's: the node's bridge tells what it sees there, and only what has changed.
Nobody's mount is decided here: a key that lags lets a volume go whose container was made in that
moment and has not started; and a removal waits a moment for containers that have just gone.
"""

from collections.abc import Mapping, Sequence

from ..records import Reference
from ..store.contract import Compare, Delete, Entry, KeyAbsent, KeyAtRevision, Put, Write
from . import keys
from .context import Context, Deadline
from .nodes import Nodes

BATCH = 90
"""Keys that are written in one transaction."""


class References:
    """Writes this node's, and reads all."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def who(self, name: str, wait: float = 0) -> list[str]:
        """
        The containers that refer to a volume, as ``container@node``.

        wait
            Seconds to wait for the last of them to go: a node tells of an end after it.
        """
        patience = Deadline(wait)
        while found := list(self._store.list(keys.references(name), linearizable=True)):
            if not patience.left():
                break
            self._context.await_change(found[0], patience.left())
        return [who for entry in found for who in Reference.from_json(entry.value).who]

    def nodes(self) -> set[str]:
        """The nodes that have any."""
        return {entry.key.rpartition("/")[2] for entry in self._store.list(keys.REFERENCES)}

    def tell(
        self, engine: str, containers: Mapping[str, Sequence[str]], *, whole: bool
    ) -> list[str]:
        """
        Write what an engine of this node says; a node that is fenced says nothing.

        containers
            The ids by volume; none where no container refers to it any more.
        whole
            The engine has none of any other volume.

        Returns the names of the volumes whose keys were changed.
        """
        wanted = {name: sorted(ids) for name, ids in containers.items()}
        left, changed = set(wanted), []
        if whole:
            mine = self._of(self._context.node)
            left |= {entry.key.split("/")[1] for entry in mine}
        while left and self._store.get(keys.fenced(self._context.node)) is None:
            batch = sorted(left)[:BATCH]
            pairs = [pair for name in batch if (pair := self._due(name, engine, wanted))]
            compares = [Nodes(self._context).unfenced(), *(compare for compare, _ in pairs)]
            writes = [write for _, write in pairs]
            # Where another engine of this node was faster, it is read again.
            if not writes or self._store.transact(compares, writes) is not None:
                changed += [write.key.split("/")[1] for write in writes]
                left -= set(batch)
        return changed

    def _due(
        self, name: str, engine: str, wanted: Mapping[str, Sequence[str]]
    ) -> tuple[Compare, Write] | None:
        """What has to be written of a volume; None where it is as the engine says."""
        node = self._context.node
        key = keys.reference(name, node)
        entry = self._store.get(key, linearizable=True)
        engines = dict(Reference.from_json(entry.value).engines) if entry else {}
        ids = list(wanted.get(name, ()))
        if engines.get(engine, []) == ids:
            return None
        engines[engine] = ids
        engines = {one: known for one, known in engines.items() if known}
        compare = KeyAtRevision(key, entry.revision) if entry else KeyAbsent(key)
        if not engines:
            return compare, Delete(key)
        return compare, Put(key, Reference(volume=name, node=node, engines=engines).to_json())

    def drop(self, node: str) -> None:
        """Forget all of a node that is dead."""
        found: list[Write] = [Delete(entry.key) for entry in self._of(node)]
        for start in range(0, len(found), BATCH):
            self._store.transact([], found[start : start + BATCH])

    def _of(self, node: str) -> list[Entry]:
        entries = self._store.list(keys.REFERENCES)
        return [entry for entry in entries if entry.key.rpartition("/")[2] == node]
