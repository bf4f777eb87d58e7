"""The verbs create and rm."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ..errors import (
    InvalidInput,
    LibstorageError,
    NoSuchVolume,
    Superseded,
    VolumeExists,
    VolumeInUse,
)
from ..host.commands import Work
from ..records import FSTYPES, JSON, Volume, now
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
from .context import Deadline
from .given import WORDS, Given, merge_labels
from .journal import Held, Journal, Rule, undo
from .mounts import refuse_if_attached
from .profiles import Profiles, need_limits
from .references import References
from .snapshots import without_child
from .trash import finish_removal, into_trash, removal
from .verbs import Verbs

REFERENCES_SECONDS = 1.0
"""For nodes to tell that a container has gone; it takes them a third of that."""
BATCH = 45
"""Data keys turned into purge keys in one transaction; each takes two writes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a create came to: the record, whether it is new, and what could not be had."""

    volume: Volume
    created: bool
    warnings: tuple[str, ...] = field(default=())


class Volumes(Verbs):
    """Volumes come into being and go."""

    def _tell_rules(self, journal: Journal) -> None:
        journal.rule("create", Rule(recover=self._recover_create))
        journal.rule("rm", Rule(recover=self._finish_rm, begun_means_gone=True, drop_unbegun=True))

    # -- create -------------------------------------------------------------------------------

    def create(
        self, name: str, given: Given, *, by: JSON, deadline: Deadline, test: bool
    ) -> Outcome:
        """
        Create a volume, or find the one that is as asked.

        Raises VolumeExists, naming the difference, where the name is taken by another; NoSpace,
        ToolMissing and BackendError from its controller.
        """
        while True:
            found = self._lookup.settled(name, deadline, recover=not test)
            if found is not None:
                return self._same(found[1], given)
            volume, warnings = self._wanted(name, given, by)
            self._context.controller(volume).check(volume)
            free, writes = self._limitable(volume)
            if not test:
                free.append(KeyAbsent(keys.volume(name)))
                held = self._journal.begin(
                    name, "create", volume.to_json(), by, free, "create", writes
                )
                if held is None:
                    deadline.check(f"{name} changes faster than this call can create it; try again")
                    continue
                self._make(held, volume)
            return Outcome(volume, True, warnings)

    def _wanted(self, name: str, given: Given, by: JSON) -> tuple[Volume, tuple[str, ...]]:
        """The record that the request would result in."""
        wish = given.over(None)
        shape = self._context.controllers.of_policy(wish.policy).normalise(wish)
        volume = Volume(
            name=name,
            voltype=shape.voltype,
            created_by=self._context.node,
            created_at=now(),
            policy=wish.policy,
            fstype=shape.fstype,
            mb_size=shape.mb_size,
            auto_migrate=shape.auto_migrate,
            shared=shape.shared,
            options=shape.options,
            labels=merge_labels({}, given.labels or {}),
            qos_profile=given.qos_profile or "",
            qos_state=bool(given.qos_state),
            id=str(uuid.uuid4()),
            node=self._context.node if shape.tied else "",
        )
        return volume, shape.warnings

    def _limitable(self, volume: Volume) -> tuple[list[Compare], list[Write]]:
        """Where it is created with limits: it can have them, and its profile stays meanwhile."""
        if volume.qos_state:
            need_limits(self._context.controller(volume), volume)
        if not volume.qos_profile:
            return [], []
        return Profiles(self._context).unmoved(volume.qos_profile)

    def _same(self, volume: Volume, given: Given) -> Outcome:
        """The existing volume, if all that was given would result in it."""
        wish = given.over(volume)
        if wish.policy != volume.policy:
            raise _differs({"policy": (volume.policy, wish.policy)})
        try:
            shape = self._context.controllers.of_policy(wish.policy).normalise(wish)
        except InvalidInput:
            # Another filesystem may not even fit the size that the volume has.
            if given.mb_size is None and given.fstype in FSTYPES and given.fstype != volume.fstype:
                raise _differs({"fstype": (volume.fstype, given.fstype)}) from None
            raise
        wanted = {
            "policy": wish.policy,
            "fstype": shape.fstype,
            "mb_size": shape.mb_size,
            "shared": shape.shared,
            "auto_migrate": shape.auto_migrate,
            "options": shape.options,
            "labels": merge_labels({}, given.labels or {}),
            "qos_profile": given.qos_profile,
            "qos_state": given.qos_state,
        }
        # Labels come and go: those that were not asked about are no difference.
        asked_about = {k: v for k, v in volume.labels.items() if k in (given.labels or {})}
        actual = replace(volume, labels=asked_about)
        differences = {
            WORDS[name]: (getattr(actual, name), wanted[name])
            for name in given.named()
            if getattr(actual, name) != wanted[name]
        }
        if differences:
            raise _differs(differences)
        return Outcome(volume, False, shape.warnings)

    def _make(self, held: Held, volume: Volume) -> None:
        controller = self._context.controller(volume)
        try:
            key = keys.volume(volume.name)
            made = self._events.success(volume.name, "create", held.record.by)
            writes: list[Write] = [Put(key, volume.to_json()), made]
            if controller.node_local(volume):
                # Each node makes its data at its first mount there; the copy is here from now on.
                mine = keys.data(volume.name, self._context.node)
                writes.append(Put(mine, {"id": volume.id, "made": False}))
            else:
                controller.create(held.work, volume)
            controller.put_copy(volume, self._context.cluster)
            held.commit(lambda: ([KeyAbsent(key)], writes))
        except Superseded:
            # It may have been recovered on another node, before the copy was put here.
            with suppress(LibstorageError):
                if controller.node_local(volume):
                    self._attachments.edits.copy_removed(volume)
            raise
        except BaseException as exc:
            undo(held, lambda: controller.destroy(_ending(held), volume.id), exc)
            raise

    def _recover_create(self, held: Held) -> None:
        volume = Volume.from_json(held.record.arguments)
        held.undo()
        controller = self._context.controller(volume)
        controller.destroy(held.work, volume.id)
        writes: list[Write] = [
            self._events.failure(
                volume.name, "create", held.record.by, "its process ended before it was done"
            )
        ]
        if controller.node_local(volume) and held.left_on != self._context.node:
            doomed = {"voltype": volume.voltype, "volume": volume.name}
            writes.append(Put(keys.purge(held.left_on, volume.id), doomed))
        held.commit(lambda: ([], writes))

    # -- rm -----------------------------------------------------------------------------------

    def rm(
        self,
        name: str,
        *,
        force: bool,
        by: JSON,
        deadline: Deadline,
        test: bool,
        purge: bool = False,
    ) -> Volume:
        """
        Remove a volume; its data are kept in the trash for as long as is configured.

        force
            Also where stopped containers refer to it; nothing else is overridden.
        purge
            Destroy the data now.

        Returns the record that was. Raises NoSuchVolume, VolumeInUse.
        """
        while True:
            found = self._lookup.settled(name, deadline, recover=not test)
            if found is None:
                raise NoSuchVolume(name)
            entry, volume = found
            self._need_here(volume, "remove", test=test)
            if test:
                here = self._attachments.settled(name, volume, deadline, recover=False)
                unused = not (here and here[1].users)
                self._refuse_if_held(volume, force, test=True, free_here=unused)
                return volume
            self._attachments.tidy(volume, deadline)
            self._refuse_if_held(volume, force)
            free = self._free(entry, volume, force)
            # What each node keeps for itself is purged by each, after the commit.
            step = "" if self._context.controller(volume).node_local(volume) else "destroy"
            arguments = volume.to_json()
            if not purge and (trash := removal(self._context, volume, by)):
                arguments, step = trash, "trash"
            held = self._journal.begin(name, "rm", arguments, by, free, step)
            if held is not None:
                self._remove(held)
                return volume
            deadline.check(f"{name} changes faster than this call can remove it; try again")

    def _refuse_if_held(
        self, volume: Volume, force: bool, *, test: bool = False, free_here: bool = False
    ) -> None:
        """
        Say what holds the volume; nothing is removed from under it.

        free_here
            Judge this node's attachment as gone: a removal would release it first.
        """
        name = volume.name
        if volume.protected:
            raise VolumeInUse(f"Volume is protected: {name}; unprotect it first")
        snapshots = [s["Name"] for s in self._store.values(keys.snapshots(name))]
        if snapshots:
            raise VolumeInUse(f"Volume has snapshots: {', '.join(snapshots)}")
        attached = self._attachments.everywhere(name)
        node = self._context.node
        refuse_if_attached([a for a in attached if not (free_here and a.node == node)])
        wait = 0 if test else REFERENCES_SECONDS
        referring = () if force else References(self._context).who(name, wait)
        if referring:
            raise VolumeInUse(
                f"Volume in use by {', '.join(referring)}; "
                f"remove the containers that refer to it, or use force=True"
            )
        held = self._context.controller(volume).in_use().get(volume.id)
        # What the dead have left of an attachment or operation would be released first.
        if held and not (free_here and (attached or self._journal.find(name))):
            raise VolumeInUse(
                f"Volume in use by {held} although it is not attached; run doctor fix=True"
            )

    def _free(self, entry: Entry, volume: Volume, force: bool) -> list[Compare]:
        compares: list[Compare] = [
            KeyAtRevision(entry.key, entry.revision),
            PrefixEmpty(keys.attachments(volume.name)),
            PrefixEmpty(keys.snapshots(volume.name)),
        ]
        return compares if force else [*compares, PrefixEmpty(keys.references(volume.name))]

    def _remove(self, held: Held) -> None:
        """What has begun is finished, not undone: the next call goes on where this one fails."""
        try:
            self._finish_rm(held)
        except LibstorageError as exc:
            if not isinstance(exc, Superseded):
                exc.add_note(f"The removal of {held.volume} goes on at the next call or doctor")
            raise
        finally:
            held.let_go()

    def _finish_rm(self, held: Held) -> None:
        if (trashed := into_trash(held.record)) is not None:
            finish_removal(self._context, self._events, held, trashed)
            return
        volume = Volume.from_json(held.record.arguments)
        controller = self._context.controller(volume)
        if not controller.node_local(volume):
            controller.destroy(held.work, volume.id)
        removed = self._events.success(volume.name, "rm", held.record.by)

        def gone() -> tuple[Sequence[Compare], Sequence[Write]]:
            data = list(self._store.list(keys.data(volume.name)))
            while len(data) > BATCH:
                held.step("purge")
                held.checkpoint([], _doom(volume, data[:BATCH]))
                data = data[BATCH:]
            compares, writes = without_child(self._store, volume)
            return compares, [
                Delete(keys.volume(volume.name)),
                Delete(keys.access(volume.name)),
                removed,
                *writes,
                *_doom(volume, data),
            ]

        held.commit(gone)
        self.purge()

    def purge(self) -> list[str]:
        """Delete this node's own data of volumes that were removed; returns their names."""
        purged = []
        for entry in self._store.list(keys.purge(self._context.node)):
            id = entry.key.rpartition("/")[2]
            controller = self._context.controllers.named(entry.value["voltype"])
            controller.destroy(Work(), id)
            self._store.transact([KeyAtRevision(entry.key, entry.revision)], [Delete(entry.key)])
            purged.append(str(entry.value["volume"]))
        return purged


def _doom(volume: Volume, data: Sequence[Entry]) -> list[Write]:
    """The nodes that hold data of a volume are to delete them, each its own."""
    writes: list[Write] = []
    for entry in data:
        node = entry.key.rpartition("/")[2]
        doomed = {"voltype": volume.voltype, "volume": volume.name}
        writes += [Delete(entry.key), Put(keys.purge(node, volume.id), doomed)]
    return writes


def _ending(held: Held) -> Work:
    """Time for an undo, also where the operation's own is used up."""
    return Work(held.record.token, 60)


def _differs(differences: Mapping[str, tuple[object, object]]) -> VolumeExists:
    said = ", ".join(
        f"{word} {_show(actual)}, asked {_show(asked)}"
        for word, (actual, asked) in differences.items()
    )
    return VolumeExists(f"Volume exists with other options: {said}")


def _show(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{k}={v}" for k, v in sorted(value.items())) or "none"
    return str(value) or "none"
