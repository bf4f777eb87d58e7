"""
Volumes as they should be.

.. code-block:: yaml

    db:
      dsvolume.present:
        - policy: local
        - fstype: ext4
        - size: 100
        - labels:
            team: web

    db is kept:
      dsvolume.protected:
        - name: db

    db is mounted for the backup:
      dsvolume.mounted:
        - name: db
        - id: backup

    old:
      dsvolume.unmounted: []

    old is gone:
      dsvolume.absent:
        - name: old

Every state reads, compares, and under ``test=True`` foretells exactly the changes that a real run
makes, without writing anything. A change in progress by somebody else is waited for first; what a
dead process left is judged as it will be when it is recovered. A difference that would destroy
data (another policy or filesystem, another size) is refused, with the reason.
"""

from salt.exceptions import CommandExecutionError

try:
    from libstorage.errors import NoSuchSnapshot, NoSuchVolume, VolumeInUse
    from libstorage.manager import Given, merge_labels, read_labels

    MISSING = ""
except ImportError as exc:
    MISSING = str(exc)

__virtualname__ = "dsvolume"

DECLARED = (
    "Name",
    "Policy",
    "Voltype",
    "Fstype",
    "MBSize",
    "Shared",
    "AutoMigrate",
    "Options",
    "Labels",
)
"""The fields that a declaration decides; the others come with time and place."""

CLONED = (*DECLARED, "ParentSnapshot")

PRESENCE = ("Mountpoint", "Containers")


def __virtual__():
    if MISSING:
        return False, f"The states of dsvolume need libstorage: {MISSING}"
    if "dsvolume.create" not in __salt__:
        return False, "The states of dsvolume need the module dsvolume, which did not load"
    return __virtualname__


def present(
    name,
    policy=None,
    size=None,
    fstype=None,
    shared=None,
    automigrate=None,
    opt=None,
    labels=None,
    timeout=None,
):
    """
    There is a volume of this name with these options.

    name
        The volume.

    policy, size, fstype, shared, automigrate, opt, labels, timeout
        As in ``dsvolume.create``. What is left out is not compared. Labels that differ are set;
        one with an empty value is removed, one that is not declared stays.
    """
    options = {
        "policy": policy,
        "size": size,
        "fstype": fstype,
        "shared": shared,
        "automigrate": automigrate,
        "opt": opt,
        "timeout": timeout,
    }
    ret = _ret(name)
    try:
        if _is_smaller(name, size):
            return _grown(ret, options, labels)
        plan = __salt__["dsvolume.create"](name, **options, test=True)
        if plan["Warnings"]:
            ret["warnings"] = plan["Warnings"]
        if not plan["Created"]:
            return _labelled(ret, plan["Volume"], labels, timeout)
        options["labels"] = labels
        plan = __salt__["dsvolume.create"](name, **options, test=True)
        changes = _difference({}, plan["Volume"], DECLARED)
        if __opts__["test"]:
            return _would(ret, changes, f"Volume {name} would be created.")
        __salt__["dsvolume.create"](name, **options)
        made = __salt__["dsvolume.info"](name)[0]
        return _done(ret, _difference({}, made, DECLARED), f"Volume {name} was created.")
    except CommandExecutionError as exc:
        return _failed(ret, exc)


def _is_smaller(name, size):
    """Is there such a volume with a size, and is it smaller than declared?"""
    known = __salt__["dsvolume.ls"](filter=[f"name={name}"]) if size else []
    return bool(known) and 0 < known[0]["MBSize"] < Given.of(size=size).mb_size


def _grown(ret, options, labels):
    """``present`` for a volume that is too small: it grows, if all else is as declared."""
    name = ret["name"]
    rest = {**options, "size": None}
    plan = __salt__["dsvolume.create"](name, **rest, test=True)
    was, timeout = plan["Volume"], options["timeout"]
    wanted = __salt__["dsvolume.resize"](name, options["size"], timeout=timeout, test=True)
    if labels:
        labelled = __salt__["dsvolume.label"](name, labels, timeout=timeout, test=True)
        wanted["Volume"]["Labels"] = labelled["Labels"]
    changes = _difference(was, wanted["Volume"], DECLARED)
    if __opts__["test"]:
        return _would(ret, changes, f"Volume {name} would be resized.")
    __salt__["dsvolume.resize"](name, options["size"], timeout=timeout)
    if labels:
        __salt__["dsvolume.label"](name, labels, timeout=timeout)
    now = __salt__["dsvolume.info"](name)[0]
    return _done(ret, _difference(was, now, DECLARED), f"Volume {name} was resized.")


