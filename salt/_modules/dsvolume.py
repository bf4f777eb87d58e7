"""
Volumes for containers: created, mounted, looked at and removed on any node, with nothing lost.

:depends: the package ``libstorage`` (``salt/_utils/libstorage``; ``saltutil.sync_utils`` brings it)
:configuration: the mapping ``dsvolume`` in ``/etc/dsvolume/config.yaml``, in the minion's
    configuration and in pillar, later wins; see ``docs/configuration.md``.

Sizes are MB of 2^20 bytes. Every function must run as root. Functions that wait for another's work
on the same volume take ``timeout`` (seconds; default 50); functions that change something take
``test``: find out what would be done, fail as it would fail, and write nothing.
"""

import contextlib
import functools
import os

import salt.payload
import salt.utils.files
import salt.utils.sdb
import salt.utils.user
from salt.exceptions import CommandExecutionError, SaltDeserializationError

try:
    import libstorage
    from libstorage import config, doors
    from libstorage.errors import InvalidInput, LibstorageError
    from libstorage.limits import WORDS
    from libstorage.manager import Given, Request, read_labels
    from libstorage.managers import open_manager

    MISSING = ""
except ImportError as exc:
    MISSING = str(exc)

VERSION = "0.1.0"

__virtualname__ = "dsvolume"
__outputter__ = {
    "ls": "dsvolume_ls",
    "events": "dsvolume_events",
    "snapshot_ls": "dsvolume_snapshots",
    "qos_ls": "dsvolume_qos",
    "trash_ls": "dsvolume_trash",
}


def __virtual__():
    if MISSING:
        return False, f"dsvolume needs libstorage ({MISSING}); run saltutil.sync_utils"
    if unfit := libstorage.unfit(VERSION):
        return False, f"dsvolume {unfit}"
    return __virtualname__


def _door(verb):
    """
    libstorage's errors as Salt's: one sentence each, the cause kept for states.

    Wrong input too: with SaltInvocationError salt-call would bury the sentence under the whole
    help of the function.
    """

    @functools.wraps(verb)
    def call(*args, **kwargs):
        try:
            return verb(*args, **kwargs)
        except LibstorageError as exc:
            notes = getattr(exc, "__notes__", [])
            raise CommandExecutionError("; ".join([str(exc), *notes])) from exc

    return call


def _manager():
    """This process's manager; another one as soon as the configuration is another."""
    settings = config.of_salt(__opts__, __pillar__, salt.utils.sdb.sdb_get)
    kept = __context__.get("dsvolume.manager")
    if kept is not None and kept.config == settings:
        return kept
    made = open_manager(settings)
    if kept is not None:
        kept.close()
    __context__["dsvolume.manager"] = made
    return made


def _by():
    if (asker := doors.asker()) is not None:
        return asker
    asker = {"door": "salt", "user": salt.utils.user.get_specific_user()}
    job = _job()
    return {**asker, "jid": job} if job else asker


def _asked():
    """Who asks, and for which job: minions of one job act once."""
    by = _by()
    return {"by": by, "request": Request(by["jid"], nth=None) if "jid" in by else None}


def _job():
    """The id of the job that a minion runs in this process; None in salt-call and in engines."""
    folder = os.path.join(__opts__["cachedir"], "proc")
    if not os.path.isdir(folder):
        return None
    for name in os.listdir(folder):
        # Others' come and go.
        with contextlib.suppress(OSError, SaltDeserializationError):
            with salt.utils.files.fopen(os.path.join(folder, name), "rb") as file:
                job = salt.payload.loads(file.read())
            # One that is just being written is empty.
            mine = isinstance(job, dict) and job.get("pid") == os.getpid()
            if mine and job.get("tgt") != "salt-call":
                return str(job["jid"])
    return None


def _list(value):
    """A list from what the command line gives: nothing, a word, several with commas, a list."""
    if value is None:
        return []
    return [word for word in value.split(",") if word] if isinstance(value, str) else list(value)


