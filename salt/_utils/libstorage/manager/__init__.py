"""
The volume manager: the only one that changes volumes.

:class:`VolumeManager` is the interface that doors use, and that another manager must offer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from .. import __version__
from ..config import DAY, Config
from ..errors import Elsewhere, InvalidInput, NoSuchVolume
from ..records import JSON, User, Volume, check_name, now, split_snapshot
from ..store import open_store
from .agent import Agent
from .attachments import Attachments
from .capacity import Capacity
from .context import SCHEMA, Context, Deadline
from .delegation import Delegation
from .doctor import Doctor
from .edits import Edits
from .events import Events
from .given import Given, merge_labels, read_labels
from .growth import Growth
from .journal import Journal
from .limiter import Limiter
from .lookup import Lookup
from .mounts import Mounts, Presence
from .nodes import Nodes
from .owners import Owners, describe
from .profiles import Profiles
from .qos import QoS
from .rebuild import Rebuild
from .requests import Request, Requests
from .snapshots import SnapshotVerbs
from .trash import Trash
from .usage import Usage
from .views import Views
from .volumes import Volumes

__all__ = ["Given", "Request", "VolumeManager", "merge_labels", "read_labels"]


DELEGATED = (
    *("rm", "undelete", "resize", "usage"),
    *("snapshot_create", "snapshot_rm", "snapshot_clone", "rollback"),
)
"""The verbs that are done where the data are, whoever is asked."""


class Shared(TypedDict):
    """What these verbs are told alike."""

    by: JSON
    deadline: Deadline
    test: bool


class VolumeManager:
    """
    All verbs of one node; those on limits are at ``qos``.

    Arguments that several verbs share:

    by
        Who asks: ``door`` (salt, cli, docker) and what it knows of user and job. Events tell it.
    timeout
        Seconds to wait for another's work on the same volume; None: as configured.
    test
        Find out what would be done, raise what would be raised, and write nothing.
    request
        The Salt job that this call is part of: nodes of one job act once. None: it stands alone.

    Every verb raises InvalidInput for what cannot be meant, StoreUnavailable, OperationInProgress
    when ``timeout`` is over, and what its own description names.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._store = open_store(config, lambda: describe(config.node))
        self._context = context = Context(config, self._store)
        owners = Owners(context)
        self._events = Events(context)
        self._journal = Journal(context, owners)
        lookup = Lookup(context, self._journal)
        self._edits = Edits(context, self._journal, lookup, self._events)
        profiles = Profiles(context)
        limiter = Limiter(context, profiles)
        attachments = Attachments(context, owners, self._edits, self._events, limiter)
        parts = (context, self._journal, lookup, attachments, self._events)
        self._snapshots = SnapshotVerbs(*parts)
        self._volumes = Volumes(*parts)
        self._trash = Trash(*parts)
        self._growth = Growth(*parts)
        self._mounts = Mounts(*parts)
        self._usage = Usage(*parts)
        self._rebuild = Rebuild(context, profiles)
        self._views = Views(context, self._journal, lookup, limiter)
        self._requests = Requests(context, owners)
        self.qos = QoS(
            context,
            lookup,
            self._edits,
            self._events,
            self._requests,
            profiles,
            limiter,
            self._begin,
        )
        self._capacity = Capacity(context, self._events)
        self._nodes = Nodes(context)
        self._delegation = Delegation(context, self._nodes)
        self._doctor = Doctor(
            context,
            owners,
            self._journal,
            lookup,
            attachments,
            self._volumes,
            self._events,
            self._requests,
            profiles,
            limiter,
            self._trash,
            self._capacity,
            self._delegation,
            self._nodes,
        )

    # -- volumes ------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        given: Given,
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """
        Create a volume, or find the one that is as asked.

        Returns ``{"Volume": record, "Created": bool, "Warnings": [sentence]}``. Raises
        VolumeExists, naming the difference; NoSpace, ToolMissing, Unsupported, BackendError.
        """
        deadline = self._begin(name, timeout)
        by = by or {}

        def act() -> JSON:
            room = self._trash.room(policy=given.over(None).policy)
            with self._events.refusals(name, "create", by, test=test), room:
                outcome = self._volumes.create(name, given, by=by, deadline=deadline, test=test)
            if outcome.created and not test:
                self._capacity.after(outcome.volume.voltype, by)
            return {
                "Volume": outcome.volume.to_json(),
                "Created": outcome.created,
                "Warnings": list(outcome.warnings),
            }

        arguments = {field: getattr(given, field) for field in given.named()}
        job = None if test else request
        return self._requests.once(job, "create", name, arguments, deadline, act)

    def rm(
        self,
        name: str,
        *,
        force: bool = False,
        purge: bool = False,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """
        Remove a volume; its data are kept in the trash for as long as is configured.

        force
            Also where stopped containers refer to it; nothing else is overridden.
        purge
            Destroy the data now; where there is no such volume, those of removed ones.

        Returns the record that was. Raises NoSuchVolume; VolumeInUse, naming what holds it.
        """
        if not isinstance(purge, bool):
            raise InvalidInput(f"purge must be true or false, not {str(purge)[:60]!r}")
        deadline = self._begin(name, timeout)
        by = by or {}

        def act() -> JSON:
            with self._events.refusals(name, "rm", by, test=test):
                try:
                    volume = self._volumes.rm(
                        name, force=force, purge=purge, by=by, deadline=deadline, test=test
                    )
                except NoSuchVolume:
                    if not purge:
                        raise
                    volume = self._trash.purge(name, by=by, deadline=deadline, test=test)
            return volume.to_json()

        call = {"force": force, "purge": purge}
        told = Shared(by=by, deadline=deadline, test=test)
        return self._once("rm", name, call, act, told, request, {"name": name, **call})

    def undelete(
        self,
        name: str,
        *,
        id: str | None = None,
        new: str | None = None,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """
        Bring a removed volume back from the trash, with its data.

        id
            The Id of the one that is meant; None: the newest of that name.
        new
            The name that it gets; None: the one that it had.

        Returns its record. Raises NotInTrash, naming what is there; VolumeExists where the name is
        taken; NotHere where its data are on another node.
        """
        if id is not None:
            check_name(id, "volume Id")
        check_name(name)
        target = name if new is None else new
        deadline = self._begin(target, timeout)
        by = by or {}

        def act() -> JSON:
            with self._events.refusals(target, "undelete", by, test=test):
                volume = self._trash.undelete(name, id, target, by=by, deadline=deadline, test=test)
            return volume.to_json()

        call = {"name": name, "id": id}
        told = Shared(by=by, deadline=deadline, test=test)
        return self._once("undelete", target, call, act, told, request, {**call, "new": target})

    def trash_ls(self, name: str | None = None) -> list[JSON]:
        """
        The removed volumes (of a name) that are kept, the oldest first.

        Returns ``[{"Name", "Id", "Policy", "Fstype", "MBSize", "TrashedAt", "Until", "By"}]``.
        """
        if name is not None:
            check_name(name)
        self._context.need_store()
        return self._trash.ls(name)

    def info(self, *names: str, timeout: float | None = None) -> list[JSON]:
        """The records of volumes, with their derived fields. Raises NoSuchVolume."""
        for name in names:
            check_name(name)
        self._context.need_store()
        return self._views.info(names, Deadline(self._patience(timeout)))

    def ls(self, filters: Sequence[str] = ()) -> list[JSON]:
        """All volumes, by name, that match every filter (``KEY=PATTERN``)."""
        self._context.need_store()
        return self._views.ls(filters)

    def usage(
        self,
        *names: str,
        summary: bool = True,
        by: JSON | None = None,
        timeout: float | None = None,
    ) -> list[JSON]:
        """
        The room that the files of volumes take on this node.

        summary
            Directories only; otherwise every file.

        Returns ``[{"Name", "Usage": [{"file", "size"}], "Size", "Err", "Node"}]``. Raises
        NoSuchVolume, NotHere; what the storage refuses stands in Err.
        """
        deadline = Deadline(self._patience(timeout))
        for name in names:
            check_name(name)
        self._context.need_store()
        return [self._usage_of(name, summary, by or {}, deadline) for name in names]

    def _usage_of(self, name: str, summary: bool, by: JSON, deadline: Deadline) -> JSON:
        try:
            return self._usage.read(name, summary=summary, by=by, deadline=deadline)
        except Elsewhere as exc:
            there = {"names": [name], "summary": summary}
            answer = self._delegation.ask(exc.node, name, "usage", there, by, deadline)
            row: JSON = answer[0]
            return row

    def resize(
        self,
        name: str,
        size: object,
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """
        Make a volume larger, mounted or not.

        size
            MB, in all.

        Returns ``{"Volume": record, "Changed": bool}``. Raises NoSuchVolume; InvalidInput for less
        than it has; Unsupported where it cannot grow, or not while it is mounted; NoSpace.
        """
        wanted = Given.of(size=size).mb_size
        if wanted is None:
            raise InvalidInput("resize needs a size in MB")
        deadline = self._begin(name, timeout)
        by = by or {}

        def act() -> JSON:
            room = self._trash.room(volume=name)
            with self._events.refusals(name, "resize", by, test=test), room:
                volume, changed = self._growth.resize(
                    name, wanted, by=by, deadline=deadline, test=test
                )
            if changed and not test:
                self._capacity.after(volume.voltype, by)
            return {"Volume": volume.to_json(), "Changed": changed}

        call = {"size": wanted}
        told = Shared(by=by, deadline=deadline, test=test)
        return self._once("resize", name, call, act, told, request, {"name": name, **call})

    # -- snapshots ----------------------------------------------------------------------------

    def snapshot_create(
        self,
        snapshot: str,
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """
        Keep what a volume holds now, as ``VOLUME@SNAPSHOT``; a mounted one is frozen for the copy.

        Returns the snapshot's record. Raises NoSuchVolume; VolumeExists where there is one of that
        name; Unsupported where the volume can have none.
        """

        def act(volume: str, name: str, shared: Shared) -> JSON:
            kept = self._snapshots.create(volume, name, **shared)
            if not test:
                self._capacity.after_on(volume, shared["by"])
            return kept.to_json()

        return self._on_snapshot("snapshot_create", snapshot, act, by, timeout, test, request)

    def snapshot_rm(
        self,
        snapshot: str,
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """
        Remove a snapshot.

        Returns the record that was. Raises NoSuchSnapshot; VolumeInUse while it has clones.
        """

        def act(volume: str, name: str, shared: Shared) -> JSON:
            return self._snapshots.rm(volume, name, **shared).to_json()

        return self._on_snapshot("snapshot_rm", snapshot, act, by, timeout, test, request)

    def rollback(
        self,
        snapshot: str,
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """
        Bring a volume back to a snapshot; later snapshots and the current size stay.

        Returns the snapshot's record. Raises NoSuchSnapshot; VolumeInUse while it is mounted.
        """

        def act(volume: str, name: str, shared: Shared) -> JSON:
            return self._snapshots.rollback(volume, name, **shared).to_json()

        return self._on_snapshot("rollback", snapshot, act, by, timeout, test, request)

    def snapshot_clone(
        self,
        snapshot: str,
        new: str,
        *,
        options: Mapping[str, str] | None = None,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """
        Make a new volume from a snapshot, or find the clone that was made before.

        options
            The new volume's options, beside those of the snapshot's volume.

        Returns ``{"Volume": record, "Created": bool}``. Raises NoSuchSnapshot; VolumeExists where
        the name is taken by anything else.
        """
        volume, name = split_snapshot(snapshot)
        deadline = self._begin(new, timeout)
        by = by or {}

        def act() -> JSON:
            told = self._events.refusals(new, "clone", by, test=test, snapshot=f"{volume}@{name}")
            with told, self._trash.room(volume=volume):
                made, created = self._snapshots.clone(
                    volume, name, new, options, by=by, deadline=deadline, test=test
                )
            if created and not test:
                self._capacity.after(made.voltype, by)
            return {"Volume": made.to_json(), "Created": created}

        call = {"snapshot": snapshot, "options": dict(options or {})}
        shared = Shared(by=by, deadline=deadline, test=test)
        there = {"snapshot": snapshot, "new": new, "options": options}
        return self._once("snapshot_clone", new, call, act, shared, request, there)

    def snapshot_ls(self, volume: str | None = None) -> list[JSON]:
        """The snapshots of a volume, or all. Raises NoSuchVolume."""
        self._context.need_store()
        if volume is not None:
            self.info(volume)
        return self._snapshots.ls(volume)

    def snapshot_info(self, *snapshots: str, timeout: float | None = None) -> list[JSON]:
        """The records of snapshots (``VOLUME@SNAPSHOT``). Raises NoSuchVolume, NoSuchSnapshot."""
        names = [split_snapshot(snapshot) for snapshot in snapshots]
        self._context.need_store()
        return self._snapshots.info(names, Deadline(self._patience(timeout)))

    def _on_snapshot(
        self,
        verb: str,
        snapshot: str,
        act: Callable[[str, str, Shared], JSON],
        by: JSON | None,
        timeout: float | None,
        test: bool,
        request: Request | None,
    ) -> JSON:
        volume, name = split_snapshot(snapshot)
        deadline = self._begin(volume, timeout)
        shared = Shared(by=by or {}, deadline=deadline, test=test)

        def once() -> JSON:
            with self._events.refusals(
                volume, verb, shared["by"], test=test, snapshot=f"{volume}@{name}"
            ):
                return act(volume, name, shared)

        call = {"snapshot": f"{volume}@{name}"}
        return self._once(verb, volume, call, once, shared, request, call)

    def _once(
        self,
        verb: str,
        name: str,
        arguments: JSON,
        act: Callable[[], JSON],
        shared: Shared,
        request: Request | None,
        there: JSON,
    ) -> JSON:
        """
        Act once in a job, and where the data are.

        there
            The verb's arguments, for the node that has them.
        """

        def wherever() -> JSON:
            try:
                return act()
            except Elsewhere as exc:
                assert not shared["test"], "a test run asks nobody"
                asked: JSON = self._delegation.ask(
                    exc.node, name, verb, there, shared["by"], shared["deadline"]
                )
                return asked

        job = None if shared["test"] else request
        return self._requests.once(job, verb, name, arguments, shared["deadline"], wherever)

    # -- edits --------------------------------------------------------------------------------

    def label(
        self,
        name: str,
        labels: Mapping[str, str],
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """
        Set labels of a volume; one with an empty value is removed.

        Returns the record as it is, or under ``test`` would be. Raises NoSuchVolume.
        """
        deadline = self._begin(name, timeout)

        def act() -> Volume:
            return self._edits.label(name, labels, by=by or {}, deadline=deadline, test=test)

        job = None if test else request
        return self._edit("label", name, {"labels": dict(labels)}, deadline, act, by, test, job)

    def protect(
        self,
        name: str,
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """
        Let a volume be removed by nobody until it is unprotected.

        Returns the record as it is, or under ``test`` would be. Raises NoSuchVolume.
        """
        return self._protect(name, True, by, timeout, test, request)

    def unprotect(
        self,
        name: str,
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """Let a protected volume be removed again; the rest as protect."""
        return self._protect(name, False, by, timeout, test, request)

    def _protect(
        self,
        name: str,
        protected: bool,
        by: JSON | None,
        timeout: float | None,
        test: bool,
        request: Request | None,
    ) -> JSON:
        deadline = self._begin(name, timeout)

        def act() -> Volume:
            return self._edits.protect(name, protected, by=by or {}, deadline=deadline, test=test)

        job = None if test else request
        verb = "protect" if protected else "unprotect"
        return self._edit(verb, name, {}, deadline, act, by, test, job)

    def _edit(
        self,
        verb: str,
        name: str,
        arguments: JSON,
        deadline: Deadline,
        edit: Callable[[], Volume],
        by: JSON | None,
        test: bool,
        job: Request | None,
    ) -> JSON:
        """An edit with its refusal's event, once in a job."""

        def act() -> JSON:
            with self._events.refusals(name, verb, by or {}, test=test):
                return edit().to_json()

        return self._requests.once(job, verb, name, arguments, deadline, act)

    # -- mounts -------------------------------------------------------------------------------

    def mount(
        self,
        name: str,
        *,
        engine: str = "salt",
        id: str = "salt",
        container: str = "",
        cgroup: str = "",
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
    ) -> JSON:
        """
        Mount a volume on this node for the user (engine, id).

        container
            The container that the id stands for, where it is known.
        cgroup
            The cgroup of its processes (``/docker/...``): the volume's limits act there.

        Returns ``{"Name", "Mountpoint", "Containers", "Changed"}``: what is, or under ``test``
        would be, on this node. Raises NoSuchVolume, VolumeInUse, NotHere, Damaged, BackendError.
        """
        deadline = self._begin(name, timeout)
        user = User(engine=engine, id=_user_id(id), container=container, cgroup=cgroup, at=now())
        with self._events.refusals(name, "mount", by or {}, test=test):
            presence = self._mounts.mount(name, user, by=by or {}, deadline=deadline, test=test)
        return _presence(name, presence)

    def unmount(
        self,
        name: str,
        *,
        engine: str = "salt",
        id: str = "salt",
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
    ) -> JSON:
        """
        Take the user (engine, id) off a volume on this node; the last one out detaches it.

        Returns ``{"Name", "Mountpoint", "Containers", "Changed"}`` like mount. Raises
        NoSuchVolume; MountBusy, naming the holder.
        """
        deadline = self._begin(name, timeout)
        with self._events.refusals(name, "unmount", by or {}, test=test):
            presence = self._mounts.unmount(
                name, engine, _user_id(id), by=by or {}, deadline=deadline, test=test
            )
        return _presence(name, presence)

    # -- what is and was going on -------------------------------------------------------------

    def events(
        self, since: object = None, until: object = None, filters: Sequence[str] = ()
    ) -> list[JSON]:
        """The events between two times (RFC 3339, Unix seconds, or an age such as ``10m``)."""
        self._context.need_store()
        return self._events.list(since, until, filters)

    def operations(self) -> list[JSON]:
        """The changes in progress; ``Alive`` tells whether somebody still works on them."""
        self._context.need_store()
        return self._views.operations()

    def doctor(
        self, *, fix: bool = False, rebuild: bool = False, timeout: float | None = None
    ) -> list[JSON]:
        """
        What disagrees between store, backend, mount table and loop devices on this node.

        fix
            Mend it: finish or undo what dead processes left, remove what nobody knows.
        rebuild
            Make an empty store anew from the copies of records that lie with the data.

        Returns ``[{"Kind", "Name", "Says", "Fixed"}]``; Fixed is None where nothing was tried.
        """
        deadline = Deadline(self._patience(timeout))
        if fix:
            # An owner of our own is what others' leases are compared with.
            self._store.owner()
        self._context.schema()
        if rebuild:
            return self._rebuild.run()
        return self._doctor.examine(fix=fix, deadline=deadline)

    # -- nodes --------------------------------------------------------------------------------

    def nodes(self) -> list[JSON]:
        """
        The nodes that have an agent, an attachment or data, by name.

        Returns their records with ``Alive`` (its agent lives), ``Attached`` and ``Data`` (how many
        volumes).
        """
        self._context.need_store()
        return self._nodes.ls()

    def agent(self) -> Agent:
        """This node's agent; its ``run`` works until it is stopped."""
        return Agent(
            self._context, self._nodes, self._delegation, self._doctor, self.qos, self._perform
        )

    def _perform(self, verb: str, arguments: JSON, by: JSON) -> Any:
        """Do what another node asks of this one."""
        if verb not in DELEGATED:
            raise InvalidInput(f"{verb} is nothing that {self.config.node} does for other nodes")
        rest = dict(arguments)
        names = rest.pop("names", ())
        return getattr(self, verb)(*names, **rest, by=by)

    def version(self) -> JSON:
        """Versions of libstorage and of the store's schema, the manager's name, the directories."""
        return {
            "libstorage": __version__,
            "schema": SCHEMA,
            "manager": self.config.manager,
            "store": self.config.store["kind"],
            "root": str(self.config.root),
            "mount_root": str(self.config.mount_root),
        }

    def close(self) -> None:
        """End this process's owner and let go of the store."""
        self._store.close()

    # -- what every verb begins with ----------------------------------------------------------

    def _begin(self, name: str, timeout: float | None) -> Deadline:
        """Check the name and the store."""
        check_name(name)
        deadline = Deadline(self._patience(timeout))
        self._context.need_store()
        return deadline

    def _patience(self, timeout: Any) -> float:
        if timeout is None or timeout == "":
            return self.config.timeout
        try:
            seconds = float(timeout)
        except (TypeError, ValueError):
            seconds = math.nan
        if isinstance(timeout, bool) or not 0 <= seconds <= DAY:
            raise InvalidInput(
                f"timeout must be a number of seconds from 0 to {DAY}, not {str(timeout)[:60]!r}"
            )
        return seconds


def _user_id(id: object) -> str:
    return check_name(str(id), "user id")


def _presence(name: str, presence: Presence) -> JSON:
    return {
        "Name": name,
        "Mountpoint": presence.mountpoint,
        "Containers": list(presence.users),
        "Changed": presence.changed,
    }