def _labelled(ret, was, labels, timeout):
    """The rest of ``present`` for a volume that is there: its labels."""
    name = was["Name"]
    as_is = f"Volume {name} is present."
    if not labels:
        return _as_it_should_be(ret, as_is)
    plan = __salt__["dsvolume.label"](name, labels, timeout=timeout, test=True)
    before, after = was["Labels"], plan["Labels"]
    foreseen = _foreseen(name).get("Labels")
    if foreseen is not None:
        before, after = foreseen, merge_labels(foreseen, read_labels(labels))
    if before == after:
        return _as_it_should_be(ret, as_is)
    changes = {"Labels": {"old": before, "new": after}}
    if __opts__["test"]:
        return _would(ret, changes, f"Volume {name} would be labelled.")
    __salt__["dsvolume.label"](name, labels, timeout=timeout)
    now = __salt__["dsvolume.info"](name)[0]
    return _done(ret, _difference(was, now, ("Labels",)), f"Volume {name} was labelled.")


def absent(name, force=False, purge=False, timeout=None):
    """
    There is no volume of this name; what was removed is kept in the trash for some days.

    name
        The volume. One that is in use, protected, or has snapshots is not removed.

    force : False
        Also where stopped containers still refer to it.

    purge : False
        Its data are destroyed at once, and so is what the trash holds of this name.

    timeout
        Seconds to wait for another's work on it.
    """
    if not isinstance(purge, bool):
        return _failed(_ret(name), f"purge must be true or false, not {str(purge)[:60]!r}")
    if not purge:
        return _removed(name, timeout, force=force)
    in_trash = [row["Id"] for row in __salt__["dsvolume.trash_ls"](name)]
    ret = _removed(name, timeout, force=force, purge=True, in_trash=in_trash)
    if "Name" in ret["changes"] and in_trash:
        return _purged(ret, in_trash, timeout)
    return ret


def _purged(ret, in_trash, timeout):
    """``absent`` with ``purge`` of what the trash holds, once there is no such volume."""
    name = ret["name"]
    try:
        if not __opts__["test"]:
            __salt__["dsvolume.rm"](name, purge=True, timeout=timeout)
    except CommandExecutionError as exc:
        # With a removal that somebody died of, all have gone at once.
        if not isinstance(exc.__cause__, NoSuchVolume):
            return _failed(ret, exc)
    return _emptied(ret, in_trash)


def _emptied(ret, in_trash):
    """What the trash held is gone, or would be."""
    verb = "would be" if __opts__["test"] else "was"
    comment = f"{ret['comment']} What the trash held of {ret['name']} {verb} destroyed.".strip()
    changes = {**ret["changes"], "Trash": {"old": in_trash, "new": []}}
    return {
        **ret,
        "result": None if __opts__["test"] else True,
        "changes": changes,
        "comment": comment,
    }


def _removed(name, timeout, *, in_trash=(), **how):
    """
    ``absent`` of the volume itself.

    in_trash
        The Ids of removed volumes that go where there is no such volume.
    """
    ret = _ret(name)
    test = __opts__["test"]
    try:
        # A real run also finishes a removal, or undoes a creation, that somebody died of.
        was = __salt__["dsvolume.rm"](name, **how, timeout=timeout, test=test)
        if was["Id"] in in_trash:
            return _emptied(ret, in_trash)
        if test:
            foreseen = _foreseen(name)
            changes = _difference({**was, **foreseen}, {}, DECLARED)
            if not changes:
                return _as_it_should_be(ret, f"Volume {name} is absent.")
            if foreseen.get("Protected"):
                return _failed(ret, f"Volume is protected: {name}; unprotect it first")
            return _would(ret, changes, f"Volume {name} would be removed.")
        changes = _difference(was, {}, DECLARED)
        if __salt__["dsvolume.ls"](filter=[f"name={name}"]):
            return _failed(ret, f"Volume {name} was removed, and made anew by somebody else")
        return _done(ret, changes, f"Volume {name} was removed.")
    except CommandExecutionError as exc:
        if isinstance(exc.__cause__, NoSuchVolume):
            return _as_it_should_be(ret, f"Volume {name} is absent.")
        if isinstance(exc.__cause__, VolumeInUse) and (freed := _freed(name)):
            was = __salt__["dsvolume.info"](name)[0]
            comment = f"Volume {name} would be removed once it is {freed}."
            return _would(ret, _difference({**was, **_foreseen(name)}, {}, DECLARED), comment)
        return _failed(ret, exc)


