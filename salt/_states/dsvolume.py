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

    slow:
      dsvolume.qos_profile_present:
        - read_bw: 2000000
        - write_bw: 1000000

    db is limited:
      dsvolume.qos_applied:
        - name: db
        - profile: slow

    db is mounted for the backup:
      dsvolume.mounted:
        - name: db
        - id: backup

    old:
      dsvolume.unmounted: []

    old is gone:
      dsvolume.absent:
        - name: old

    host2:
      dsvolume.drained: []

Every state reads, compares, and under ``test=True`` foretells exactly the changes that a real run
makes, without writing anything. A change in progress by somebody else is waited for first; what a
dead process left is judged as it will be when it is recovered. A difference that would destroy
data (another policy or filesystem, another size) is refused, with the reason.
"""

from salt.exceptions import CommandExecutionError

try:
    import libstorage
    from libstorage import declared
    from libstorage.errors import (
        LibstorageError,
        NoSuchProfile,
        NoSuchSnapshot,
        NoSuchVolume,
        VolumeInUse,
    )
    from libstorage.manager import Given, merge_labels, read_labels

    ERRORS = (CommandExecutionError, LibstorageError)
    MISSING = ""
except ImportError as exc:
    MISSING = str(exc)

VERSION = "0.1.0"

__virtualname__ = "dsvolume"
DRAIN = ("Drained", "Attached")


def __virtual__():
    if MISSING:
        return False, f"The states of dsvolume need libstorage: {MISSING}"
    if unfit := libstorage.unfit(VERSION):
        return False, f"The states of dsvolume {unfit}"
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
    qos_profile=None,
    qos=None,
    timeout=None,
):
    """
    There is a volume of this name with these options.

    name
        The volume.

    policy, size, fstype, shared, automigrate, opt, labels, qos_profile, qos, timeout
        As in ``dsvolume.create``. What is left out is not compared. A volume that is smaller
        grows. Labels that differ are set; one with an empty value is removed, one that is not
        declared stays. QoS that differs is applied, at once where the volume is in use.
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
    more = {"labels": labels, "qos_profile": qos_profile, "qos": qos}
    ret = declared.ret(name)
    try:
        grows = _is_smaller(name, size)
        plan = _plan_create(name, {**options, "size": None if grows else size}, {})
        if plan["Warnings"]:
            ret["warnings"] = plan["Warnings"]
        if not plan["Created"]:
            edits = _edits(name, size if grows else None, labels, qos_profile, qos, timeout)
            return _edited(ret, edits, f"Volume {name} is present.")
        plan = _plan_create(name, options, more)
        changes = declared.difference({}, plan["Volume"], _declared(more))
        if __opts__["test"]:
            return declared.would(ret, changes, f"Volume {name} would be created.")
        __salt__["dsvolume.create"](name, **options, **more)
        made = __salt__["dsvolume.info"](name)[0]
        changes = declared.difference({}, made, _declared(more))
        return declared.done(ret, changes, f"Volume {name} was created.")
    except ERRORS as exc:
        return declared.failed(ret, exc)


def _plan_create(name, options, more):
    """What a create would do; in a test run a profile may be only foreseen."""
    try:
        return __salt__["dsvolume.create"](name, **options, **more, test=True)
    except CommandExecutionError as exc:
        profile = more.get("qos_profile")
        if not isinstance(exc.__cause__, NoSuchProfile) or not _foreseen(profile).get("Profile"):
            raise
        # Whether it can be limited at all does not depend on the profile.
        qos = {"qos": True if more["qos"] is None else more["qos"]}
        less = {**more, **qos, "qos_profile": None}
        plan = __salt__["dsvolume.create"](name, **options, **less, test=True)
        plan["Volume"]["QoSProfile"] = profile
        return plan


def _declared(more):
    """The fields that a declaration decides, those of QoS where it is spoken of."""
    spoken = any(more[word] is not None for word in ("qos_profile", "qos"))
    return (*declared.DECLARED, *declared.QOS) if spoken else declared.DECLARED


def _is_smaller(name, size):
    """Is there such a volume with a size, and is it smaller than declared?"""
    known = __salt__["dsvolume.ls"](filter=[f"name={name}"]) if size else []
    return bool(known) and 0 < known[0]["MBSize"] < Given.of(size=size).mb_size


