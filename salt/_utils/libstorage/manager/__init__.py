"""
The volume manager: the only one that changes volumes.

:class:`VolumeManager` is the interface that doors use, and that another manager must offer
(``managers.py`` finds the one that is configured).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Unpack

from .. import __version__
from ..config import Config
from ..errors import (
    Elsewhere,
    InvalidInput,
    NoSuchVolume,
    StoreUnavailable,
)
from ..records import ENGINES, JSON, Attachment, User, Volume, check_name, now, split_snapshot
from ..store import open_store
from .adoption import Adoption
from .agent import Agent
from .attachments import Attachments
from .calls import Call, CallHere, Shared, Told, patience, understood
from .capacity import Capacity
from .cluster import Cluster
from .context import SCHEMA, Context, Deadline
from .copies import Copies
from .delegation import Delegation
from .doctor import Doctor
from .edits import Edits
from .events import Events
from .fencing import Fencing
from .flattening import Flattening
from .following import Following, News
from .forgetting import Forgetting
from .given import Given, merge_labels, read_labels
from .growth import Growth
from .journal import Journal
from .limiter import Limiter
from .looks_at_cluster import ClusterLooks
from .looks_at_data import DataLooks
from .looks_at_use import UseLooks
from .lookup import Lookup
from .mounts import Mounts, Presence
from .nodes import Nodes
from .offline import Offline
from .owners import Owners, describe
from .places import Places, read_places
from .profiles import Profiles
from .publishing import Publisher
from .qos import QoS
from .rebuild import Rebuild
from .references import References
from .requests import Request, Requests
from .snapshots import SnapshotVerbs
from .trash import Trash
from .usage import Usage
from .views import Views
from .volumes import Volumes

__all__ = ["Given", "Request", "VolumeManager", "merge_labels", "read_labels"]


DELEGATED = (
    *("rm", "undelete", "resize", "usage"),
    *("snapshot_create", "snapshot_rm", "snapshot_clone", "rollback", "flatten"),
)
"""The verbs that are done where the data are, whoever is asked."""
ON_NODES = ("force_detach",)
"""Those of them that are among the verbs on nodes."""


class VolumeManager:
    """
    All verbs of one node; those on limits are at ``qos``, those on nodes at ``cluster``.

    Verbs share the keyword arguments of :class:`~libstorage.manager.calls.Call`. Every verb raises
    InvalidInput for what cannot be meant, StoreUnavailable, OperationInProgress when ``timeout`` is
    over, and what its own description names.
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
        self._places = Places(context, limiter)
        attachments = self._attachments = Attachments(
            context, owners, self._edits, self._events, limiter
        )
        parts = (context, self._journal, lookup, attachments, self._events)
        self._snapshots = SnapshotVerbs(*parts)
        self._volumes = Volumes(*parts)
        self._trash = Trash(*parts)
        self._growth = Growth(*parts)
        self._flattening = Flattening(*parts)
        self._adoption = Adoption(*parts)
        offline = self._offline = Offline(context)
        self._mounts = Mounts(*parts, offline)
        self._references = References(context)
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
        fencing = Fencing(context, owners, self._events, limiter)
        self.cluster = Cluster(
            context,
            lookup,
            self._journal,
            attachments,
            self._events,
            self._nodes,
            fencing,
            Forgetting(context, owners, self._events),
            self._begin,
            self._once,
        )
        journal, nodes, events = self._journal, self._nodes, self._events
        self._doctor = Doctor(
            context,
            self._rebuild,
            UseLooks(
                context,
                owners,
                journal,
                lookup,
                attachments,
                events,
                limiter,
                fencing,
                self._mounts,
                offline,
            ),
            DataLooks(
                context, journal, lookup, self._volumes, self._trash, profiles, self._capacity
            ),
            ClusterLooks(context, owners, events, self._requests, self._delegation, fencing, nodes),
        )

    # -- volumes ------------------------------------------------------------------------------

    def create(self, name: str, given: Given, **call: Unpack[Call]) -> JSON:
        """
        Create a volume, or find the one that is as asked.

        Returns ``{"Volume": record, "Created": bool, "Warnings": [sentence]}``. Raises
        VolumeExists, naming the difference; NoSpace, ToolMissing, Unsupported, BackendError.
        """
        told = self._begin(name, call)

        def act() -> JSON:
            room = self._trash.room(policy=given.over(None).policy)
            with self._refusals("create", name, told), room:
                outcome = self._volumes.create(name, given, **told.shared)
            if outcome.created and not told.test:
                self._capacity.after(outcome.volume.voltype, told.by)
            return {
                "Volume": outcome.volume.to_json(),
                "Created": outcome.created,
                "Warnings": list(outcome.warnings),
            }

        arguments = {field: getattr(given, field) for field in given.named()}
        return self._once("create", name, arguments, act, told)

    def rm(
        self, name: str, *, force: bool = False, purge: bool = False, **call: Unpack[Call]
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
        told = self._begin(name, call)

        def act() -> JSON:
            with self._refusals("rm", name, told):
                try:
                    volume = self._volumes.rm(name, force=force, purge=purge, **told.shared)
                except NoSuchVolume:
                    if not purge:
                        raise
                    volume = self._trash.purge(name, **told.shared)
            return volume.to_json()

        return self._once("rm", name, {"force": force, "purge": purge}, act, told)

    def undelete(
        self, name: str, *, id: str | None = None, new: str | None = None, **call: Unpack[Call]
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
        told = self._begin(target, call)

        def act() -> JSON:
            with self._refusals("undelete", target, told):
                volume = self._trash.undelete(name, id, target, **told.shared)
            return volume.to_json()

        arguments = {"name": name, "id": id}
        there = {**arguments, "new": target}
        return self._once("undelete", target, arguments, act, told, there)

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
        return self._views.info(names, self._deadline(timeout))

    def ls(self, filters: Sequence[str] = (), names: Sequence[str] | None = None) -> list[JSON]:
        """
        All volumes, by name, that match every filter (``KEY=PATTERN``).

        names
            Of these only, as far as there are such now; nothing is waited for.
        """
        for name in names or ():
            check_name(name)
        self._context.need_store()
        return self._views.ls(filters, names)

    def index(self, since: int = 0) -> JSON:
        """
        What was changed among the volumes, for somebody who keeps their records up to date.

        since
            The revision up to which he has them.

        Returns ``{"Revision", "Count", "Records": [record]}``: up to where this tells, how many
        volumes there are, and the stored records that were changed. Who then has more than
        ``Count`` has some that are gone, and asks for all.
        """
        self._context.need_store()
        return self._views.index(since)

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
        deadline = self._deadline(timeout)
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

    def adopt(
        self, name: str, object: str, *, policy: str = "distributed", **call: Unpack[Call]
    ) -> JSON:
        """
        Make a volume of what others have made in the storage behind a policy, data and all.

        object
            As that storage names it: of Ceph ``POOL/IMAGE``.

        Returns ``{"Volume": record, "Changed": bool}``. Raises VolumeExists; InvalidInput, with the
        way out, for what cannot be a volume; VolumeInUse while somebody has it open; Unsupported.
        """
        told = self._begin(name, call)

        def act() -> JSON:
            with self._refusals("adopt", name, told, object=object):
                volume, changed = self._adoption.adopt(name, object, policy, **told.shared)
            return {"Volume": volume.to_json(), "Changed": changed}

        return self._once("adopt", name, {"object": object, "policy": policy}, act, told)

    def resize(self, name: str, size: object, **call: Unpack[Call]) -> JSON:
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
        told = self._begin(name, call)

        def act() -> JSON:
            with self._refusals("resize", name, told), self._trash.room(volume=name):
                volume, changed = self._growth.resize(name, wanted, **told.shared)
            if changed and not told.test:
                self._capacity.after(volume.voltype, told.by)
            return {"Volume": volume.to_json(), "Changed": changed}

        return self._once("resize", name, {"size": wanted}, act, told)

    # -- snapshots ----------------------------------------------------------------------------

    def snapshot_create(self, snapshot: str, **call: Unpack[Call]) -> JSON:
        """
        Keep what a volume holds now, as ``VOLUME@SNAPSHOT``; a mounted one is frozen for the copy.

        Returns the snapshot's record. Raises NoSuchVolume; VolumeExists where there is one of that
        name; Unsupported where the volume can have none.
        """

        def act(volume: str, name: str, shared: Shared) -> JSON:
            kept = self._snapshots.create(volume, name, **shared)
            if not shared["test"]:
                self._capacity.after_on(volume, shared["by"])
            return kept.to_json()

        return self._on_snapshot("snapshot_create", snapshot, act, call)

    def snapshot_rm(self, snapshot: str, **call: Unpack[Call]) -> JSON:
        """
        Remove a snapshot.

        Returns the record that was. Raises NoSuchSnapshot; VolumeInUse while it has clones.
        """

        def act(volume: str, name: str, shared: Shared) -> JSON:
            return self._snapshots.rm(volume, name, **shared).to_json()

        return self._on_snapshot("snapshot_rm", snapshot, act, call)

    def rollback(self, snapshot: str, **call: Unpack[Call]) -> JSON:
        """
        Bring a volume back to a snapshot; later snapshots and the current size stay.

        Returns the snapshot's record. Raises NoSuchSnapshot; VolumeInUse while it is mounted.
        """

        def act(volume: str, name: str, shared: Shared) -> JSON:
            return self._snapshots.rollback(volume, name, **shared).to_json()

        return self._on_snapshot("rollback", snapshot, act, call)

    def flatten(self, name: str, **call: Unpack[Call]) -> JSON:
        """
        Make a clone a volume of its own: its snapshot no longer has it among its Children.

        Returns ``{"Volume": record, "Changed": bool}``; what is no clone stays as it is. Raises
        NoSuchVolume; VolumeInUse while it is mounted and its storage would have to copy.
        """
        told = self._begin(name, call)

        def act() -> JSON:
            with self._refusals("flatten", name, told):
                volume, changed = self._flattening.flatten(name, **told.shared)
            return {"Volume": volume.to_json(), "Changed": changed}

        return self._once("flatten", name, {}, act, told)

    def snapshot_clone(
        self,
        snapshot: str,
        new: str,
        *,
        options: Mapping[str, str] | None = None,
        **call: Unpack[Call],
    ) -> JSON:
        """
        Make a new volume from a snapshot, or find the clone that was made before.

        options
            The new volume's options, beside those of the snapshot's volume.

        Returns ``{"Volume": record, "Created": bool}``. Raises NoSuchSnapshot; VolumeExists where
        the name is taken by anything else.
        """
        volume, name = split_snapshot(snapshot)
        told = self._begin(new, call)

        def act() -> JSON:
            refusals = self._refusals("clone", new, told, snapshot=f"{volume}@{name}")
            with refusals, self._trash.room(volume=volume):
                made, created = self._snapshots.clone(volume, name, new, options, **told.shared)
            if created and not told.test:
                self._capacity.after(made.voltype, told.by)
            return {"Volume": made.to_json(), "Created": created}

        arguments = {"snapshot": snapshot, "options": dict(options or {})}
        there = {**arguments, "new": new}
        return self._once("snapshot_clone", new, arguments, act, told, there)

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
        return self._snapshots.info(names, self._deadline(timeout))

    def _on_snapshot(
        self,
        verb: str,
        snapshot: str,
        act: Callable[[str, str, Shared], JSON],
        call: Call,
    ) -> JSON:
        volume, name = split_snapshot(snapshot)
        told = self._begin(volume, call)
        arguments = {"snapshot": f"{volume}@{name}"}

        def once() -> JSON:
            with self._refusals(verb, volume, told, **arguments):
                return act(volume, name, told.shared)

        return self._once(verb, volume, arguments, once, told, arguments)

    # -- edits --------------------------------------------------------------------------------

    def label(self, name: str, labels: Mapping[str, str], **call: Unpack[Call]) -> JSON:
        """
        Set labels of a volume; one with an empty value is removed.

        Returns the record as it is, or under ``test`` would be. Raises NoSuchVolume.
        """
        arguments = {"labels": dict(labels)}
        return self._edit(
            "label", name, arguments, call, lambda told: self._edits.label(name, labels, **told)
        )

    def protect(self, name: str, **call: Unpack[Call]) -> JSON:
        """
        Let a volume be removed by nobody until it is unprotected.

        Returns the record as it is, or under ``test`` would be. Raises NoSuchVolume.
        """
        return self._edit(
            "protect", name, {}, call, lambda told: self._edits.protect(name, True, **told)
        )

    def unprotect(self, name: str, **call: Unpack[Call]) -> JSON:
        """Let a protected volume be removed again; the rest as protect."""
        return self._edit(
            "unprotect", name, {}, call, lambda told: self._edits.protect(name, False, **told)
        )

    def _edit(
        self, verb: str, name: str, arguments: JSON, call: Call, edit: Callable[[Shared], Volume]
    ) -> JSON:
        """An edit with its refusal's event, once in a job."""
        told = self._begin(name, call)

        def act() -> JSON:
            with self._refusals(verb, name, told):
                return edit(told.shared).to_json()

        return self._once(verb, name, arguments, act, told)

    # -- mounts -------------------------------------------------------------------------------

    def mount(
        self,
        name: str,
        *,
        engine: str = "salt",
        id: str = "salt",
        container: str = "",
        cgroup: str = "",
        **call: Unpack[CallHere],
    ) -> JSON:
        """
        Mount a volume on this node for the user (engine, id).

        container
            The container that the id stands for, where it is known.
        cgroup
            The cgroup of its processes (``/docker/...``): the volume's limits act there.

        Returns ``{"Name", "Mountpoint", "Containers", "Changed"}``: what is, or under ``test``
        would be, on this node. While the store is away an engine's user may come to what is mounted
        here; the store is told later. Raises NoSuchVolume, VolumeInUse, NotHere, Damaged,
        BackendError.
        """
        user = User(engine=engine, id=_user_id(id), container=container, cgroup=cgroup, at=now())
        try:
            told = self._begin(name, call, hurried=not self._waits(engine, call))
            if not told.test:
                self._mounts.catch_up(name, by=told.by, deadline=told.deadline)
            with self._refusals("mount", name, told):
                presence = self._mounts.mount(name, user, **told.shared)
        except StoreUnavailable:
            granted = None if self._waits(engine, call) else self._offline.come(name, user)
            if granted is None:
                raise
            return _offline(granted)
        return _presence(name, presence)

    def unmount(
        self, name: str, *, engine: str = "salt", id: str = "salt", **call: Unpack[CallHere]
    ) -> JSON:
        """
        Take the user (engine, id) off a volume on this node; the last one out detaches it.

        Returns ``{"Name", "Mountpoint", "Containers", "Changed"}`` like mount, also for an
        engine's user while the store is away. Raises NoSuchVolume; MountBusy, naming the holder.
        """
        id = _user_id(id)
        try:
            told = self._begin(name, call, hurried=not self._waits(engine, call))
            if not told.test:
                self._mounts.catch_up(name, by=told.by, deadline=told.deadline)
            with self._refusals("unmount", name, told):
                presence = self._mounts.unmount(name, engine, id, **told.shared)
        except StoreUnavailable:
            gone = None if self._waits(engine, call) else self._offline.go(name, engine, id)
            if gone is None:
                raise
            return _offline(gone)
        return _presence(name, presence)

    def tie(
        self, name: str, *, engine: str, id: str, container: str, timeout: float | None = None
    ) -> bool:
        """
        Say which container a user (engine, id) on this node stands for.

        Returns whether there is such a user.
        """
        self._begin(name, {"timeout": timeout})
        return self._attachments.tie(name, engine, _user_id(id), check_name(container, "container"))

    def place(
        self, name: str, places: object, *, engine: str, timeout: float | None = None
    ) -> bool:
        """
        Say where an engine's containers that use a volume here run (all of them).

        places
            ``[{"Container", "Pid", "Cgroup", "AtStart"}]``; see ``places.py``.

        Returns whether the volume is attached here. Raises InvalidInput.
        """
        told = read_places(engine, places)
        self._begin(name, {"timeout": timeout})
        return self._places.tell(name, engine, told)

    def refer(
        self, containers: Mapping[str, Sequence[str]], *, engine: str, whole: bool = False
    ) -> list[str]:
        """
        Say which containers on this node, of any state, refer to volumes.

        containers
            The containers' ids, by volume; none for a volume that no container refers to any more.
        whole
            No container of the engine refers to any other volume.

        Returns the names of the volumes for which this was new.
        """
        checked = {
            check_name(name): [check_name(id, "container") for id in ids]
            for name, ids in containers.items()
        }
        self._context.need_store()
        return self._references.tell(check_name(engine, "engine"), checked, whole=whole)

    def attachments(self, name: str = "", *, refresh: bool = False) -> list[JSON]:
        """
        What is attached here and by whom, as this host remembers it: the store is not asked.

        name
            Only this volume.
        refresh
            Ask it once, first: whoever wrote there may have died before this host remembered it.

        Returns the records of this boot's attachments.
        """
        return self._offline.attachments(check_name(name) if name else "", refresh=refresh)

    def _waits(self, engine: str, call: CallHere) -> bool:
        """Is it nobody's who cannot wait for the store?"""
        return engine not in ENGINES or bool(call.get("test"))

    # -- what is and was going on -------------------------------------------------------------

    def events(
        self, since: object = None, until: object = None, filters: Sequence[str] = ()
    ) -> list[JSON]:
        """The events between two times (RFC 3339, Unix seconds, or an age such as ``10m``)."""
        self._context.need_store()
        return self._events.list(since, until, filters)

    def follow(self, place: str = "") -> Iterator[News]:
        """
        The events from a place on as they are committed, for ever; ``""`` is now.

        Raises InvalidInput for what is no place.
        """
        return Following(self._context, self._events).since(place)

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
            Make an empty store anew from the copies of records that lie with the data, or add this
            node's to one that another node has made anew.

        Returns ``[{"Kind", "Name", "Says", "Fixed"}]``; Fixed is None where nothing was tried.
        """
        deadline = self._deadline(timeout)
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
        volumes), and ``Drained`` or ``Fenced`` (since when) where they are closed.
        """
        self._context.need_store()
        return self._nodes.ls()

    def capacity(self) -> list[JSON]:
        """
        How full the storage is that this node's controllers have.

        Returns for each ``{"Controller", "On", "Total", "Available", "Promised", "Health",
        "Checks", "Err"}``: On is this node, or the storage that all share; Total, Available (0
        where not known) and Promised (what volumes may come to take) are bytes; Health and Checks
        what storage says of itself; Err why it could not be asked.
        """
        self._context.need_store()
        return self._capacity.ls()

    def agent(self) -> Agent:
        """This node's agent; its ``run`` works until it is stopped."""
        return Agent(
            self._context,
            self._nodes,
            self._delegation,
            self._doctor,
            self.qos,
            Copies(self._context, self._edits, self._trash),
            self._perform,
        )

    def publisher(self, cursor: Path | None = None) -> Publisher:
        """
        What hands the store's events on; its ``batches`` go on where ``cursor`` says.

        cursor
            The file that keeps how far that is; None: one of this node's, below ``root``.
        """
        default = self.config.root / "published" / f"{self.config.node}.json"
        return Publisher(self._context, self._events, cursor or default)

    def _perform(self, verb: str, arguments: JSON, by: JSON) -> Any:
        """Do what another node asks of this one."""
        if verb not in (*DELEGATED, *ON_NODES):
            raise InvalidInput(f"{verb} is nothing that {self.config.node} does for other nodes")
        rest = dict(arguments)
        names = rest.pop("names", ())
        verbs = self.cluster if verb in ON_NODES else self
        return getattr(verbs, verb)(*names, **rest, by=by)

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

    def _begin(self, name: str, call: CallHere, *, hurried: bool = False) -> Told:
        """Check the name, the shared arguments and the store."""
        check_name(name)
        told = understood(self.config.timeout, **call)
        self._context.need_store(hurried=hurried)
        return told

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(patience(timeout, self.config.timeout))

    def _refusals(
        self, verb: str, name: str, told: Told, **data: object
    ) -> AbstractContextManager[None]:
        """What is refused inside leaves a failed event."""
        return self._events.refusals(name, verb, told.by, test=told.test, **data)

    def _once(
        self,
        verb: str,
        name: str,
        arguments: JSON,
        act: Callable[[], JSON],
        told: Told,
        there: JSON | None = None,
    ) -> JSON:
        """
        Act once in a job, and where the data are.

        there
            The verb's arguments, for the node that has them; None: the name and the others.
        """

        def wherever() -> JSON:
            try:
                return act()
            except Elsewhere as exc:
                assert not told.test, "a test run asks nobody"
                asked: JSON = self._delegation.ask(
                    exc.node,
                    name,
                    verb,
                    {"name": name, **arguments} if there is None else there,
                    told.by,
                    told.deadline,
                )
                return asked

        return self._requests.once(told.request, verb, name, arguments, told.deadline, wherever)


def _user_id(id: object) -> str:
    return check_name(str(id), "user id")


def _offline(attachment: Attachment) -> JSON:
    """A presence of which the store is yet to hear."""
    users = tuple(f"{user.who}@{attachment.node}" for user in attachment.users)
    point = attachment.mountpoint if users else ""
    return _presence(attachment.volume, Presence(True, point, users))


def _presence(name: str, presence: Presence) -> JSON:
    return {
        "Name": name,
        "Mountpoint": presence.mountpoint,
        "Containers": list(presence.users),
        "Changed": presence.changed,
    }