def protected(name, protected=True, timeout=None):
    """
    The volume is protected: nobody removes it. Or, with ``protected: False``, it is not.

    name
        The volume.

    protected : True
        Whether it is to be protected.

    timeout
        Seconds to wait for a removal in progress.
    """
    ret = _ret(name)
    if not isinstance(protected, bool):
        return _failed(ret, f"protected must be true or false, not {str(protected)[:60]!r}")
    verb = "protect" if protected else "unprotect"
    foreseen = _foreseen(name)
    try:
        plan = __salt__[f"dsvolume.{verb}"](name, timeout=timeout, test=True)
        was = __salt__["dsvolume.info"](name)[0]
        if "Name" in foreseen and foreseen["Name"] is None:
            return _failed(ret, f"No such volume: {name}")
        changes = _difference({**was, **foreseen}, plan, ("Protected",))
        if not changes:
            return _as_it_should_be(ret, f"Volume {name} is {verb}ed.")
        if __opts__["test"]:
            return _would(ret, changes, f"Volume {name} would be {verb}ed.")
        __salt__[f"dsvolume.{verb}"](name, timeout=timeout)
        now = __salt__["dsvolume.info"](name)[0]
        return _done(ret, _difference(was, now, ("Protected",)), f"Volume {name} was {verb}ed.")
    except CommandExecutionError as exc:
        if isinstance(exc.__cause__, NoSuchVolume) and foreseen.get("Name"):
            changes = _difference(
                {"Protected": False, **foreseen}, {"Protected": protected}, ("Protected",)
            )
            if not changes:
                return _as_it_should_be(ret, f"Volume {name} is {verb}ed.")
            return _would(ret, changes, f"Volume {name} would be {verb}ed once it is created.")
        return _failed(ret, exc)


def mounted(name, id="salt", timeout=None):
    """
    The volume is mounted on this node for this user.

    name
        The volume.

    id : salt
        Who uses it.

    timeout
        Seconds to wait for another's work on it.
    """
    ret = _ret(name)
    user = {"id": id, "timeout": timeout}
    try:
        plan = __salt__["dsvolume.mount"](name, **user, test=True)
        if not plan["Changed"]:
            return _as_it_should_be(ret, f"Volume {name} is mounted at {plan['Mountpoint']}.")
        before = _presence(name)
        if __opts__["test"]:
            changes = _on_top(_foreseen(name), before, plan)
            return _would(ret, changes, f"Volume {name} would be mounted.")
        __salt__["dsvolume.mount"](name, **user)
        changes = _difference(before, _presence(name), PRESENCE)
        return _done(ret, changes, f"Volume {name} was mounted at {plan['Mountpoint']}.")
    except CommandExecutionError as exc:
        foreseen = _foreseen(name)
        if isinstance(exc.__cause__, NoSuchVolume) and foreseen.get("Name"):
            point = f"{__salt__['dsvolume.version']()['mount_root']}/{name}"
            plan = {"Mountpoint": point, "Containers": [f"salt:{id}@{__opts__['id']}"]}
            changes = _on_top(foreseen, {"Mountpoint": "", "Containers": []}, plan)
            return _would(ret, changes, f"Volume {name} would be mounted once it is created.")
        return _failed(ret, exc)


