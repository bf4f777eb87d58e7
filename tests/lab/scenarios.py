"""The verbs that meet faults, and what must be true of each after any of them."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lab.faults import Act, Scenario, Trap, fork_victim, points_of
from lab.site import KEEPS_TRASH
from libstorage.errors import LibstorageError, NoSuchSnapshot, NotInTrash, VolumeExists
from libstorage.manager import Given, VolumeManager

MARKER = "what was written before the fault\n"
CHANGED = "what was written after a snapshot\n"

KINDS = {
    "directory": {"policy": "local"},
    "ext4": {"policy": "local", "fstype": "ext4", "mb_size": 8},
    "ext2": {"policy": "local", "fstype": "ext2", "mb_size": 8},
    "ext3": {"policy": "local", "fstype": "ext3", "mb_size": 8},
    "xfs": {"policy": "local", "fstype": "xfs", "mb_size": 32},
    "btrfs": {"policy": "local", "fstype": "btrfs", "mb_size": 32},
    "raw": {"policy": "local", "fstype": "raw", "mb_size": 8},
    "ram": {"policy": "ram", "mb_size": 8},
    "secure": {"policy": "secure", "mb_size": 8},
}
EDITED = ("directory", "ext4", "ram")
"""An edit knows of a volume only where its data are."""
TRASHED = ("directory", "ext4", "raw", "ram", "secure")
GROWN = {"ext4": 24, "xfs": 64, "btrfs": 256, "raw": 16}
V = "v"


def write_marker(
    manager: VolumeManager, id: str = "marker", text: str = MARKER, name: str = V
) -> None:
    """Write something through a mount, and unmount; secure volumes keep nothing."""
    point = Path(manager.mount(name, id=id)["Mountpoint"])
    if point.is_block_device():
        with open(point, "r+b") as device:
            device.write(text.encode())
            os.fsync(device.fileno())
    else:
        (point / "marker").write_text(text)
    manager.unmount(name, id=id)


def read_marker(manager: VolumeManager, id: str = "reader", name: str = V) -> str:
    """What was written; the volume can be written still."""
    point = Path(manager.mount(name, id=id)["Mountpoint"])
    if point.is_block_device():
        with open(point, "rb") as device:
            text = device.read(len(MARKER)).decode()
    else:
        text = (point / "marker").read_text()
        (point / "another").write_text("x")
    manager.unmount(name, id=id)
    return text


def assert_intact(manager: VolumeManager, name: str = V) -> None:
    """The volume is there with what was written before the fault, and can be written."""
    [record] = manager.info(name)
    was = record["Containers"]
    if record["Policy"] != "secure":
        assert read_marker(manager, name=name) == MARKER
    elif not was:
        manager.mount(name, id="reader")
        manager.unmount(name, id="reader")
    assert manager.info(name)[0]["Containers"] == was


def _scenarios(kind: str) -> list[Scenario]:
    given = Given(**KINDS[kind])

    def nothing(manager: VolumeManager) -> None:
        """No volume beforehand."""

    def create(manager: VolumeManager) -> None:
        manager.create(V, given)

    def written(manager: VolumeManager) -> None:
        create(manager)
        write_marker(manager)

    def used(manager: VolumeManager) -> None:
        written(manager)
        manager.mount(V, id="a")

    def used_twice(manager: VolumeManager) -> None:
        used(manager)
        manager.mount(V, id="b")

    def made_or_absent(manager: VolumeManager) -> None:
        for record in manager.ls():
            assert record["Fstype"] == KINDS[kind].get("fstype", record["Fstype"])
            write_marker(manager)
            assert_intact(manager)

    def intact_or_absent(manager: VolumeManager) -> None:
        if manager.ls():
            assert_intact(manager)

    def users(*allowed: set[str]) -> Act:
        def check(manager: VolumeManager) -> None:
            now = {user.split("@")[0] for user in manager.info(V)[0]["Containers"] or ()}
            assert now in [{f"salt:{u}" for u in some} for some in allowed], now
            assert_intact(manager)

        return check

    def labelled(manager: VolumeManager) -> None:
        written(manager)
        manager.label(V, {"team": "db"})

    def edited(field: str, *allowed: object) -> Act:
        def check(manager: VolumeManager) -> None:
            record = manager.info(V)[0]
            assert (record[field], record["Revision"]) in allowed, record
            assert_intact(manager)

        return check

    def come(id: str) -> Act:
        return lambda manager: manager.mount(V, id=id)

    def go(id: str) -> Act:
        return lambda manager: manager.unmount(V, id=id)

    scenarios = [
        Scenario(f"create-{kind}", nothing, create, made_or_absent),
        Scenario(f"rm-{kind}", written, lambda m: m.rm(V), intact_or_absent),
        Scenario(f"first_mount-{kind}", create, come("a"), _mounted_or_not),
        Scenario(f"mount-{kind}", written, come("a"), users({"a"}, set())),
        Scenario(f"unmount-{kind}", used, go("a"), users({"a"}, set())),
    ]
    if kind in EDITED:
        labels = {"team": "web", "tier": "1"}
        changed = edited("Labels", ({"team": "db"}, 2), (labels, 3))
        safe = edited("Protected", (False, 1), (True, 2))
        scenarios += [
            Scenario(f"label-{kind}", labelled, lambda m: m.label(V, labels), changed),
            Scenario(f"protect-{kind}", written, lambda m: m.protect(V), safe),
        ]
    if "fstype" in KINDS[kind]:
        # Elsewhere usage touches nothing on the host.
        scenarios.append(Scenario(f"usage-{kind}", written, lambda m: m.usage(V), users(set())))
    if kind != "secure":
        scenarios += [
            Scenario(f"join-{kind}", used, come("b"), users({"a"}, {"a", "b"})),
            Scenario(f"leave-{kind}", used_twice, go("b"), users({"a"}, {"a", "b"})),
        ]
    return scenarios


def _mounted_or_not(manager: VolumeManager) -> None:
    users = manager.info(V)[0]["Containers"]
    if users:
        assert [user.split("@")[0] for user in users] == ["salt:a"]
        manager.unmount(V, id="a")
    write_marker(manager)
    assert_intact(manager)


def _on_snapshots(kind: str) -> list[Scenario]:
    """The verbs on snapshots: ``v@s`` holds the marker, ``v`` was changed since."""
    given = Given(**KINDS[kind])
    snapshot, clone = f"{V}@s", "clone"

    def written(manager: VolumeManager) -> None:
        manager.create(V, given)
        write_marker(manager)

    def mounted(manager: VolumeManager) -> None:
        written(manager)
        manager.mount(V, id="a")

    def kept(manager: VolumeManager) -> None:
        written(manager)
        manager.snapshot_create(snapshot)

    def changed(manager: VolumeManager) -> None:
        kept(manager)
        write_marker(manager, text=CHANGED)

    def cloned(manager: VolumeManager) -> None:
        kept(manager)
        manager.snapshot_clone(snapshot, clone)

    def keep(manager: VolumeManager) -> None:
        with suppress(VolumeExists):
            manager.snapshot_create(snapshot)

    def drop(manager: VolumeManager) -> None:
        with suppress(NoSuchSnapshot):
            manager.snapshot_rm(snapshot)

    def kept_or_not(manager: VolumeManager) -> None:
        """Nothing is frozen, and what is called a snapshot is one."""
        assert_intact(manager)
        if manager.snapshot_ls(V):
            manager.snapshot_clone(snapshot, clone)
            assert_intact(manager, name=clone)
            manager.rm(clone)
            manager.snapshot_rm(snapshot)

    def before_or_back(manager: VolumeManager) -> None:
        held = read_marker(manager)
        assert held in (MARKER, CHANGED), held
        manager.rollback(snapshot)
        assert_intact(manager)

    def born_or_not(manager: VolumeManager) -> None:
        [record] = manager.snapshot_info(snapshot)
        names = [volume["Name"] for volume in manager.ls() if volume["Name"] != V]
        assert record["Children"] == names
        for name in names:
            assert_intact(manager, name=name)
            manager.rm(name)
        assert manager.snapshot_info(snapshot)[0]["Children"] == []
        manager.rollback(snapshot)
        assert_intact(manager)

    return [
        Scenario(f"snapshot_create-{kind}", written, keep, kept_or_not),
        Scenario(f"snapshot_create_mounted-{kind}", mounted, keep, kept_or_not),
        Scenario(f"snapshot_rm-{kind}", kept, drop, kept_or_not),
        Scenario(f"rollback-{kind}", changed, lambda m: m.rollback(snapshot), before_or_back),
        Scenario(f"clone-{kind}", kept, lambda m: m.snapshot_clone(snapshot, clone), born_or_not),
        Scenario(f"rm_clone-{kind}", cloned, lambda m: m.rm(clone), born_or_not),
    ]


def _with_trash(kind: str) -> list[Scenario]:
    """The ways into the trash and out of it; what has been removed is whole, there or back."""
    given = Given(**KINDS[kind])

    def written(manager: VolumeManager) -> None:
        manager.create(V, given)
        if kind != "secure":
            write_marker(manager)

    def removed(manager: VolumeManager) -> None:
        written(manager)
        manager.rm(V)

    def back(manager: VolumeManager, new: str = V) -> None:
        with suppress(NotInTrash, VolumeExists):
            manager.undelete(V, new=new)

    def whole(manager: VolumeManager) -> None:
        """It is once, in the trash or out of it, and the copy beside the data says the same."""
        assert not [finding for finding in manager.doctor() if finding["Kind"] == "copy"]
        rows = manager.trash_ls()
        assert len(manager.ls()) + len(rows) == 1
        for row in rows:
            manager.undelete(row["Name"])
        [record] = manager.ls()
        assert_intact(manager, name=record["Name"])

    def whole_or_gone(manager: VolumeManager) -> None:
        if manager.ls() or manager.trash_ls():
            whole(manager)

    def purge(manager: VolumeManager) -> None:
        manager.rm(V, purge=True)

    scenarios = [
        Scenario(f"rm_into_trash-{kind}", written, lambda m: m.rm(V), whole),
        Scenario(f"undelete-{kind}", removed, back, whole),
        Scenario(f"undelete_renamed-{kind}", removed, lambda m: back(m, "new"), whole),
        Scenario(f"purge-{kind}", removed, purge, whole_or_gone),
    ]
    return [replace(scenario, settings={"trash": KEEPS_TRASH}) for scenario in scenarios]


def _clone_with_trash(kind: str) -> list[Scenario]:
    """A clone goes into the trash and comes back: its parent always knows its children."""
    snapshot, clone = f"{V}@s", "clone"

    def cloned(manager: VolumeManager) -> None:
        manager.create(V, Given(**KINDS[kind]))
        write_marker(manager)
        manager.snapshot_create(snapshot)
        manager.snapshot_clone(snapshot, clone)

    def removed(manager: VolumeManager) -> None:
        cloned(manager)
        manager.rm(clone)

    def back(manager: VolumeManager) -> None:
        with suppress(NotInTrash, VolumeExists):
            manager.undelete(clone)

    def a_child_or_in_the_trash(manager: VolumeManager) -> None:
        names = [record["Name"] for record in manager.ls() if record["Name"] != V]
        assert manager.snapshot_info(snapshot)[0]["Children"] == names
        assert len(names) + len(manager.trash_ls()) == 1
        back(manager)
        assert manager.snapshot_info(snapshot)[0]["Children"] == [clone]
        assert_intact(manager, name=clone)

    acts = (("rm", cloned, lambda m: m.rm(clone)), ("undelete", removed, back))
    settings = {"trash": KEEPS_TRASH}
    return [
        Scenario(f"{verb}_clone_with_trash-{kind}", before, act, a_child_or_in_the_trash, settings)
        for verb, before, act in acts
    ]


def _resize(kind: str) -> Scenario:
    given, larger = Given(**KINDS[kind]), GROWN[kind]

    def written(manager: VolumeManager) -> None:
        manager.create(V, given)
        write_marker(manager)

    def grown_or_not(manager: VolumeManager) -> None:
        size = manager.info(V)[0]["MBSize"]
        assert size in (given.mb_size, larger)
        assert_intact(manager)
        assert manager.resize(V, larger)["Volume"]["MBSize"] == larger
        assert_intact(manager)

    return Scenario(f"resize-{kind}", written, lambda m: m.resize(V, larger), grown_or_not)


def _recovery(kind: str, verb: str) -> Scenario:
    """The doctor itself meets the fault, while it recovers what a killed verb has left."""
    known = [*_scenarios(kind), *_with_trash(kind)]
    victim = next(s for s in known if s.name == f"{verb}-{kind}")

    def left_behind(manager: VolumeManager) -> None:
        victim.prepare(manager)
        # In the middle of the verb: after its first command, or half of its points.
        counted = points_of(victim, "kill")
        pid, pipe = fork_victim(manager.config, victim.act, Trap(len(counted) // 2 + 1, "kill"))
        os.close(pipe)
        os.waitpid(pid, 0)

    def doctor(manager: VolumeManager) -> None:
        with suppress(LibstorageError):
            manager.doctor(fix=True)

    name = f"doctor_after_{verb}-{kind}"
    return Scenario(name, left_behind, doctor, victim.check, victim.settings)


SCENARIOS = {
    scenario.name: scenario
    for scenario in [
        *(scenario for kind in KINDS for scenario in _scenarios(kind)),
        *(scenario for kind in GROWN for scenario in _on_snapshots(kind)),
        *(_resize(kind) for kind in GROWN),
        *(scenario for kind in TRASHED for scenario in _with_trash(kind)),
        *_clone_with_trash("ext4"),
        _recovery("ext4", "create"),
        _recovery("ext4", "rm"),
        _recovery("xfs", "mount"),
        _recovery("ram", "unmount"),
        _recovery("ext4", "rm_into_trash"),
        _recovery("directory", "undelete_renamed"),
        _recovery("ram", "purge"),
    ]
}