def _edits(name, size=None, labels=None, qos_profile=None, qos=None, timeout=None):
    """The calls that bring a volume there, each as (function, arguments, keyword arguments)."""
    given = Given.of(qos_profile=qos_profile, qos=qos)
    patience = {"timeout": timeout}
    edits = []
    if size:
        edits.append(("resize", (name, size), patience))
    if labels:
        edits.append(("label", (name, labels), patience))
    if given.qos_profile:
        edits.append(("qos_apply", (name,), {**patience, "profile": given.qos_profile}))
    if given.qos_state is not None:
        verb = "qos_enable" if given.qos_state else "qos_disable"
        edits.append((verb, (name,), patience))
    return edits


def _edited(ret, edits, as_is):
    """A volume that is there, with the edits that it needs: foretold, or made and read again."""
    name = ret["name"]
    planned = [_planned(edit) for edit in edits]
    if not planned:
        return declared.as_it_should_be(ret, as_is)
    was = __salt__["dsvolume.info"](name)[0]
    before = {**was, **_foreseen(name)}
    after = dict(before)
    for (function, _, _), record in zip(edits, planned, strict=True):
        after |= {field: record[field] for field in declared.EDITED[function]}
    if labels := next((call[1] for function, call, _ in edits if function == "label"), None):
        after["Labels"] = merge_labels(before["Labels"], read_labels(labels))
    changes = declared.difference(before, after, declared.EDITS)
    if not changes:
        return declared.as_it_should_be(ret, as_is)
    done = declared.in_words(changes, after)
    if __opts__["test"]:
        return declared.would(ret, changes, f"Volume {name} would be {done}.")
    for function, arguments, options in edits:
        __salt__[f"dsvolume.{function}"](*arguments, **options)
    now = __salt__["dsvolume.info"](name)[0]
    return declared.done(
        ret, declared.difference(was, now, declared.EDITS), f"Volume {name} was {done}."
    )


def _planned(edit):
    """The record that an edit would leave."""
    function, arguments, options = edit
    try:
        answer = __salt__[f"dsvolume.{function}"](*arguments, **options, test=True)
    except CommandExecutionError as exc:
        profile = options.get("profile")
        if not isinstance(exc.__cause__, NoSuchProfile) or not _foreseen(profile).get("Profile"):
            raise
        return {"QoSProfile": profile}
    if isinstance(answer, list):
        return answer[0]
    return answer.get("Volume", answer)


def qos_applied(name, profile=None, enabled=True, timeout=None):
    """
    The volume has this QoS profile, and QoS is enabled for it. Or, with ``enabled: False``, not.

    name
        The volume. Directories and volumes in memory cannot be limited.

    profile
        The profile. What is left out is not compared: the volume has its own, or ``default``.

    enabled : True
        Whether QoS is to be enabled for the volume.

    timeout
        Seconds to wait for a removal in progress.
    """
    ret = declared.ret(name)
    try:
        if not isinstance(enabled, bool):
            return declared.failed(ret, f"enabled must be true or false, not {str(enabled)[:60]!r}")
        edits = _edits(name, qos_profile=profile, qos=enabled, timeout=timeout)
        state = "enabled" if enabled else "disabled"
        return _edited(ret, edits, f"QoS is {state} for volume {name}.")
    except ERRORS as exc:
        foreseen = _foreseen(name)
        if isinstance(exc.__cause__, NoSuchVolume) and foreseen.get("Name"):
            before = {"QoSState": False, "QoSProfile": "", **foreseen}
            after = {"QoSState": enabled, "QoSProfile": profile or before["QoSProfile"]}
            changes = declared.difference(before, after, declared.QOS)
            if not changes:
                return declared.as_it_should_be(ret, f"Volume {name} would be created so.")
            done = declared.in_words(changes, {**before, **after})
            return declared.would(
                ret, changes, f"Volume {name} would be {done} once it is created."
            )
        return declared.failed(ret, exc)


