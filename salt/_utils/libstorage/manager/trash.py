"""
The trash: removed volumes whose data are kept for some days, as the configuration says.

The key
    ``trash/<Id>`` is a removed volume: its record, when it went, until when it is kept, by whom,
    and its ``data/<volume>/<node>`` keys. The data stay where they are: the backend knows them by
    their Id alone, so a new volume of the name never meets them. The copy of the record beside the
    data says that it is in the trash (``trashed``), so that a lost store is made anew with it.

The order
    * rm: an operation on V like every removal (the begin compares what has always kept a volume).
      Step ``trash``: the copy says so -> *commit*: the record and its ``data`` keys go, the clone
      goes from its parent's Children, ``trash/<Id>`` comes. Very many ``data`` keys move in
      checkpoints, each into the entry in the transaction that deletes it.
    * undelete: an operation on the name under which the volume comes back. Its begin compares that
      there is no such volume and the entry at the revision read, and puts a clone into its parent's
      Children again, where that snapshot still is. Step ``restore``: the copy says so -> *commit*:
      record and ``data`` keys come, the entry goes. Whose owner died, or what fails, is undone.
    * purge: an operation on the name that the volume had; it may exist anew meanwhile, and is not
      touched. Step ``destroy``, by Id -> *commit*: the entry goes, and what other nodes hold
      becomes their ``purge`` keys. What has begun is finished.

Two names, one Id
    Operations exclude each other by name, but ``undelete V new=A``, ``undelete V new=B`` and a
    purge of V hold three names. So each begin also writes its name into the entry, as ``Busy``,
    compared at the revision that showed none: of several exactly one begins, and the others wait
    for the operation that Busy names (or recover it, where its owner is dead) before they look
    again. An rm in checkpoints marks its half-filled entry in the same way.

    Busy is written by the transaction that begins the operation, and goes in the one that drops it.
    So an entry whose Busy names no operation on this Id was read before that one ended: the next
    compare of its revision fails. Who was stopped (SIGSTOP) and superseded fails at his next step
    or commit, which compare the operation's token, and nobody else changes an entry that is busy.

Why a crash between any two lines is harmless
    rm: until the commit the volume's record and operation are there, and recovery puts the copy and
    commits again. undelete: the entry is there until the commit; recovery lets the copy say again
    that it is in the trash, and takes the clone from its parent and the name from Busy. purge: the
    entry is there until all is destroyed.
"""

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from ..errors import (
    BackendError,
    LibstorageError,
    NoSpace,
    NoSuchVolume,
    NotInTrash,
    Superseded,
    VolumeExists,
)
from ..records import JSON, Operation, Snapshot, Trashed, Volume, in_days, now
from ..store.contract import Compare, Delete, Entry, KeyAbsent, KeyAtRevision, Put, Store, Write
from . import keys
from .context import Context, Deadline
from .events import Events
from .journal import Held, Journal, Rule, undo
from .snapshots import without_child
from .verbs import Verbs

BATCH = 90
"""Data keys that are moved in one transaction."""
NAMED = 10
"""Names that an error shows of what the trash holds."""

Kept = tuple[Entry, Trashed]


# -- rm: into the trash ---------------------------------------------------------------------------


def removal(context: Context, volume: Volume, by: JSON) -> JSON | None:
    """The arguments of a removal into the trash; None where the volume's policy has none."""
    days = context.config.days_in_trash(volume.policy)
    if not days:
        return None
    parent = _parent(context.store, volume)
    trashed = Trashed(
        volume=volume,
        at=now(),
        until=in_days(days),
        by=by,
        parent=str(parent.value["Id"]) if parent else "",
    )
    return {"Trashed": trashed.to_json(), "Node": volume.node, "Id": volume.id}


def into_trash(operation: Operation) -> Trashed | None:
    """What a removal puts into the trash; None for one that destroys, and for other verbs."""
    there = operation.verb == "rm" and operation.arguments.get("Trashed")
    return Trashed.from_json(there) if there else None


