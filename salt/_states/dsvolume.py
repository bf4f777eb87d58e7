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
    from libstorage.errors import NoSuchVolume, VolumeInUse

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
        As in ``dsvolume.create``. What is left out is not compared.
    """
    wanted = {
        "policy": policy,
        "size": size,
        "fstype": fstype,
        "shared": shared,
        "automigrate": automigrate,
        "opt": opt,
        "labels": labels,
        "timeout": timeout,
    }
    ret = _ret(name)
    try:
        plan = __salt__["dsvolume.create"](name, **wanted, test=True)
        if plan["Warnings"]:
            ret["warnings"] = plan["Warnings"]
        if not plan["Created"]:
            return _as_it_should_be(ret, f"Volume {name} is present.")
        changes = _difference({}, plan["Volume"], DECLARED)
        if __opts__["test"]:
            return _would(ret, changes, f"Volume {name} would be created.")
        __salt__["dsvolume.create"](name, **wanted)
        made = __salt__["dsvolume.info"](name)[0]
        return _done(ret, _difference({}, made, DECLARED), f"Volume {name} was created.")
    except CommandExecutionError as exc:
        return _failed(ret, exc)


def absent(name, force=False, timeout=None):
    """
    There is no volume of this name.

    name
        The volume. One that is in use, protected, or has snapshots is not removed.

    force : False
        Also where stopped containers still refer to it.

    timeout
        Seconds to wait for another's work on it.
    """
    ret = _ret(name)
    test = __opts__["test"]
    try:
        # A real run also finishes a removal, or undoes a creation, that somebody died of.
        was = __salt__["dsvolume.rm"](name, force=force, timeout=timeout, test=test)
        changes = _difference(was, {}, DECLARED)
        if test:
            return _would(ret, changes, f"Volume {name} would be removed.")
        if __salt__["dsvolume.ls"](filter=[f"name={name}"]):
            return _failed(ret, f"Volume {name} was removed, and made anew by somebody else")
        return _done(ret, changes, f"Volume {name} was removed.")
    except CommandExecutionError as exc:
        if isinstance(exc.__cause__, NoSuchVolume):
            return _as_it_should_be(ret, f"Volume {name} is absent.")
        if isinstance(exc.__cause__, VolumeInUse) and not _foreseen(name).get("Containers", True):
            was = __salt__["dsvolume.info"](name)[0]
            comment = f"Volume {name} would be removed once it is unmounted."
            return _would(ret, _difference(was, {}, DECLARED), comment)
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