def qos_profile_present(
    name,
    read_iops=None,
    read_bw=None,
    write_iops=None,
    write_bw=None,
    weight=None,
    timeout=None,
):
    """
    There is a QoS profile of this name with these limits.

    name
        The profile; ``default`` is that of volumes that have no other.

    read_iops, read_bw, write_iops, write_bw, weight, timeout
        As in ``dsvolume.qos_create``. What is left out is not compared. Limits that differ are
        changed, for the volumes in use at once.
    """
    limits = {
        "read_iops": read_iops,
        "read_bw": read_bw,
        "write_iops": write_iops,
        "write_bw": write_bw,
        "weight": weight,
    }
    ret = declared.ret(name)
    try:
        was = _profile(name)
        verb, done = ("create", "created") if was is None else ("edit", "edited")
        if was is not None and not any(value is not None for value in limits.values()):
            return declared.as_it_should_be(ret, f"QoS profile {name} is present.")
        call = {**limits, "timeout": timeout}
        plan = __salt__[f"dsvolume.qos_{verb}"](name, **call, test=True)
        changes = declared.profile_difference(was, plan["Profile"])
        if not changes:
            return declared.as_it_should_be(ret, f"QoS profile {name} is present.")
        if __opts__["test"]:
            return declared.would(ret, changes, f"QoS profile {name} would be {done}.")
        __salt__[f"dsvolume.qos_{verb}"](name, **call)
        changes = declared.profile_difference(was, _profile(name))
        return declared.done(ret, changes, f"QoS profile {name} was {done}.")
    except ERRORS as exc:
        return declared.failed(ret, exc)


def qos_profile_absent(name, timeout=None):
    """
    There is no QoS profile of this name.

    name
        The profile. One that volumes have, and ``default``, are not removed.

    timeout
        Seconds to wait for others that change profiles.
    """
    ret = declared.ret(name)
    try:
        was = _profile(name)
        if was is None:
            return declared.as_it_should_be(ret, f"QoS profile {name} is absent.")
        changes = declared.profile_difference(was, None)
        if __opts__["test"]:
            __salt__["dsvolume.qos_rm"](name, timeout=timeout, test=True)
            return declared.would(ret, changes, f"QoS profile {name} would be removed.")
        __salt__["dsvolume.qos_rm"](name, timeout=timeout)
        if _profile(name) is not None:
            return declared.failed(
                ret, f"QoS profile {name} was removed, and made anew by somebody else"
            )
        return declared.done(ret, changes, f"QoS profile {name} was removed.")
    except ERRORS as exc:
        return declared.failed(ret, exc)