def unmounted(name, id="salt", timeout=None):
    """
    The volume is not mounted on this node for this user; others may still use it.

    name
        The volume. One that does not exist is not mounted.

    id : salt
        Who used it.

    timeout
        Seconds to wait for another's work on it.
    """
    ret = _ret(name)
    user = {"id": id, "timeout": timeout}
    try:
        plan = __salt__["dsvolume.unmount"](name, **user, test=True)
        if not plan["Changed"]:
            return _as_it_should_be(ret, f"Volume {name} is not mounted for salt:{id}.")
        before = _presence(name)
        if __opts__["test"]:
            changes = _on_top(_foreseen(name), before, plan)
            return _would(ret, changes, f"Volume {name} would be unmounted for salt:{id}.")
        __salt__["dsvolume.unmount"](name, **user)
        changes = _difference(before, _presence(name), PRESENCE)
        return _done(ret, changes, f"Volume {name} was unmounted for salt:{id}.")
    except CommandExecutionError as exc:
        if isinstance(exc.__cause__, NoSuchVolume):
            return _as_it_should_be(ret, f"Volume {name} does not exist.")
        return _failed(ret, exc)


def snapshot_present(name, timeout=None):
    """
    There is a snapshot of this name. What it holds is not compared: it holds what its volume held
    when it was made.

    name
        ``VOLUME@SNAPSHOT``.

    timeout
        Seconds to wait for another's work on the volume.
    """
    ret = _ret(name)
    try:
        if _kept(name):
            return _as_it_should_be(ret, f"Snapshot {name} is present.")
        if __opts__["test"]:
            if not _foreseen(_volume_of(name)).get("Name"):
                __salt__["dsvolume.snapshot_create"](name, timeout=timeout, test=True)
            changes = {"Name": {"old": None, "new": name}}
            return _would(ret, changes, f"Snapshot {name} would be created.")
        __salt__["dsvolume.snapshot_create"](name, timeout=timeout)
        made = _kept(name)
        changes = {"Name": {"old": None, "new": f"{made['Volume']}@{made['Name']}"}}
        return _done(ret, changes, f"Snapshot {name} was created.")
    except CommandExecutionError as exc:
        return _failed(ret, exc)


def snapshot_absent(name, timeout=None):
    """
    There is no snapshot of this name.

    name
        ``VOLUME@SNAPSHOT``. One that volumes were cloned from is not removed.

    timeout
        Seconds to wait for another's work on the volume.
    """
    ret = _ret(name)
    try:
        if not _kept(name):
            return _as_it_should_be(ret, f"Snapshot {name} is absent.")
        changes = {"Name": {"old": name, "new": None}}
        if __opts__["test"]:
            __salt__["dsvolume.snapshot_rm"](name, timeout=timeout, test=True)
            return _would(ret, changes, f"Snapshot {name} would be removed.")
        __salt__["dsvolume.snapshot_rm"](name, timeout=timeout)
        if _kept(name):
            return _failed(ret, f"Snapshot {name} was removed, and made anew by somebody else")
        return _done(ret, changes, f"Snapshot {name} was removed.")
    except CommandExecutionError as exc:
        return _failed(ret, exc)


def cloned(name, snapshot, opt=None, timeout=None):
    """
    There is a volume of this name that was cloned from this snapshot.

    name
        The new volume.

    snapshot
        ``VOLUME@SNAPSHOT``.

    opt
        Options of the new volume, beside those of the snapshot's volume.

    timeout
        Seconds to wait for another's work on it.
    """
    ret = _ret(name)
    call = {"opt": opt, "timeout": timeout}
    try:
        plan = __salt__["dsvolume.snapshot_clone"](snapshot, name, **call, test=True)
        if not plan["Created"]:
            return _as_it_should_be(ret, f"Volume {name} is a clone of {snapshot}.")
        changes = _difference({}, plan["Volume"], CLONED)
        if __opts__["test"]:
            return _would(ret, changes, f"Volume {name} would be cloned from {snapshot}.")
        __salt__["dsvolume.snapshot_clone"](snapshot, name, **call)
        made = __salt__["dsvolume.info"](name)[0]
        return _done(
            ret, _difference({}, made, CLONED), f"Volume {name} was cloned from {snapshot}."
        )
    except CommandExecutionError as exc:
        if isinstance(exc.__cause__, NoSuchSnapshot | NoSuchVolume) and _foreseen(snapshot):
            comment = f"Volume {name} would be cloned from {snapshot} once that is there."
            return _would(ret, _difference({}, _child(name, snapshot, opt), CLONED), comment)
        return _failed(ret, exc)