def _name(value):
    """The command line turns a name of digits into a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _node(value):
    return __opts__["id"] if value is None else _name(value)


def _names(values):
    return [_name(value) for value in values]


def _given(arguments):
    """Keyword arguments without those that Salt adds to the calls of a master."""
    return {key: value for key, value in arguments.items() if not key.startswith("__pub_")}


def _limits(*values):
    return dict(zip(WORDS, values, strict=True))


def _global(flags):
    """The flag ``global``, which Python keeps for itself."""
    flags = _given(flags)
    value = flags.pop("global", False)
    if flags:
        raise InvalidInput(f"{next(iter(flags))} is no argument; there is global")
    if not isinstance(value, bool):
        raise InvalidInput(f"global must be true or false, not {str(value)[:60]!r}")
    return value


def _snapshot(name, volume):
    return name if volume is None else f"{_name(volume)}@{_name(name)}"


@_door
def create(
    name,
    policy=None,
    size=None,
    fstype=None,
    shared=None,
    automigrate=None,
    opt=None,
    labels=None,
    qos_profile=None,
    qos=None,
    timeout=None,
    test=False,
):
    """
    Create a volume, or find the one of that name that is as asked.

    name
        1 to 128 letters, digits, ``_``, ``.`` and ``-``.

    policy : distributed
        ``distributed``, ``distributed-fs``, ``local``, ``ram`` or ``secure``; pillar says which of
        them this node serves, and by what.

    size : 100
        MB. A plain directory (policy local without fstype) has none.

    fstype
        ``ext2``, ``ext3``, ``ext4``, ``xfs``, ``btrfs`` or ``raw``. With policy local, naming one
        makes a filesystem of its own in an image; not naming one, a plain directory.

    shared : True
        Whether several containers may use the volume at once; ``secure`` never is.

    automigrate : False
        Whether it may be moved to the archive and back by itself.

    opt
        Options of the policy as ``KEY=VALUE``, a list of these or a mapping: ``suid``, ``dev``,
        ``exec``, ``atime`` (true or false); in memory also ``mode`` (octal).

    labels
        The operator's own ``KEY=VALUE``, for ``ls filter=label=KEY=VALUE``; see ``label``.

    qos_profile
        The QoS profile; see ``qos_create``.

    qos : False
        Whether QoS is enabled for the volume; true where a profile is named.

    Only what is given is compared with an existing volume. Returns the volume's record; with
    ``test`` ``{"Volume": record, "Created": bool, "Warnings": [sentence]}``.

    CLI Example:

    .. code-block:: bash

        salt '*' dsvolume.create db policy=local fstype=ext4 size=100
        salt '*' dsvolume.create scratch policy=ram size=64 opt=exec=false labels=team=web
    """
    given = Given.of(
        policy=policy,
        size=size,
        fstype=fstype,
        shared=shared,
        automigrate=automigrate,
        opt=opt,
        labels=labels,
        qos_profile=_name(qos_profile),
        qos=qos,
    )
    answer = _manager().create(_name(name), given, timeout=timeout, test=test, **_asked())
    return answer if test else answer["Volume"]


@_door
def rm(name, force=False, purge=False, timeout=None, test=False):
    """
    Remove a volume. Its data are kept in the trash for some days, as pillar says for its policy.

    name
        The volume. One that is mounted, protected, or has snapshots is refused.

    force : False
        Also where stopped containers still refer to it.

    purge : False
        Destroy the data now. Where there is no such volume, those of the removed volumes that had
        this name are destroyed.

    Returns the record that was.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.rm db
        salt 'host1' dsvolume.rm db purge=True
    """
    return _manager().rm(
        _name(name), force=force, purge=purge, timeout=timeout, test=test, **_asked()
    )


@_door
def undelete(name, id=None, new=None, timeout=None, test=False):
    """
    Bring a removed volume back from the trash, with its data.

    name
        The name that it had.

    id
        Its Id, as ``trash_ls`` shows it; left out, the newest of that name is meant.

    new
        The name that it gets; left out, the one that it had.

    Returns the volume's record; with ``test`` as it would be.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.undelete db
        salt 'host1' dsvolume.undelete db new=db-of-yesterday
    """
    return _manager().undelete(
        _name(name), id=_name(id), new=_name(new), timeout=timeout, test=test, **_asked()
    )


@_door
def trash_ls(name=None):
    """
    The removed volumes that are kept, the oldest first, as a table on the command line.

    name
        Those that had this name.

    Returns ``[{"Name", "Id", "Policy", "Fstype", "MBSize", "TrashedAt", "Until", "By"}]``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.trash_ls
        salt 'host1' dsvolume.trash_ls db
    """
    return _manager().trash_ls(_name(name))


@_door
def info(*names, timeout=None):
    """
    The records of volumes, in full.

    names
        One volume or more.

    Returns a list of records. ``Mountpoint`` is this node's; ``Inuse`` names the nodes that have
    the volume attached, ``Containers`` its users as ``id@node``; ``Operation`` is the change in
    progress on it, if any. ``QoSLimits`` are the limits in effect on this node, by cgroup, and
    ``QoSScope`` says what each holds for: the ``node``, or each ``container`` for itself (cgroup
    v1); ``AtStart`` is false for a container that was started without ``dsvolume-runc``: it was
    limited within a second. ``Device`` is the number (``MAJOR:MINOR``) of the block device here.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.info db web
    """
    return _manager().info(*map(_name, names), timeout=timeout)


@_door
def ls(filter=None, names=None):
    """
    All volumes, as a table on the command line.

    filter
        ``KEY=PATTERN``, several with commas or as a list; all must match. Keys: ``name``,
        ``policy``, ``fstype``, ``type``, ``node``, ``created_by``, ``shared``, ``state``,
        ``location``, ``protected``, ``qos``, ``profile``, ``inuse``, and ``label``
        (``label=KEY`` or ``label=KEY=VALUE``). Patterns are shell-like.

    names
        Only those of these volumes that there are; one name, several with commas, or a list.

    Returns a list of records.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.ls
        salt 'host1' dsvolume.ls filter=policy=local,label=team=web
    """
    wanted = None if names is None else [_name(name) for name in _list(_name(names))]
    return _manager().ls(_list(filter), wanted)


@_door
def index(since=0):
    """
    What was changed among the volumes, for somebody who keeps their records up to date. For
    bridges.

    since : 0
        The revision of the store up to which he has them.

    Returns ``{"Revision", "Count", "Records": [record]}``: up to where this tells, how many volumes
    there are, and the records, as they are stored, that were changed.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.index since=17
    """
    if not isinstance(since, int):
        raise InvalidInput(f"Not a revision: {since!r}")
    return _manager().index(since)


@_door
def usage(*names, summary=True, timeout=None):
    """
    The room that the files of volumes take on this node, mounted or not.

    names
        One volume or more.

    summary : True
        Directories only; otherwise every file.

    Returns ``[{"Name", "Usage": [{"file", "size"}], "Size", "Err", "Node"}]``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.usage db
        salt 'host1' dsvolume.usage db summary=False
    """
    return _manager().usage(*map(_name, names), summary=summary, by=_by(), timeout=timeout)


@_door
def label(name, *pairs, timeout=None, test=False, **labels):
    """
    Set labels of a volume: ``KEY=VALUE`` sets one, ``KEY=`` removes it, the others stay.

    name
        The volume.

    pairs, labels
        One label or more, as ``KEY=VALUE`` or as mappings. Keys are 1 to 63 letters, digits,
        ``_``, ``.`` and ``-``; values up to 255 printable characters without comma. Labels named
        like an argument are given as a mapping: ``'{timeout: never}'``.

    Returns the volume's record; with ``test`` as it would be.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.label db team=web tier=1
        salt 'host1' dsvolume.label db tier=
    """
    return _manager().label(
        _name(name), read_labels(*pairs, _given(labels)), timeout=timeout, test=test, **_asked()
    )


@_door
def protect(name, timeout=None, test=False):
    """
    Protect a volume: nobody removes it until it is unprotected.

    name
        The volume.

    Returns the volume's record; with ``test`` as it would be.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.protect db
    """
    return _manager().protect(_name(name), timeout=timeout, test=test, **_asked())


@_door
def unprotect(name, timeout=None, test=False):
    """
    Let a protected volume be removed again.

    name
        The volume.

    Returns the volume's record; with ``test`` as it would be.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.unprotect db
    """
    return _manager().unprotect(_name(name), timeout=timeout, test=test, **_asked())


@_door
def mount(name, id="salt", engine="salt", container="", cgroup="", timeout=None, test=False):
    """
    Mount a volume on this node, below ``mount_root``.

    name
        The volume.

    id : salt
        Who uses it. Several ids may use one shared volume; each unmounts for itself.

    engine : salt
        What kind of user the id is. The ids of ``docker`` are counted; others are
        a set: mounting for one that is there changes nothing.

    container
        The container that the id stands for, where there is one.

    cgroup
        The cgroup of its processes, such as ``/docker/...``: the limits of the volume's QoS
        profile act there, and on the host as a whole.

    Returns ``{"Name", "Mountpoint", "Containers", "Changed"}``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.mount db
        salt 'host1' dsvolume.mount db id=backup
    """
    return _manager().mount(
        _name(name),
        engine=engine,
        id=id,
        container=container,
        cgroup=cgroup,
        by=_by(),
        timeout=timeout,
        test=test,
    )


@_door
def unmount(name, id="salt", engine="salt", timeout=None, test=False):
    """
    Take a user off a volume on this node; with the last one it is unmounted.

    name
        The volume.

    id : salt
        Who used it.

    engine : salt
        What kind of user the id is.

    Returns ``{"Name", "Mountpoint", "Containers", "Changed"}``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.unmount db
    """
    return _manager().unmount(
        _name(name), engine=engine, id=id, by=_by(), timeout=timeout, test=test
    )


@_door
def attachments(name=None, refresh=False):
    """
    What is attached on this node and by whom, as this host remembers it; the store is not asked.

    name
        Only this volume.

    refresh : False
        Ask the store first, for what a process that was killed there had no time to note here.

    Returns a list of records: Volume, Status, Mountpoint, Device, Users and more.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.attachments
        salt 'host1' dsvolume.attachments db
    """
    return _manager().attachments("" if name is None else _name(name), refresh=refresh)


@_door
def tie(name, id, container, engine="docker", timeout=None):
    """
    Say which container a mount by an engine belongs to, once that is known. For bridges.

    name
        The volume.

    id
        The engine's id of the mount.

    container
        The container's id.

    engine : docker
        The engine.

    Returns whether there is such a user on this node.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.tie db id=4f5e container=2b1e11bc
    """
    return _manager().tie(
        _name(name), engine=engine, id=str(id), container=str(container), timeout=timeout
    )


@_door
def place(name, places, engine="docker", timeout=None):
    """
    Say where an engine's containers that use a volume here run, all of them. For bridges.

    The limits of the volume's QoS act there.

    name
        The volume.

    places
        A list of objects: ``Container``, its id; ``Pid``, of its first process; ``Cgroup``, where
        it runs, such as ``/docker/...``; ``AtStart``, whether limits are in effect from its first
        I/O on (false by default).

    engine : docker
        The engine.

    Returns whether the volume is attached on this node.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.place db '[{Container: 2b1e, Pid: 4711, Cgroup: /docker/2b1e}]'
    """
    return _manager().place(_name(name), places, engine=engine, timeout=timeout)


@_door
def refer(containers, engine="docker", whole=False):
    """
    Say which containers on this node, running or not, refer to volumes. For bridges: as long as
    one does, the volume is removed by nobody, on no node.

    containers
        The containers' ids, by volume; none for a volume that no container refers to any more.

    engine : docker
        The engine whose containers they are.

    whole : False
        No container of the engine refers to any other volume.

    Returns the names of the volumes for which this was new.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.refer '{db: [2b1e11bc, 5f0c2a7d]}'
        salt 'host1' dsvolume.refer '{}' whole=True    # an engine that was taken away
    """
    if not isinstance(containers, dict):
        raise InvalidInput("containers must be a mapping of volumes to lists of containers' ids")
    named = {_name(name): [str(id) for id in ids or ()] for name, ids in containers.items()}
    return _manager().refer(named, engine=str(engine), whole=whole)


@_door
def events(since=None, until=None, filter=None):
    """
    What happened to volumes, as lines on the command line.

    since, until
        A time (RFC 3339 or Unix seconds) or an age: ``90s``, ``10m``, ``2h``, ``7d``.

    filter
        ``KEY=PATTERN`` with ``volume``, ``verb``, ``node`` or ``success``; several with commas or
        as a list.

    Returns a list of event records, in order of time.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.events since=10m
        salt 'host1' dsvolume.events filter=volume=db,success=false
    """
    return _manager().events(since, until, _list(filter))


@_door
def adopt(name, object, policy="distributed", timeout=None, test=False):
    """
    Make a volume of what others have made in the storage, with the data it has.

    name
        The new volume.

    object
        As the storage names it: of Ceph ``POOL/IMAGE``, in the pool of the volumes. Nobody may have
        it open; snapshots, and a parent that it shares data with, are refused with the way out.
        Its filesystem is found; what has none is a raw volume.

    policy : distributed
        Whose storage it is in.

    Returns the record; with ``test`` ``{"Volume": record, "Changed": bool}``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.adopt db rbd/db-disk
    """
    answer = _manager().adopt(
        _name(name), str(object), policy=policy, timeout=timeout, test=test, **_asked()
    )
    return answer if test else answer["Volume"]


@_door
def resize(name, size, timeout=None, test=False):
    """
    Make a volume larger, mounted or not; smaller never.

    name
        The volume: one with a filesystem of its own, or raw. xfs and btrfs grow where they are
        mounted too, ext2, ext3 and ext4 there only where the kernel lets them.

    size
        MB, in all.

    Returns the record; with ``test`` ``{"Volume": record, "Changed": bool}``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.resize db 200
    """
    answer = _manager().resize(_name(name), size, timeout=timeout, test=test, **_asked())
    return answer if test else answer["Volume"]


@_door
def snapshot_create(name, volume=None, timeout=None, test=False):
    """
    Keep what a volume holds now. One that is mounted here is frozen for the moment of the copy.

    name
        ``VOLUME@SNAPSHOT``, or the snapshot's name alone with ``volume``.

    volume
        The volume. Plain directories and volumes in memory keep no snapshots.

    Returns the snapshot's record.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.snapshot_create db@before
        salt 'host1' dsvolume.snapshot_create before volume=db
    """
    return _manager().snapshot_create(
        _snapshot(name, volume), timeout=timeout, test=test, **_asked()
    )


@_door
def snapshot_rm(name, volume=None, timeout=None, test=False):
    """
    Remove a snapshot. One that volumes were cloned from is refused: ``Volume snapshot inuse``.

    name
        ``VOLUME@SNAPSHOT``, or the snapshot's name alone with ``volume``.

    volume
        The volume.

    Returns the record that was.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.snapshot_rm db@before
    """
    return _manager().snapshot_rm(_snapshot(name, volume), timeout=timeout, test=test, **_asked())


@_door
def snapshot_ls(volume=None):
    """
    The snapshots of a volume, or all, as a table on the command line.

    volume
        The volume.

    Returns a list of records.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.snapshot_ls
        salt 'host1' dsvolume.snapshot_ls db
    """
    return _manager().snapshot_ls(_name(volume))


@_door
def snapshot_info(*names, timeout=None):
    """
    The records of snapshots, in full.

    names
        One ``VOLUME@SNAPSHOT`` or more.

    Returns a list of records; ``Size`` is in bytes, ``Children`` are the volumes cloned from it.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.snapshot_info db@before
    """
    return _manager().snapshot_info(*names, timeout=timeout)


@_door
def snapshot_clone(name, new, opt=None, timeout=None, test=False):
    """
    Make a new volume from a snapshot, or find the clone that was made before.

    name
        ``VOLUME@SNAPSHOT``.

    new
        The new volume's name. It has a filesystem identity of its own, so that both may be mounted.

    opt
        Options of the new volume, beside those of the snapshot's volume, as in ``create``.

    Returns the new volume's record; with ``test`` ``{"Volume": record, "Created": bool}``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.snapshot_clone db@before db-copy
    """
    options = Given.of(opt=opt).options
    answer = _manager().snapshot_clone(
        name, _name(new), options=options, timeout=timeout, test=test, **_asked()
    )
    return answer if test else answer["Volume"]


@_door
def rollback(name, timeout=None, test=False):
    """
    Bring a volume back to a snapshot. Later snapshots, and the volume's current size, stay.

    name
        ``VOLUME@SNAPSHOT``. A volume that is mounted is refused.

    Returns the snapshot's record.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.rollback db@before
    """
    return _manager().rollback(name, timeout=timeout, test=test, **_asked())


@_door
def flatten(name, timeout=None, test=False):
    """
    Make a clone a volume of its own, so that the snapshot that it comes from can be removed.

    name
        The clone. In Ceph it must not be mounted, and what it shares with the snapshot is copied:
        that takes as long as the data are large. What is no clone stays as it is.

    Returns the record; with ``test`` ``{"Volume": record, "Changed": bool}``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.flatten copy
    """
    answer = _manager().flatten(_name(name), timeout=timeout, test=test, **_asked())
    return answer if test else answer["Volume"]


@_door
def qos_create(
    name,
    read_iops=None,
    read_bw=None,
    write_iops=None,
    write_bw=None,
    weight=None,
    timeout=None,
    test=False,
):
    """
    Make a QoS profile: limits that volumes can be given with ``qos_apply``.

    name
        The profile.

    read_iops : 100, write_iops : 100
        Operations per second; 0 is no limit.

    read_bw : 10000, write_bw : 10000
        Bytes per second; 0 is no limit.

    weight : 500
        10 to 1000, against the other users of the same device; in effect where the device's
        scheduler is BFQ or io.cost is on.

    A profile that is there with the limits that are named is as good. Returns the profile's
    record; with ``test`` ``{"Profile": record, "Changed": bool}``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.qos_create newprofile read_bw=2000 write_bw=1000 weight=777
    """
    limits = _limits(read_iops, read_bw, write_iops, write_bw, weight)
    answer = _manager().qos.create(_name(name), limits, timeout=timeout, test=test, **_asked())
    return answer if test else answer["Profile"]


@_door
def qos_edit(
    name,
    read_iops=None,
    read_bw=None,
    write_iops=None,
    write_bw=None,
    weight=None,
    timeout=None,
    test=False,
):
    """
    Change limits of a profile. The volumes that have it follow at once, also where they are in use.

    name
        The profile; ``default`` is that of volumes that have no other.

    read_iops, read_bw, write_iops, write_bw, weight
        As in ``qos_create``; what is left out stays.

    Returns the profile's record; with ``test`` ``{"Profile": record, "Changed": bool}``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.qos_edit newprofile read_bw=50000
    """
    limits = _limits(read_iops, read_bw, write_iops, write_bw, weight)
    answer = _manager().qos.edit(_name(name), limits, timeout=timeout, test=test, **_asked())
    return answer if test else answer["Profile"]


@_door
def qos_rm(name, timeout=None, test=False):
    """
    Remove a profile. One that volumes have, and ``default``, are refused.

    name
        The profile.

    Returns the record that was.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.qos_rm newprofile
    """
    return _manager().qos.rm(_name(name), timeout=timeout, test=test, **_asked())["Profile"]


@_door
def qos_ls():
    """
    The global switch and all profiles, as a table on the command line.

    Returns ``{"Global": bool, "Profiles": [record]}``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.qos_ls
    """
    return _manager().qos.ls()


@_door
def qos_info(*names):
    """
    Profiles in full, with the volumes that have them.

    names
        One profile or more.

    Returns a list of records.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.qos_info default newprofile
    """
    return _manager().qos.info(*map(_name, names))


@_door
def qos_apply(*names, profile, timeout=None, test=False):
    """
    Give volumes a profile. It limits them where QoS is enabled, for them and globally.

    names
        One volume or more. Directories and volumes in memory cannot be limited, and say so.

    profile
        The profile.

    Returns the volumes' records; with ``test`` as they would be.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.qos_apply db web profile=newprofile
    """
    return _manager().qos.apply(
        _name(profile), _names(names), timeout=timeout, test=test, **_asked()
    )


@_door
def qos_enable(*names, timeout=None, test=False, **flags):
    """
    Let volumes be limited by their profile, or by ``default`` where they have none.

    names
        The volumes; none with ``global=True`` alone.

    global : False
        Switch QoS on globally too. It is on until it was switched off.

    Returns the volumes' records; with ``test`` as they would be.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.qos_enable db
        salt 'host1' dsvolume.qos_enable db global=True
    """
    return _manager().qos.enable(
        _names(names), everywhere=_global(flags), timeout=timeout, test=test, **_asked()
    )


@_door
def qos_disable(*names, timeout=None, test=False, **flags):
    """
    Let volumes be limited no more.

    names
        The volumes; none with ``global=True`` alone.

    global : False
        Switch QoS off globally too: then no volume is limited.

    Returns the volumes' records; with ``test`` as they would be.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.qos_disable db
        salt 'host1' dsvolume.qos_disable global=True
    """
    return _manager().qos.disable(
        _names(names), everywhere=_global(flags), timeout=timeout, test=test, **_asked()
    )


@_door
def operations():
    """
    The changes in progress; ``Alive`` says whether somebody still works on one.

    One whose owner has died is finished or undone by the next change of that volume, or by
    ``doctor fix=True``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.operations
    """
    return _manager().operations()


@_door
def nodes():
    """
    The nodes that have an agent, a volume in use, or data.

    Returns a list of records: ``Alive`` says whether the node's agent lives, ``Attached`` and
    ``Data`` count the volumes that are in use there and that have data there; ``Drained`` or
    ``Fenced`` says since when it is so. Of a node whose agent lives also its boot, addresses,
    policies and versions.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.nodes
    """
    return _manager().nodes()


@_door
def capacity():
    """
    How full the storage is that this node's controllers have.

    Returns a list of records, one for each controller: ``On`` is the node, or the storage that all
    nodes share; ``Total``, ``Available`` and ``Promised`` (what the volumes may come to take) are
    bytes, 0 where that is not known; ``Health`` and ``Checks`` are what the storage says of itself;
    ``Err`` says why it could not be asked.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.capacity
    """
    return _manager().capacity()


@_door
def drain(node=None, force=False, timeout=None, test=False):
    """
    Let a node take no new mounts, and wait until nothing is mounted there any more.

    node
        The node; this one where none is named.

    force : False
        Take the volumes from their users (``force_detach``) instead of waiting for them.

    Returns ``{"Node", "Drained": True, "Attached": [], "Changed"}``. What is still in use at the
    end of ``timeout`` is an error that names the users; the node stays closed.

    CLI Example:

    .. code-block:: bash

        salt 'host2' dsvolume.drain
        salt 'host1' dsvolume.drain host2 force=True
    """
    return _manager().cluster.drain(
        _node(node), force=force, timeout=timeout, test=test, **_asked()
    )


@_door
def undrain(node=None, timeout=None, test=False):
    """
    Let a drained node take mounts again.

    node
        The node; this one where none is named.

    CLI Example:

    .. code-block:: bash

        salt 'host2' dsvolume.undrain
    """
    return _manager().cluster.undrain(_node(node), timeout=timeout, test=test, **_asked())


@_door
def force_detach(name, node=None, timeout=None, test=False):
    """
    Take a volume from a node and from all who use it there.

    Processes that hold files of it keep them until they end; the device is let go of then.

    name
        The volume.

    node
        Where; this node where none is named. Another one's agent must be running.

    Returns ``{"Name", "Node", "Users", "Changed"}``: from whom it was taken.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.force_detach db host2
    """
    return _manager().cluster.force_detach(
        _name(name), _node(node), timeout=timeout, test=test, **_asked()
    )


@_door
def fence(node, confirmed=False, timeout=None, test=False):
    """
    Say that a node is dead: what it has attached is released.

    It is waited for until the node's leases have lapsed; a node that lives is not fenced. When it
    is back it lets go of everything before it touches a volume.

    node
        The dead node.

    confirmed : False
        That it is switched off. The storage here cannot shut it out by itself.

    Returns ``{"Node", "Fenced": True, "Released": [volume], "Changed"}``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.fence host2 confirmed=True
    """
    return _manager().cluster.fence(
        _node(node), confirmed=confirmed, timeout=timeout, test=test, **_asked()
    )


@_door
def forget_node(node, force=False, timeout=None, test=False):
    """
    Delete all that the store knows of a node that will never come back.

    node
        The dead node.

    force : False
        Also give up volumes, snapshots and removed volumes whose only data were there.

    Returns ``{"Node", "Lost": [volume], "Changed": True}``.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.forget_node host2
    """
    return _manager().cluster.forget(
        _node(node), force=force, timeout=timeout, test=test, **_asked()
    )


@_door
def doctor(fix=False, rebuild=False, timeout=None):
    """
    What disagrees between the store, the storage, the mount table and the loop devices here.

    fix : False
        Mend it: finish or undo what dead processes left, mount again what vanished, remove what
        nobody knows. Objects that carry a copy of their record are never removed.

    rebuild : False
        Make a lost, now empty store anew from the copies of records that lie with the data. What
        is mounted stays mounted, for the users that this node remembers.

    Returns ``[{"Kind", "Name", "Says", "Fixed"}]``; an empty list is good news.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.doctor
        salt 'host1' dsvolume.doctor fix=True
        salt 'host1' dsvolume.doctor rebuild=True
    """
    return _manager().doctor(fix=fix, rebuild=rebuild, timeout=timeout)


@_door
def version():
    """
    The versions of this module, of libstorage and of the store's schema, and where things are.

    CLI Example:

    .. code-block:: bash

        salt 'host1' dsvolume.version
    """
    return {"dsvolume": VERSION, **_manager().version()}