def finish_removal(context: Context, events: Events, held: Held, trashed: Trashed) -> None:
    """The copy says that the volume is in the trash, then the records do."""
    store, volume = context.store, trashed.volume
    key = keys.trash(volume.id)
    _mark_copy(context, trashed, _nodes(store, volume.name))
    event = events.success(volume.name, "rm", held.record.by, until=trashed.until)

    def gone() -> tuple[Sequence[Compare], Sequence[Write]]:
        begun = store.get(key, linearizable=True)
        nodes = dict(begun.value["Nodes"]) if begun else {}
        *most, rest = _batches(_nodes(store, volume.name))
        for batch in most:
            nodes |= batch
            half = replace(trashed, nodes=nodes, busy=volume.name)
            _checkpoint(held, [Put(key, half.to_json()), *_without(volume.name, batch)])
        whole = replace(trashed, nodes=nodes | rest)
        compares, writes = without_child(store, volume)
        return compares, [
            Delete(keys.volume(volume.name)),
            Delete(keys.access(volume.name)),
            Put(key, whole.to_json()),
            event,
            *writes,
            *_without(volume.name, rest),
        ]

    held.commit(gone)


# -- out of it ------------------------------------------------------------------------------------


class Trash(Verbs):
    """Removed volumes come back, or go for good."""

    def _tell_rules(self, journal: Journal) -> None:
        journal.rule("undelete", Rule(recover=self._recover_undelete))
        journal.rule("purge", Rule(recover=self._finish_purge))

    def ls(self, name: str | None) -> list[JSON]:
        """What the trash holds, or holds of a name, the oldest first."""
        found = [t for t in self._all() if name in (None, t.volume.name)]
        return [_row(trashed) for trashed in sorted(found, key=lambda trashed: trashed.at)]

    # -- undelete -----------------------------------------------------------------------------

    def undelete(
        self, name: str, id: str | None, new: str, *, by: JSON, deadline: Deadline, test: bool
    ) -> Volume:
        """
        Bring a removed volume back.

        id
            Its Id; None: the newest of that name.
        new
            The name under which it comes back.

        Raises NotInTrash; VolumeExists where the name is taken; NotHere.
        """
        while True:
            existing = self._lookup.settled(new, deadline, recover=not test)
            entry, trashed = self._wanted(name, id, deadline, recover=not test)
            if existing is not None:
                raise VolumeExists(
                    f"Volume exists: {new}; undelete the removed one under another name (new=NAME)"
                )
            self._need_here(trashed.volume, "undelete", test=test)
            restored, compares, writes = self._with_parent(trashed, new)
            if test:
                return restored
            held = self._journal.begin(
                new,
                "undelete",
                _arguments(trashed, restored),
                by,
                [*compares, KeyAbsent(keys.volume(new)), _unmoved(entry)],
                "restore",
                [*writes, _busy(entry, trashed, new)],
            )
            if held is not None:
                self._restore(held)
                return restored
            if restored.parent_snapshot:
                self._journal.settle(restored.parent_snapshot.partition("@")[0], deadline)
            deadline.check(f"{new} changes faster than this call can undelete it; try again")

    def _wanted(self, name: str, id: str | None, deadline: Deadline, *, recover: bool) -> Kept:
        """The removed volume that is meant. Raises NotInTrash, naming what is there."""
        for entry, trashed in self._named(name, deadline, recover=recover):
            if id in (None, trashed.volume.id):
                return entry, trashed
        asked = name if id is None else f"{name} with the Id {id}"
        names = sorted({trashed.volume.name for trashed in self._all()})
        more = ", ..." if len(names) > NAMED else ""
        holds = f"holds: {', '.join(names[:NAMED])}{more}" if names else "is empty"
        raise NotInTrash(f"No removed volume: {asked}; the trash {holds}")

    def _with_parent(self, trashed: Trashed, new: str) -> tuple[Volume, list[Compare], list[Write]]:
        """The record that comes back; where its parent snapshot still is, that has it again."""
        was = trashed.volume
        restored = replace(was, name=new, revision=was.revision + 1)
        entry = _parent(self._store, was)
        if entry is None or entry.value["Id"] != trashed.parent:
            return replace(restored, parent_snapshot=""), [], []
        snapshot = Snapshot.from_json(entry.value)
        parent = replace(snapshot, children=[*snapshot.children, new])
        # As a clone's begin: a snapshot that is being removed gets no child any more.
        idle = KeyAbsent(keys.operation(snapshot.volume))
        return restored, [_unmoved(entry), idle], [Put(entry.key, parent.to_json())]

    def _restore(self, held: Held) -> None:
        trashed, restored = _subjects(held)
        try:
            if data_here(self._context, restored, trashed.nodes):
                controller = self._context.controller(restored)
                controller.put_copy(restored, self._context.cluster)
            held.commit(lambda: self._back(held))
        except Superseded:
            raise
        except BaseException as exc:
            undo(held, lambda: self._take_back(held), exc, changes=lambda: self._stays(held))
            raise

    def _back(self, held: Held) -> tuple[Sequence[Compare], Sequence[Write]]:
        """The record and its data keys come, the entry goes."""
        trashed, restored = _subjects(held)
        *most, rest = _batches(trashed.nodes)
        for batch in most:
            _checkpoint(held, _with(restored.name, batch))
        key, entry = keys.volume(restored.name), keys.trash(restored.id)
        done = self._events.success(
            restored.name, "undelete", held.record.by, was=trashed.volume.name
        )
        return [KeyAbsent(key)], [
            Put(key, restored.to_json()),
            Delete(entry),
            done,
            *_with(restored.name, rest),
        ]

    def _take_back(self, held: Held) -> None:
        """The copy says again that it is in the trash; data keys that have come go."""
        trashed, restored = _subjects(held)
        _mark_copy(self._context, trashed, trashed.nodes)
        for batch in _batches(_nodes(self._store, restored.name)):
            _checkpoint(held, _without(restored.name, batch))

    def _stays(self, held: Held) -> tuple[list[Compare], list[Write]]:
        """Nobody works on the entry any more, and the parent has no such child."""
        trashed, restored = _subjects(held)
        compares, writes = without_child(self._store, restored)
        return compares, [Put(keys.trash(restored.id), trashed.to_json()), *writes]

    def _recover_undelete(self, held: Held) -> None:
        held.undo()
        self._take_back(held)
        reason = "its process ended before it was done"
        failed = self._events.failure(held.volume, "undelete", held.record.by, reason)

        def stays() -> tuple[Sequence[Compare], Sequence[Write]]:
            compares, writes = self._stays(held)
            return compares, [*writes, failed]

        held.commit(stays)

    # -- purge --------------------------------------------------------------------------------

    def purge(self, name: str, *, by: JSON, deadline: Deadline, test: bool) -> Volume:
        """
        Destroy all removed volumes of a name that this node can reach.

        Returns the record of the newest. Raises NoSuchVolume where there is none; NotHere, when
        the others are gone, for those whose data are on another node.
        """
        found = [trashed.volume for _, trashed in self._named(name, deadline, recover=not test)]
        if not found:
            raise NoSuchVolume(name)
        here = [volume for volume in found if volume.node in ("", self._context.node)]
        purged = [volume for volume in here if test or self._purge(volume, by, deadline)]
        for volume in found:
            self._need_here(volume, "purge", test=test)
        if test:
            return found[0]
        if not purged:
            raise NoSuchVolume(name)
        return purged[0]

    def _purge(self, volume: Volume, by: JSON, deadline: Deadline, *, due: bool = False) -> bool:
        """
        Destroy one; False where somebody was faster, or has brought it back.

        due
            Only where its time is over: it may have been back, and removed anew.
        """
        key = keys.trash(volume.id)
        while (kept := self._free(key, deadline, recover=True)) is not None:
            if due and kept[1].until > now():
                return False
            self._journal.settle(volume.name, deadline)
            held = self._journal.begin(
                volume.name,
                "purge",
                volume.to_json(),
                by,
                [_unmoved(kept[0])],
                "destroy",
                [_busy(*kept, volume.name)],
            )
            if held is not None:
                self._destroy(held)
                return True
            deadline.check(f"{volume.name} changes faster than this call can purge it; try again")
        return False

    def _destroy(self, held: Held) -> None:
        """What has begun is finished, not undone: the next call goes on where this one fails."""
        try:
            self._finish_purge(held)
        except LibstorageError as exc:
            if not isinstance(exc, Superseded):
                exc.add_note(f"The purge of {held.volume} goes on at the next call or doctor")
            raise
        finally:
            held.let_go()

    def _finish_purge(self, held: Held) -> None:
        volume = Volume.from_json(held.record.arguments)
        key = keys.trash(volume.id)
        self._context.controller(volume).destroy(held.work, volume.id)
        purged = self._events.success(volume.name, "purge", held.record.by)
        doomed = {"voltype": volume.voltype, "volume": volume.name}

        def gone() -> tuple[Sequence[Compare], Sequence[Write]]:
            entry = self._store.get(key, linearizable=True)
            if entry is None:
                return [], []  # a recovery has finished it: the operation is not ours any more
            others = {n: v for n, v in entry.value["Nodes"].items() if n != self._context.node}
            *most, rest = _batches(others)
            for batch in most:
                _checkpoint(held, [Put(keys.purge(node, volume.id), doomed) for node in batch])
            return [], [
                Delete(key),
                purged,
                *(Put(keys.purge(node, volume.id), doomed) for node in rest),
            ]

        held.commit(gone)

    # -- for the doctor, and for who finds no room --------------------------------------------

    def here(self) -> list[Trashed]:
        """The removed volumes whose data this node can reach, and that nobody works on."""
        return [t for t in self._all() if t.volume.node in ("", self._context.node) and not t.busy]

    def expire(self, trashed: Trashed, deadline: Deadline) -> None:
        """Destroy a volume whose time is over."""
        self._purge(trashed.volume, {"door": "doctor"}, deadline, due=True)

    def mend_copy(self, id: str) -> None:
        """Let the copy beside the data say again what the trash says; a volume elsewhere stays."""
        entry = self._store.get(keys.trash(id), linearizable=True)
        if entry is not None and not entry.value["Busy"]:
            trashed = Trashed.from_json(entry.value)
            if not data_here(self._context, trashed.volume, trashed.nodes):
                return
            controller = self._context.controller(trashed.volume)
            controller.put_copy(trashed.volume, self._context.cluster, trashed.state)

    @contextmanager
    def room(self, *, policy: str = "", volume: str = "") -> Iterator[None]:
        """
        Where there is no room for what is made inside, tell that the trash has some.

        policy, volume
            Whose controller it is made by.
        """
        try:
            yield
        except NoSpace as exc:
            # The store may have no room either.
            with suppress(LibstorageError):
                if policy:
                    voltype = self._context.controllers.of_policy(policy).name
                else:
                    found = self._lookup.record(volume)
                    voltype = found[1].voltype if found else ""
                self._tell_room(exc, voltype)
            raise

    def _tell_room(self, exc: NoSpace, voltype: str) -> None:
        held = [t.volume for t in self.here() if t.volume.voltype == voltype]
        size = sum(volume.mb_size for volume in held)
        if size:
            exc.add_note(f"the trash holds up to {size} MB, rm purge=True frees them")
        elif held:
            exc.add_note(f"the trash holds volumes ({len(held)}), rm purge=True frees their room")

    # -- what the verbs share -----------------------------------------------------------------

    def _all(self) -> list[Trashed]:
        return [Trashed.from_json(value) for value in self._store.values(keys.TRASH)]

    def _named(self, name: str, deadline: Deadline, *, recover: bool) -> list[Kept]:
        """
        The removed volumes of a name once nobody works on them, the newest first.

        recover
            A dead owner's work is recovered first; otherwise it is judged as recovery would leave
            it, and nothing is written.
        """
        found = self._being_removed(name, deadline, recover=recover)
        for entry in self._store.list(keys.TRASH, linearizable=True):
            if entry.value["Volume"]["Name"] == name:
                kept = self._free(entry.key, deadline, recover=recover)
                found += [kept] if kept else []
        return sorted(found, key=lambda kept: kept[1].at, reverse=True)

    def _being_removed(self, name: str, deadline: Deadline, *, recover: bool) -> list[Kept]:
        """What a dead process was about to put into the trash, where it is not recovered now."""
        there = self._journal.find(name)
        if there is None or into_trash(there[1]) is None:
            return []
        dead = self._journal.settle(name, deadline, recover=recover)
        trashed = into_trash(dead) if dead else None
        if trashed is None:
            return []
        return [(Entry(keys.trash(trashed.volume.id), trashed.to_json(), 0), trashed)]

    def _free(self, key: str, deadline: Deadline, *, recover: bool) -> Kept | None:
        """An entry once nobody works on it; None where it is gone, or will be."""
        while (entry := self._store.get(key, linearizable=True)) is not None:
            trashed = Trashed.from_json(entry.value)
            found = self._journal.find(trashed.busy) if trashed.busy else None
            if found is None or found[1].arguments.get("Id") != trashed.volume.id:
                return entry, trashed
            dead = self._journal.settle(trashed.busy, deadline, recover=recover)
            if dead is not None:
                # An rm's is told by _being_removed, a purge is finished.
                return (entry, trashed) if dead.verb == "undelete" else None
        return None


