"""
The verbs on snapshots: create, remove, clone, roll back, list.

A snapshot is a record ``snapshots/V/S`` beside its volume's. Its ``Children`` are the volumes that
were cloned from it: stored there and nowhere else, compared by its removal, added by the begin of
a clone and taken out by the clone's undo or removal, each in the transaction that makes it true.

No verb holds two operations: create, remove and rollback hold the volume's, clone only the new
volume's, whose begin compares that none is on the source.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..controllers.contract import Controller, Snapshots, Wish
from ..errors import (
    LibstorageError,
    NoSuchSnapshot,
    NoSuchVolume,
    Superseded,
    Unsupported,
    VolumeExists,
    VolumeInUse,
)
from ..host import freezing
from ..records import JSON, MB, Snapshot, Volume, now
from ..store.contract import (
    Compare,
    Delete,
    Entry,
    KeyAbsent,
    KeyAtRevision,
    PrefixEmpty,
    Put,
    Store,
    Write,
)
from . import keys
from .context import Deadline
from .journal import Held, Journal, Rule, undo
from .mounts import refuse_if_attached
from .verbs import Verbs

Kept = tuple[Entry, Snapshot]


class SnapshotVerbs(Verbs):
    """Snapshots come into being, go, and give birth."""

    def _tell_rules(self, journal: Journal) -> None:
        journal.rule("snapshot_create", Rule(recover=self._recover_create))
        journal.rule("snapshot_rm", Rule(recover=self._finish_rm))
        journal.rule("rollback", Rule(recover=self._finish_rollback))
        journal.rule("clone", Rule(recover=self._recover_clone))

    # -- create -------------------------------------------------------------------------------

    def create(
        self, volume_name: str, name: str, *, by: JSON, deadline: Deadline, test: bool
    ) -> Snapshot:
        """
        Keep what a volume holds now, under ``VOLUME@SNAPSHOT``.

        A mounted one is frozen for the moment of the copy. Raises VolumeExists where there is a
        snapshot of that name, Unsupported where the volume can have none.
        """
        while True:
            entry, volume = self._volume(volume_name, deadline, test=test)
            self._need_where_attached(volume, "ask", test=test)
            self._ability(volume)
            key = keys.snapshot(volume_name, name)
            if self._store.get(key, linearizable=True) is not None:
                raise VolumeExists(f"Snapshot exists: {volume_name}@{name}")
            snapshot = Snapshot(
                name=name,
                volume=volume_name,
                id=str(uuid.uuid4()),
                created_by=self._context.node,
                created_at=now(),
                size=volume.mb_size * MB,
            )
            # What a dead process half mounted is released first.
            here = self._attachments.settled(volume_name, volume, deadline, recover=not test)
            if test:
                return snapshot
            free: list[Compare] = [
                KeyAtRevision(entry.key, entry.revision),
                KeyAbsent(key),
                self._attachments.unmoved(volume, here),
            ]
            arguments = _arguments(volume, snapshot, snapshot.id)
            held = self._journal.begin(
                volume_name, "snapshot_create", arguments, by, free, "snapshot"
            )
            if held is not None:
                self._make(held, volume, snapshot)
                return snapshot
            deadline.check(f"{volume_name} changes faster than this call can keep it; try again")

    def _make(self, held: Held, volume: Volume, snapshot: Snapshot) -> None:
        able = self._ability(volume)
        try:
            # Under the operation nobody mounts or unmounts it any more.
            point = self._attachments.mounted_at(volume.name)
            with self._attachments.limiter.resting(volume.name, held.step):
                able.snapshot_create(held.work, volume, snapshot, point)
            able.put_snapshot_copy(volume, snapshot, self._context.cluster)
            made = self._event("snapshot_create", snapshot, held.record.by)
            key = keys.snapshot(volume.name, snapshot.name)
            held.commit(lambda: ([KeyAbsent(key)], [Put(key, snapshot.to_json()), made]))
        except Superseded:
            raise
        except BaseException as exc:
            undo(held, lambda: self._take_back(held, volume, snapshot), exc)
            raise

    def _take_back(self, held: Held, volume: Volume, snapshot: Snapshot) -> None:
        """Thawed first: nothing else may touch a frozen filesystem."""
        freezing.thaw(self._attachments.point(volume.name))
        self._attachments.limiter.catch_up(volume.name)
        self._ability(volume).snapshot_remove(held.work, snapshot.id)

    def _recover_create(self, held: Held) -> None:
        volume, snapshot = self._subjects(held)
        held.undo()
        self._take_back(held, volume, snapshot)
        failed = self._event("snapshot_create", snapshot, held.record.by, _DIED)
        held.commit(lambda: ([], [failed]))

    # -- remove -------------------------------------------------------------------------------

    def rm(
        self, volume_name: str, name: str, *, by: JSON, deadline: Deadline, test: bool
    ) -> Snapshot:
        """Remove a snapshot. Raises NoSuchSnapshot; VolumeInUse while it has clones."""
        while True:
            _, volume = self._volume(volume_name, deadline, test=test)
            kept = self._kept(volume_name, name)
            entry, snapshot = kept
            if snapshot.children:
                raise VolumeInUse("Volume snapshot inuse")
            if test:
                return snapshot
            held = self._journal.begin(
                volume_name,
                "snapshot_rm",
                _arguments(volume, snapshot, snapshot.id),
                by,
                [KeyAtRevision(entry.key, entry.revision)],
                "destroy",
            )
            if held is not None:
                _finish(held, self._finish_rm)
                return snapshot
            deadline.check(f"{volume_name} changes faster than this call; try again")

    def _finish_rm(self, held: Held) -> None:
        volume, snapshot = self._subjects(held)
        self._ability(volume).snapshot_remove(held.work, snapshot.id)
        gone = self._event("snapshot_rm", snapshot, held.record.by)
        held.commit(lambda: ([], [Delete(keys.snapshot(volume.name, snapshot.name)), gone]))

    # -- roll back ----------------------------------------------------------------------------

    def rollback(
        self, volume_name: str, name: str, *, by: JSON, deadline: Deadline, test: bool
    ) -> Snapshot:
        """
        Bring a volume back to a snapshot; later snapshots and the current size stay.

        Raises VolumeInUse while it is mounted anywhere.
        """
        while True:
            entry, volume = self._volume(volume_name, deadline, test=test)
            kept, snapshot = self._kept(volume_name, name)
            self._ability(volume)
            if not test:
                self._attachments.tidy(volume, deadline)
            refuse_if_attached(self._attachments.everywhere(volume_name))
            if test:
                return snapshot
            held = self._journal.begin(
                volume_name,
                "rollback",
                _arguments(volume, snapshot, volume.id),
                by,
                [
                    KeyAtRevision(entry.key, entry.revision),
                    KeyAtRevision(kept.key, kept.revision),
                    PrefixEmpty(keys.attachments(volume_name)),
                ],
                "replace",
            )
            if held is not None:
                _finish(held, self._finish_rollback)
                return snapshot
            deadline.check(f"{volume_name} changes faster than this call can roll it back")

    def _finish_rollback(self, held: Held) -> None:
        volume, snapshot = self._subjects(held)
        self._ability(volume).rollback(held.work, volume, snapshot)
        done = self._event("rollback", snapshot, held.record.by)
        held.commit(lambda: ([], [done]))

    # -- clone --------------------------------------------------------------------------------

    def clone(
        self,
        volume_name: str,
        name: str,
        new: str,
        options: Mapping[str, str] | None,
        *,
        by: JSON,
        deadline: Deadline,
        test: bool,
    ) -> tuple[Volume, bool]:
        """
        Make a new volume from a snapshot.

        options
            Options of the new volume beside those of the snapshot's.

        Returns the record and whether it is new: the clone may have been made before. Raises
        VolumeExists where the name is taken by anything else.
        """
        while True:
            _, source = self._volume(volume_name, deadline, test=test)
            kept = self._kept(volume_name, name)
            able = self._ability(source)
            volume = self._child(source, kept[1], new, options)
            existing = self._lookup.settled(new, deadline, recover=not test)
            if existing is not None:
                return _same_clone(existing[1], volume, options), False
            self._controller(volume).check(volume)
            if test:
                return volume, True
            held = self._begin_clone(volume, kept, by)
            if held is not None:
                self._give_birth(held, able, volume, kept[1])
                return volume, True
            self._journal.settle(volume_name, deadline)
            deadline.check(f"{volume_name} changes faster than this call can clone it; try again")

    def _child(
        self, source: Volume, snapshot: Snapshot, name: str, options: Mapping[str, str] | None
    ) -> Volume:
        """The record of a clone: its source's, but for what makes it itself."""
        wish = Wish(
            policy=source.policy,
            mb_size=snapshot.size // MB,
            fstype=source.fstype,
            options={**source.options, **(options or {})},
        )
        shape = self._controller(source).normalise(wish)
        return replace(
            source,
            name=name,
            id=str(uuid.uuid4()),
            created_by=self._context.node,
            created_at=now(),
            mb_size=shape.mb_size,
            options=shape.options,
            is_clone=True,
            parent_snapshot=snapshot.full_name,
            qos_state=False,
            qos_profile="",
            labels={},
            protected=False,
            state="ok",
            revision=1,
            extra={},
        )

    def _begin_clone(self, volume: Volume, kept: Kept, by: JSON) -> Held | None:
        entry, snapshot = kept
        parent = replace(snapshot, children=[*snapshot.children, volume.name])
        return self._journal.begin(
            volume.name,
            "clone",
            {**volume.to_json(), "Snapshot": snapshot.to_json()},
            by,
            [
                KeyAbsent(keys.volume(volume.name)),
                KeyAbsent(keys.operation(snapshot.volume)),
                KeyAtRevision(entry.key, entry.revision),
            ],
            "clone",
            [Put(entry.key, parent.to_json())],
        )

    def _give_birth(self, held: Held, able: Snapshots, volume: Volume, snapshot: Snapshot) -> None:
        controller = self._controller(volume)
        try:
            able.clone(held.work, snapshot, volume)
            controller.put_copy(volume, self._context.cluster)
            born = self._events.success(
                volume.name, "clone", held.record.by, snapshot=snapshot.full_name
            )
            key = keys.volume(volume.name)
            held.commit(lambda: ([KeyAbsent(key)], [Put(key, volume.to_json()), born]))
        except Superseded:
            raise
        except BaseException as exc:
            undo(
                held,
                lambda: controller.destroy(held.work, volume.id),
                exc,
                changes=lambda: without_child(self._store, volume),
            )
            raise

    def _recover_clone(self, held: Held) -> None:
        volume = Volume.from_json(
            {k: v for k, v in held.record.arguments.items() if k != "Snapshot"}
        )
        held.undo()
        self._controller(volume).destroy(held.work, volume.id)
        failed = self._events.failure(
            volume.name, "clone", held.record.by, _DIED, snapshot=volume.parent_snapshot
        )

        def unborn() -> tuple[Sequence[Compare], Sequence[Write]]:
            compares, writes = without_child(self._store, volume)
            return compares, [*writes, failed]

        held.commit(unborn)

    # -- look ---------------------------------------------------------------------------------

    def ls(self, volume_name: str | None) -> list[JSON]:
        """The snapshots of a volume, or all, by name."""
        prefix = keys.snapshots(volume_name) if volume_name else keys.SNAPSHOTS
        return list(self._store.values(prefix))

    def info(self, names: Sequence[tuple[str, str]], deadline: Deadline) -> list[JSON]:
        """The records of snapshots. Raises NoSuchVolume, NoSuchSnapshot."""
        for volume_name, _ in names:
            self._lookup.known(volume_name, deadline)
        return [self._kept(*name)[0].value for name in names]

    # -- what the verbs share -----------------------------------------------------------------

    def _volume(self, name: str, deadline: Deadline, *, test: bool) -> tuple[Entry, Volume]:
        found = self._lookup.settled(name, deadline, recover=not test)
        if found is None:
            raise NoSuchVolume(name)
        self._need_here(found[1], "ask", test=test)
        return found

    def _kept(self, volume_name: str, name: str) -> Kept:
        entry = self._store.get(keys.snapshot(volume_name, name), linearizable=True)
        if entry is None:
            raise NoSuchSnapshot(f"No such snapshot: {volume_name}@{name}")
        return entry, Snapshot.from_json(entry.value)

    def _controller(self, volume: Volume) -> Controller:
        return self._context.controller(volume)

    def _ability(self, volume: Volume) -> Snapshots:
        """The volume's controller, as one that keeps snapshots. Raises Unsupported."""
        controller = self._controller(volume)
        if not isinstance(controller, Snapshots):
            raise Unsupported(f"{controller.name} keeps no snapshots: {volume.name} has none")
        controller.need_snapshots(volume)
        return controller

    def _subjects(self, held: Held) -> tuple[Volume, Snapshot]:
        """Volume and snapshot of an operation that a dead process began."""
        arguments = held.record.arguments
        return Volume.from_json(arguments["Volume"]), Snapshot.from_json(arguments["Snapshot"])

    def _event(self, verb: str, snapshot: Snapshot, by: JSON, reason: str = "") -> Put:
        if reason:
            return self._events.failure(
                snapshot.volume, verb, by, reason, snapshot=snapshot.full_name
            )
        return self._events.success(snapshot.volume, verb, by, snapshot=snapshot.full_name)