def _child(name, snapshot, opt):
    """In a test run: the record of a clone whose parent is only foreseen."""
    source = _volume_of(snapshot)
    known = __salt__["dsvolume.ls"](filter=[f"name={source}"])
    parent = {**(known[0] if known else {}), **_foreseen(source)}
    options = {**(parent.get("Options") or {}), **(Given.of(opt=opt).options or {})}
    itself = {"Name": name, "ParentSnapshot": snapshot, "Labels": {}, "Options": options}
    return {**parent, **itself}


def _kept(name):
    """The record of a snapshot, None where it, or in a test run its volume, is not there."""
    try:
        return __salt__["dsvolume.snapshot_info"](name)[0]
    except CommandExecutionError as exc:
        if isinstance(exc.__cause__, NoSuchSnapshot):
            return None
        if isinstance(exc.__cause__, NoSuchVolume) and _foreseen(_volume_of(name)).get("Name"):
            return None
        raise


def _volume_of(snapshot):
    return str(snapshot).partition("@")[0]


def _freed(name):
    """In a test run: how earlier states free a volume that is held now; "" where they do not."""
    foreseen = _foreseen(name)
    was = {**__salt__["dsvolume.info"](name)[0], **foreseen}
    if was["Containers"] or was["Protected"] or __salt__["dsvolume.snapshot_ls"](name):
        return ""
    ways = {"Protected": "unprotected", "Containers": "unmounted"}
    return " and ".join(way for field, way in ways.items() if field in foreseen)


def _foreseen(name):
    """In a test run: what earlier states foretell of the volume, as fields."""
    fields = {}
    if __opts__["test"]:
        runs = globals().get("__running__", {}).items()
        for tag, run in sorted(runs, key=lambda item: item[1].get("__run_num__", 0)):
            if tag.startswith("dsvolume_|-") and run.get("name") == name and run["result"] is None:
                fields |= {field: change["new"] for field, change in run["changes"].items()}
    return fields


def _on_top(foreseen, before, plan):
    """The changes that a plan makes to the presence once what is foreseen has happened."""
    if "Containers" not in foreseen:
        return _difference(before, plan, PRESENCE)
    were = list(foreseen["Containers"])
    stay = [u for u in were if u in plan["Containers"] or u not in before["Containers"]]
    come = [u for u in plan["Containers"] if u not in [*before["Containers"], *were]]
    point = foreseen.get("Mountpoint", before["Mountpoint"])
    after = (plan["Mountpoint"] or point) if stay or come else ""
    return _difference(
        {"Mountpoint": point, "Containers": were},
        {"Mountpoint": after, "Containers": [*stay, *come]},
        PRESENCE,
    )


def _presence(name):
    """Where the volume is on this node, and for whom."""
    record = __salt__["dsvolume.info"](name)[0]
    here = f"@{__opts__['id']}"
    users = [user for user in record["Containers"] or [] if user.endswith(here)]
    return {"Mountpoint": record["Mountpoint"], "Containers": users}


def _difference(old, new, fields):
    """``{field: {"old", "new"}}`` of the fields that differ."""
    return {
        field: {"old": old.get(field), "new": new.get(field)}
        for field in fields
        if old.get(field) != new.get(field)
    }


def _ret(name):
    return {"name": name, "result": None, "changes": {}, "comment": ""}


def _as_it_should_be(ret, comment):
    return {**ret, "result": True, "comment": comment}


def _would(ret, changes, comment):
    return {**ret, "changes": changes, "comment": comment}


def _done(ret, changes, comment):
    return {**ret, "result": True, "changes": changes, "comment": comment}


def _failed(ret, why):
    text = str(why)
    return {**ret, "result": False, "comment": text if text.endswith(".") else f"{text}."}