def _row(trashed: Trashed) -> JSON:
    volume = trashed.volume
    return {
        "Name": volume.name,
        "Id": volume.id,
        "Policy": volume.policy,
        "Fstype": volume.fstype,
        "MBSize": volume.mb_size,
        "TrashedAt": trashed.at,
        "Until": trashed.until,
        "By": trashed.by,
    }


def _arguments(trashed: Trashed, restored: Volume) -> JSON:
    """What an undelete needs to be recovered."""
    return {
        "Trashed": replace(trashed, busy="").to_json(),
        "Volume": restored.to_json(),
        "Node": restored.node,
        "Id": restored.id,
    }


def _subjects(held: Held) -> tuple[Trashed, Volume]:
    arguments = held.record.arguments
    return Trashed.from_json(arguments["Trashed"]), Volume.from_json(arguments["Volume"])


def _busy(entry: Entry, trashed: Trashed, name: str) -> Put:
    """The entry as the operation on ``name`` marks it."""
    return Put(entry.key, replace(trashed, busy=name).to_json())


def _unmoved(entry: Entry) -> KeyAtRevision:
    return KeyAtRevision(entry.key, entry.revision)


def _parent(store: Store, volume: Volume) -> Entry | None:
    """The snapshot that a clone names as its parent."""
    source, _, name = volume.parent_snapshot.partition("@")
    return store.get(keys.snapshot(source, name), linearizable=True) if name else None