def _profile(name):
    """The record of a QoS profile; None where there is none."""
    try:
        return __salt__["dsvolume.qos_info"](name)[0]
    except CommandExecutionError as exc:
        if isinstance(exc.__cause__, NoSuchProfile):
            return None
        raise


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
        return declared.failed(
            declared.ret(name), f"purge must be true or false, not {str(purge)[:60]!r}"
        )
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
            return declared.failed(ret, exc)
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
    ret = declared.ret(name)
    test = __opts__["test"]
    try:
        # A real run also finishes a removal, or undoes a creation, that somebody died of.
        was = __salt__["dsvolume.rm"](name, **how, timeout=timeout, test=test)
        if was["Id"] in in_trash:
            return _emptied(ret, in_trash)
        if test:
            foreseen = _foreseen(name)
            changes = declared.difference({**was, **foreseen}, {}, declared.DECLARED)
            if not changes:
                return declared.as_it_should_be(ret, f"Volume {name} is absent.")
            if foreseen.get("Protected"):
                return declared.failed(ret, f"Volume is protected: {name}; unprotect it first")
            return declared.would(ret, changes, f"Volume {name} would be removed.")
        changes = declared.difference(was, {}, declared.DECLARED)
        if __salt__["dsvolume.ls"](filter=[f"name={name}"]):
            return declared.failed(
                ret, f"Volume {name} was removed, and made anew by somebody else"
            )
        return declared.done(ret, changes, f"Volume {name} was removed.")
    except CommandExecutionError as exc:
        if isinstance(exc.__cause__, NoSuchVolume):
            return declared.as_it_should_be(ret, f"Volume {name} is absent.")
        if isinstance(exc.__cause__, VolumeInUse) and (freed := _freed(name)):
            was = __salt__["dsvolume.info"](name)[0]
            comment = f"Volume {name} would be removed once it is {freed}."
            return declared.would(
                ret, declared.difference({**was, **_foreseen(name)}, {}, declared.DECLARED), comment
            )
        return declared.failed(ret, exc)


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
    ret = declared.ret(name)
    if not isinstance(protected, bool):
        return declared.failed(ret, f"protected must be true or false, not {str(protected)[:60]!r}")
    verb = "protect" if protected else "unprotect"
    foreseen = _foreseen(name)
    try:
        plan = __salt__[f"dsvolume.{verb}"](name, timeout=timeout, test=True)
        was = __salt__["dsvolume.info"](name)[0]
        if "Name" in foreseen and foreseen["Name"] is None:
            return declared.failed(ret, f"No such volume: {name}")
        changes = declared.difference({**was, **foreseen}, plan, ("Protected",))
        if not changes:
            return declared.as_it_should_be(ret, f"Volume {name} is {verb}ed.")
        if __opts__["test"]:
            return declared.would(ret, changes, f"Volume {name} would be {verb}ed.")
        __salt__[f"dsvolume.{verb}"](name, timeout=timeout)
        now = __salt__["dsvolume.info"](name)[0]
        return declared.done(
            ret, declared.difference(was, now, ("Protected",)), f"Volume {name} was {verb}ed."
        )
    except CommandExecutionError as exc:
        if isinstance(exc.__cause__, NoSuchVolume) and foreseen.get("Name"):
            changes = declared.difference(
                {"Protected": False, **foreseen}, {"Protected": protected}, ("Protected",)
            )
            if not changes:
                return declared.as_it_should_be(ret, f"Volume {name} is {verb}ed.")
            return declared.would(
                ret, changes, f"Volume {name} would be {verb}ed once it is created."
            )
        return declared.failed(ret, exc)


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
    ret = declared.ret(name)
    user = {"id": id, "timeout": timeout}
    try:
        plan = __salt__["dsvolume.mount"](name, **user, test=True)
        if not plan["Changed"]:
            return declared.as_it_should_be(
                ret, f"Volume {name} is mounted at {plan['Mountpoint']}."
            )
        before = _presence(name)
        if __opts__["test"]:
            changes = declared.on_top(_foreseen(name), before, plan)
            return declared.would(ret, changes, f"Volume {name} would be mounted.")
        __salt__["dsvolume.mount"](name, **user)
        changes = declared.difference(before, _presence(name), declared.PRESENCE)
        return declared.done(ret, changes, f"Volume {name} was mounted at {plan['Mountpoint']}.")
    except CommandExecutionError as exc:
        foreseen = _foreseen(name)
        if isinstance(exc.__cause__, NoSuchVolume) and foreseen.get("Name"):
            point = f"{__salt__['dsvolume.version']()['mount_root']}/{name}"
            plan = {"Mountpoint": point, "Containers": [f"salt:{id}@{__opts__['id']}"]}
            changes = declared.on_top(foreseen, {"Mountpoint": "", "Containers": []}, plan)
            return declared.would(
                ret, changes, f"Volume {name} would be mounted once it is created."
            )
        return declared.failed(ret, exc)


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
    ret = declared.ret(name)
    user = {"id": id, "timeout": timeout}
    try:
        plan = __salt__["dsvolume.unmount"](name, **user, test=True)
        if not plan["Changed"]:
            return declared.as_it_should_be(ret, f"Volume {name} is not mounted for salt:{id}.")
        before = _presence(name)
        if __opts__["test"]:
            changes = declared.on_top(_foreseen(name), before, plan)
            return declared.would(ret, changes, f"Volume {name} would be unmounted for salt:{id}.")
        __salt__["dsvolume.unmount"](name, **user)
        changes = declared.difference(before, _presence(name), declared.PRESENCE)
        return declared.done(ret, changes, f"Volume {name} was unmounted for salt:{id}.")
    except CommandExecutionError as exc:
        if isinstance(exc.__cause__, NoSuchVolume):
            return declared.as_it_should_be(ret, f"Volume {name} does not exist.")
        return declared.failed(ret, exc)


def drained(name, force=False, timeout=None):
    """
    The node takes no new mounts, and nothing is mounted there.

    name
        The node.

    force : False
        Take the volumes from their users instead of waiting for them.

    timeout
        Seconds to wait for the users to go.
    """
    ret = declared.ret(name)
    try:
        plan = __salt__["dsvolume.drain"](name, force=force, timeout=timeout, test=True)
        # What an earlier state of this run would have unmounted is not to be waited for.
        attached = [v for v in plan["Attached"] if _foreseen(v).get("Containers", ["?"])]
        before = {"Drained": _is_drained(name), "Attached": attached}
        changes = declared.difference(before, {"Drained": True, "Attached": []}, DRAIN)
        if not changes:
            return declared.as_it_should_be(ret, f"Node {name} is drained.")
        if __opts__["test"]:
            return declared.would(ret, changes, f"Node {name} would be drained.")
        __salt__["dsvolume.drain"](name, force=force, timeout=timeout)
        return declared.done(ret, changes, f"Node {name} was drained.")
    except CommandExecutionError as exc:
        return declared.failed(ret, exc)