def without_child(store: Store, volume: Volume) -> tuple[list[Compare], list[Write]]:
    """What takes a clone out of its parent's Children; nothing for what is none."""
    if not volume.parent_snapshot:
        return [], []
    parent, _, name = volume.parent_snapshot.partition("@")
    entry = store.get(keys.snapshot(parent, name), linearizable=True)
    if entry is None:
        return [], []
    snapshot = Snapshot.from_json(entry.value)
    rest = replace(snapshot, children=[c for c in snapshot.children if c != volume.name])
    return [KeyAtRevision(entry.key, entry.revision)], [Put(entry.key, rest.to_json())]


_DIED = "its process ended before it was done"


def _arguments(volume: Volume, snapshot: Snapshot, id: str) -> JSON:
    """What an operation needs to be recovered; ``Id`` is that of the object it changes."""
    return {
        "Volume": volume.to_json(),
        "Snapshot": snapshot.to_json(),
        "Node": volume.node,
        "Id": id,
    }


def _finish(held: Held, finish: Callable[[Held], None]) -> None:
    """What has begun is finished, not undone: the next call goes on where this one fails."""
    try:
        finish(held)
    except LibstorageError as exc:
        if not isinstance(exc, Superseded):
            exc.add_note(f"The {held.record.verb} of {held.volume} goes on at the next call")
        raise
    finally:
        held.let_go()


def _same_clone(existing: Volume, wanted: Volume, options: Mapping[str, str] | None) -> Volume:
    if existing.parent_snapshot != wanted.parent_snapshot:
        raise VolumeExists(
            f"Volume exists with other options: parent "
            f"{existing.parent_snapshot or 'none'}, asked {wanted.parent_snapshot}"
        )
    if options is not None and existing.options != wanted.options:
        raise VolumeExists(
            f"Volume exists with other options: options {existing.options}, asked {wanted.options}"
        )
    return existing