def data_here(context: Context, volume: Volume, nodes: Container[str]) -> bool:
    """Are data of the volume on this node, or where every node reaches them?"""
    if context.controller(volume).node_local(volume):
        return context.node in nodes
    return volume.node in ("", context.node)


def _mark_copy(context: Context, trashed: Trashed, nodes: Container[str]) -> None:
    """Let the copy say that the volume is in the trash; on a full disk it lags, for the doctor."""
    if data_here(context, trashed.volume, nodes):
        try:
            controller = context.controller(trashed.volume)
            controller.put_copy(trashed.volume, context.cluster, trashed.state)
        except BackendError:
            return


def _nodes(store: Store, name: str) -> dict[str, JSON]:
    """The data keys of a volume, by node."""
    return {entry.key.rpartition("/")[2]: entry.value for entry in store.list(keys.data(name))}


def _batches(nodes: dict[str, JSON]) -> list[dict[str, JSON]]:
    """Data keys in portions for one transaction each; the last may be empty."""
    items = list(nodes.items())
    return [dict(items[i : i + BATCH]) for i in range(0, max(len(items), 1), BATCH)]


def _with(name: str, nodes: dict[str, JSON]) -> list[Write]:
    return [Put(keys.data(name, node), value) for node, value in nodes.items()]


def _without(name: str, nodes: dict[str, JSON]) -> list[Write]:
    return [Delete(keys.data(name, node)) for node in nodes]


def _checkpoint(held: Held, writes: Sequence[Write]) -> None:
    """Write beside the operation. Raises Superseded where it is another's."""
    while not held.checkpoint([], writes):
        pass