def undrained(name, timeout=None):
    """
    The node takes mounts.

    name
        The node.

    timeout
        Seconds to wait for the store.
    """
    ret = declared.ret(name)
    try:
        if not __salt__["dsvolume.undrain"](name, timeout=timeout, test=True)["Changed"]:
            return declared.as_it_should_be(ret, f"Node {name} is not drained.")
        changes = {"Drained": {"old": True, "new": False}}
        if __opts__["test"]:
            return declared.would(ret, changes, f"Node {name} would be undrained.")
        __salt__["dsvolume.undrain"](name, timeout=timeout)
        return declared.done(ret, changes, f"Node {name} was undrained.")
    except CommandExecutionError as exc:
        return declared.failed(ret, exc)


def _is_drained(node):
    rows = __salt__["dsvolume.nodes"]()
    return any(row["Name"] == node and "Drained" in row for row in rows)


def snapshot_present(name, timeout=None):
    """
    There is a snapshot of this name. What it holds is not compared: it holds what its volume held
    when it was made.

    name
        ``VOLUME@SNAPSHOT``.

    timeout
        Seconds to wait for another's work on the volume.
    """
    ret = declared.ret(name)
    try:
        if _kept(name):
            return declared.as_it_should_be(ret, f"Snapshot {name} is present.")
        if __opts__["test"]:
            if not _foreseen(_volume_of(name)).get("Name"):
                __salt__["dsvolume.snapshot_create"](name, timeout=timeout, test=True)
            changes = {"Name": {"old": None, "new": name}}
            return declared.would(ret, changes, f"Snapshot {name} would be created.")
        __salt__["dsvolume.snapshot_create"](name, timeout=timeout)
        made = _kept(name)
        changes = {"Name": {"old": None, "new": f"{made['Volume']}@{made['Name']}"}}
        return declared.done(ret, changes, f"Snapshot {name} was created.")
    except ERRORS as exc:
        return declared.failed(ret, exc)


def snapshot_absent(name, timeout=None):
    """
    There is no snapshot of this name.

    name
        ``VOLUME@SNAPSHOT``. One that volumes were cloned from is not removed.

    timeout
        Seconds to wait for another's work on the volume.
    """
    ret = declared.ret(name)
    try:
        if not _kept(name):
            return declared.as_it_should_be(ret, f"Snapshot {name} is absent.")
        changes = {"Name": {"old": name, "new": None}}
        if __opts__["test"]:
            __salt__["dsvolume.snapshot_rm"](name, timeout=timeout, test=True)
            return declared.would(ret, changes, f"Snapshot {name} would be removed.")
        __salt__["dsvolume.snapshot_rm"](name, timeout=timeout)
        if _kept(name):
            return declared.failed(
                ret, f"Snapshot {name} was removed, and made anew by somebody else"
            )
        return declared.done(ret, changes, f"Snapshot {name} was removed.")
    except ERRORS as exc:
        return declared.failed(ret, exc)


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
    ret = declared.ret(name)
    call = {"opt": opt, "timeout": timeout}
    try:
        plan = __salt__["dsvolume.snapshot_clone"](snapshot, name, **call, test=True)
        if not plan["Created"]:
            return declared.as_it_should_be(ret, f"Volume {name} is a clone of {snapshot}.")
        changes = declared.difference({}, plan["Volume"], declared.CLONED)
        if __opts__["test"]:
            return declared.would(ret, changes, f"Volume {name} would be cloned from {snapshot}.")
        __salt__["dsvolume.snapshot_clone"](snapshot, name, **call)
        made = __salt__["dsvolume.info"](name)[0]
        return declared.done(
            ret,
            declared.difference({}, made, declared.CLONED),
            f"Volume {name} was cloned from {snapshot}.",
        )
    except CommandExecutionError as exc:
        if isinstance(exc.__cause__, NoSuchSnapshot | NoSuchVolume) and _foreseen(snapshot):
            comment = f"Volume {name} would be cloned from {snapshot} once that is there."
            return declared.would(
                ret, declared.difference({}, _child(name, snapshot, opt), declared.CLONED), comment
            )
        return declared.failed(ret, exc)


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


def _presence(name):
    """Where the volume is on this node, and for whom."""
    record = __salt__["dsvolume.info"](name)[0]
    here = f"@{__opts__['id']}"
    users = [user for user in record["Containers"] or [] if user.endswith(here)]
    return {"Mountpoint": record["Mountpoint"], "Containers": users}
