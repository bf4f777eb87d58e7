"""The doctor: each thing that may disagree is made by hand, seen, mended, and gone."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.site import NODE, Site, assert_clean
from libstorage.host import files, loops, mounts
from libstorage.host.commands import Work
from libstorage.manager import Given, VolumeManager, requests
from libstorage.store.contract import Delete, Put

Create = Callable[..., dict[str, Any]]
LONG_AGO = time.time() - 3700
ORPHAN = "99999999-0000-0000-0000-000000000000"


def kinds(report: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(finding["Kind"], finding["Name"]) for finding in report]


def mended(manager: VolumeManager, kind: str, name: str, says: str) -> None:
    """Exactly one finding; looking mends nothing; fix mends it; then it is gone."""
    for _ in range(2):
        (seen,) = manager.doctor()
        assert (seen["Kind"], seen["Name"], seen["Fixed"]) == (kind, name, None)
        assert says in seen["Says"]
        assert "\n" not in seen["Says"]
        assert seen["Says"].endswith(".")
    (fixed,) = manager.doctor(fix=True)
    assert fixed == {**seen, "Fixed": True}
    assert manager.doctor() == []


def stays(manager: VolumeManager, kind: str, name: str, says: str) -> None:
    """Exactly one finding, which fix names and leaves alone."""
    for fix in (False, True, False):
        (seen,) = manager.doctor(fix=fix)
        assert (seen["Kind"], seen["Name"], seen["Fixed"]) == (kind, name, None)
        assert says in seen["Says"]


def test_a_sound_node_has_no_findings(site: Site, manager: VolumeManager, create: Create) -> None:
    create("d")
    create("e", fstype="ext4", mb_size=8)
    create("w", fstype="raw", mb_size=1)
    create("r", policy="ram", mb_size=1)
    create("s", policy="secure", mb_size=1)
    for name in "dewrs":
        manager.mount(name)
    before = site.values(), site.listing(), site.mounted()
    assert manager.doctor(fix=True) == []
    assert (site.values(), site.listing(), site.mounted()) == before


# -- mounts and devices


def test_a_stray_mount_is_unmounted(site: Site, manager: VolumeManager, create: Create) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    point = site.config.mount_root / "v"
    mounts.make_point(point)
    mounts.mount(Work(), str(site.image(record)), point, "ext4", "loop")
    report = manager.doctor()
    assert ("mount", "v") in kinds(report)
    assert f"The mount point {point} is mounted although nothing is attached" in str(report)
    manager.doctor(fix=True)
    assert manager.doctor() == []
    assert_clean(site)


@pytest.mark.parametrize("node", [False, True])
def test_a_left_mount_point_is_removed(
    site: Site, manager: VolumeManager, create: Create, node: bool
) -> None:
    create("v")
    point = site.config.mount_root / "gone"
    mounts.make_point(point, node=node)
    mended(manager, "mount", "gone", f"The mount point {point} is left over")
    assert_clean(site)


def test_something_foreign_below_the_mount_root_is_named_and_kept(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    theirs = site.config.mount_root / "theirs"
    theirs.mkdir(parents=True)
    (theirs / "file").write_text("data")
    (seen,) = manager.doctor(fix=True)
    assert (seen["Kind"], seen["Name"], seen["Fixed"]) == ("mount", "theirs", False)
    assert "move away what is there" in seen["Says"]
    assert (theirs / "file").read_text() == "data"


def test_a_stray_mount_that_is_busy_is_named_with_its_holder(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    point = site.config.mount_root / "v"
    mounts.make_point(point)
    mounts.mount(Work(), "tmpfs", point, "tmpfs", "size=1m")
    holder = site.ends(subprocess.Popen(["sleep", "60"], cwd=point, text=True))
    (seen,) = manager.doctor(fix=True)
    assert seen["Fixed"] is False
    assert f"sleep ({holder.pid})" in seen["Says"]


def test_a_vanished_mount_is_made_again_for_its_users(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    point = Path(manager.mount("v", engine="docker", id="1")["Mountpoint"])
    (point / "file").write_text("data")
    mounts.unmount(Work(), point)
    mended(manager, "mount", "v", f"v is attached but not mounted at {point}")
    assert (point / "file").read_text() == "data"
    assert manager.info("v")[0]["Containers"] == [f"docker:1@{NODE}"]
    manager.unmount("v", engine="docker", id="1")
    assert_clean(site)


def test_an_attachment_without_users_is_released(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    manager.mount("v")
    entry = site.store.get(f"attachments/v/{NODE}")
    assert entry
    site.store.transact([], [Put(entry.key, {**entry.value, "Users": []})])
    mended(manager, "attachment", "v", "v is attached but has no user")
    assert_clean(site)


def test_an_attachment_of_an_older_boot_is_released(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    manager.mount("v")
    site.reboot()
    report = manager.doctor()
    assert kinds(report)[0] == ("attachment", "v")
    assert "is of an older boot of this node" in report[0]["Says"]
    manager.doctor(fix=True)
    assert manager.doctor() == []
    assert_clean(site, rebooted=True)


def test_a_mount_that_a_killed_process_left_half_way_is_released(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    code = """
from libstorage.host import mounts
bare = mounts.mount
def hangs(*arguments, **more):
    bare(*arguments, **more)
    print("mounted", flush=True)
    time.sleep(60)
mounts.mount = hangs
manager.mount("v")
"""
    process = site.python(code)
    assert process.stdout
    assert process.stdout.readline() == "mounted\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=5)
    report = manager.doctor()
    assert ("attachment", "v") in kinds(report)
    assert "v was left attaching by a process that is gone" in str(report)
    assert all(finding["Fixed"] for finding in manager.doctor(fix=True))
    assert_clean(site)


def test_a_stray_loop_device_is_detached(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    device = loops.attach(site.image(record))
    mended(manager, "device", "v", f"The loop device {device} of v belongs to no attachment")
    assert_clean(site)


def test_a_maintenance_mount_that_was_left_is_taken_down(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    point = site.root / "maintenance" / record["Id"]
    point.mkdir(parents=True)
    mounts.mount(Work(), str(site.image(record)), point, "ext4", "loop,ro,noload")
    mended(manager, "device", "v", f"The maintenance mount {point} of v belongs to no")
    assert_clean(site)


def test_a_device_of_what_no_record_knows_is_let_go_too(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    image = site.image({"Id": ORPHAN})
    image.parent.mkdir()
    files.make_sparse(image, 2**20)
    loops.attach(image)
    mended(manager, "device", ORPHAN, "belongs to no attachment or operation")


# -- what is in the backend


def orphan(site: Site, kind: str, *, age: float = LONG_AGO, **copy: Any) -> Path:
    """A backend object that no record knows, with a copy of a record where one is given."""
    folder, path = {
        "image": ("images", site.image({"Id": ORPHAN})),
        "directory": ("local", site.root / "local" / ORPHAN),
        "memory": ("ram", site.root / "ram" / ORPHAN),
    }[kind]
    (site.root / folder).mkdir(exist_ok=True)
    if kind == "image":
        path.write_bytes(bytes(2**20))
    else:
        path.mkdir()
    if copy:
        (path.parent / f"{ORPHAN}.json").write_text(json.dumps(copy))
    os.utime(path, (age, age))
    return path


BACKENDS = ["image", "directory", "memory"]


@pytest.mark.parametrize("kind", BACKENDS)
def test_what_was_never_finished_goes_after_an_hour(
    site: Site, manager: VolumeManager, create: Create, kind: str
) -> None:
    create("v")
    path = orphan(site, kind)
    mended(manager, "backend", ORPHAN, f"{path} belongs to no volume and was never finished")
    assert not path.exists()
    assert_clean(site)


@pytest.mark.parametrize("kind", BACKENDS)
def test_what_is_younger_may_be_somebody_s_work_and_stays(
    site: Site, manager: VolumeManager, create: Create, kind: str
) -> None:
    create("v")
    path = orphan(site, kind, age=time.time() - 3500)
    assert manager.doctor(fix=True) == []
    assert path.exists()


@pytest.mark.parametrize("kind", BACKENDS)
def test_what_carries_a_record_is_named_and_never_removed(
    site: Site, manager: VolumeManager, create: Create, kind: str
) -> None:
    record = create("v")
    cluster = site.values()["schema"]["cluster"]
    path = orphan(site, kind, cluster=cluster, record={**record, "Id": ORPHAN, "Name": "lost"})
    stays(manager, "backend", "lost", "carries the record of lost, which the store does not have")
    assert path.exists()


@pytest.mark.parametrize("kind", BACKENDS)
def test_what_belongs_to_another_cluster_is_named_and_left_alone(
    site: Site, manager: VolumeManager, create: Create, kind: str
) -> None:
    record = create("v")
    path = orphan(site, kind, cluster="another", record=record)
    stays(manager, "backend", "v", "belongs to another cluster and is left alone")
    assert path.exists()


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("fresh", [True, False])
def test_an_empty_store_removes_nothing(
    site: Site, manager: VolumeManager, create: Create, kind: str, fresh: bool
) -> None:
    """A store that was lost would make an orphan of everything."""
    if not fresh:
        create("v")
        manager.rm("v")
    path = orphan(site, kind)
    assert manager.doctor(fix=True) == []
    assert path.exists()


def test_what_an_operation_is_making_is_no_orphan(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    record = create("v")
    operation = {
        "Volume": "new",
        "Verb": "create",
        "Arguments": {**record, "Name": "new", "Id": ORPHAN},
        "Owner": site.store.owner(),
        "Token": "t",
        "Process": {},
        "Node": NODE,
        "Started": "2026-01-01T00:00:00Z",
        "Seconds": 600,
    }
    site.store.transact([], [Put("operations/new", operation)])
    path = orphan(site, "image")
    assert manager.doctor(fix=True, timeout=0.2) == []
    assert path.exists()


@pytest.mark.parametrize("spoil", ["old", "missing", "rubbish"])
@pytest.mark.parametrize("fstype", ["ext4", None])
def test_a_copy_that_is_not_current_is_written_anew(
    site: Site, manager: VolumeManager, create: Create, spoil: str, fstype: str | None
) -> None:
    record = create("v", fstype=fstype)
    manager.mount("v")
    manager.unmount("v")
    folder = "images" if fstype else "local"
    copy = site.root / folder / f"{record['Id']}.json"
    good = json.loads(copy.read_text())
    assert good["record"] == record
    if spoil == "old":
        copy.write_text(json.dumps({**good, "record": {**record, "Revision": 0}}))
    elif spoil == "missing":
        copy.unlink()
    else:
        copy.write_bytes(b"\xff")
    mended(manager, "copy", "v", "The copy of the record of v beside its data is not current")
    assert json.loads(copy.read_text()) == good
    assert_clean(site)


# -- records


def test_a_missing_image_is_named(site: Site, manager: VolumeManager, create: Create) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    site.image(record).unlink()
    stays(manager, "record", "v", "The data of v are missing from ds-local; restore them")


def test_an_image_of_another_node_is_not_missed_here(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    site.image(record).rename(site.root / "kept")
    assert site.manager("node2").doctor() == []


def test_a_damaged_volume_is_named(site: Site, manager: VolumeManager, create: Create) -> None:
    create("v")
    entry = site.store.get("volumes/v")
    assert entry
    site.store.transact([], [Put(entry.key, {**entry.value, "State": "damaged"})])
    stays(manager, "record", "v", "v is damaged; mounting it names the repair")


def test_a_record_whose_controller_is_not_configured_here_is_named(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("r", policy="ram", mb_size=1)
    other = site.manager(policies={"local": "ds-local"})
    stays(other, "record", "r", "Controller ds-ram is not configured on this node")


def test_an_attachment_without_a_record_is_named(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    create("other")
    manager.mount("v")
    site.store.transact([], [Delete("volumes/v")])
    assert ("attachment", "v") in kinds(manager.doctor(fix=True))


# -- what others left


def test_an_operation_that_a_killed_process_left_is_undone(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    code = """
from libstorage.host import filesystems
def hangs(*_): print("at it", flush=True); time.sleep(60)
filesystems.make = hangs
manager.create("half", Given(policy="local", fstype="ext4", mb_size=8))
"""
    process = site.python(code)
    assert process.stdout
    assert process.stdout.readline() == "at it\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=5)
    report = manager.doctor()
    assert kinds(report)[0] == ("operation", "half")
    assert f"The create of half was left at step create by a process of {NODE}" in str(report)
    assert all(finding["Fixed"] for finding in manager.doctor(fix=True))
    assert [v["Name"] for v in manager.ls()] == ["v"]
    assert_clean(site)


def test_data_of_a_removed_volume_go_by_the_purge(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    record = create("v")
    create("other")
    manager.mount("v")
    manager.unmount("v")
    doomed = {"voltype": "ds-local", "volume": "v"}
    site.store.transact(
        [],
        [
            Delete("volumes/v"),
            Delete(f"data/v/{NODE}"),
            Put(f"purge/{NODE}/{record['Id']}", doomed),
        ],
    )
    mended(manager, "purge", "v", "This node still holds data of v, which was removed")
    assert not (site.root / "local" / record["Id"]).exists()
    assert_clean(site)


def test_another_node_s_purge_is_left_to_it(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    site.store.transact([], [Put(f"purge/node2/{ORPHAN}", {"voltype": "ds-local", "volume": "x"})])
    assert manager.doctor(fix=True) == []
    assert len(site.values("purge/")) == 1


def test_the_owner_key_of_a_killed_process_is_swept(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    process = site.python("manager.mount('v'); manager.unmount('v'); print(flush=True); input()")
    assert process.stdout
    process.stdout.readline()
    before = len(list(site.store.list("owners/")))
    assert manager.doctor() == []
    process.kill()
    process.wait(timeout=5)
    mended(manager, "owners", NODE, "registered as owners")
    assert len(list(site.store.list("owners/"))) == before - 1


def test_old_events_are_forgotten_and_younger_ones_kept(site: Site, create: Create) -> None:
    create("v")
    create("w")
    old, new = sorted(site.values("events/"))
    value = site.values()[old]
    moved = "2020-01-01T00:00:00.000000Z"
    site.store.transact(
        [], [Delete(old), Put(f"events/{moved}-{value['Id']}", {**value, "Time": moved})]
    )
    manager = site.manager(events={"retention": 1})
    mended(manager, "events", NODE, "Events are older than 1 days")
    assert list(site.values("events/")) == [new]


def test_answers_to_old_jobs_are_forgotten_and_younger_ones_kept(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    answer = {"owner": "x", "node": NODE, "tries": 1, "answer": {}}
    old, new, dead = (f"requests/{job}/create/v/abc/0" for job in ("1", "2", "3"))
    site.store.transact(
        [],
        [
            # Ten minutes, and an hour by which another node's clock may differ.
            Put(old, {**answer, "at": time.time() - 4201}),
            Put(new, {**answer, "at": time.time() - 4100}),
            Put(dead, {"owner": "gone", "node": NODE, "tries": 1}),
        ],
    )
    mended(manager, "requests", NODE, "Answers to jobs are kept that ended long ago")
    assert list(site.values("requests/")) == [new]


def test_who_has_known_an_answer_for_long_asks_no_clock(
    manager: VolumeManager, site: Site, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    create("v")
    answer = {"owner": "x", "node": NODE, "tries": 1, "answer": {}, "at": time.time() + 3000}
    site.store.transact([], [Put("requests/1/create/v/abc/0", answer)])
    assert manager.doctor() == []
    monkeypatch.setattr(requests, "KEPT", 0.01)
    time.sleep(0.02)
    assert [finding["Kind"] for finding in manager.doctor()] == ["requests"]


def test_one_pass_mends_everything_at_once(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    create("d")
    manager.mount("d", engine="docker", id="1")
    mounts.unmount(Work(), site.config.mount_root / "d")
    loops.attach(site.image(record))
    mounts.make_point(site.config.mount_root / "gone")
    orphan(site, "image")
    (site.root / "images" / f"{record['Id']}.json").unlink()
    seen = kinds(manager.doctor())
    assert len(seen) == 5
    report = manager.doctor(fix=True)
    assert kinds(report) == seen
    assert all(finding["Fixed"] for finding in report)
    manager.unmount("d", engine="docker", id="1")
    assert_clean(site)


def test_a_finding_that_cannot_be_mended_does_not_stop_the_others(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    theirs = site.config.mount_root / "a"
    theirs.mkdir(parents=True)
    (theirs / "file").write_text("data")
    mounts.make_point(site.config.mount_root / "b")
    report = manager.doctor(fix=True)
    assert [(f["Name"], f["Fixed"]) for f in report] == [("a", False), ("b", True)]


def test_the_doctor_of_a_plain_volume_needs_no_tools(
    site: Site, manager: VolumeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.create("v", Given(policy="local"))
    monkeypatch.setattr("libstorage.host.commands.PATH", "/nowhere")
    assert manager.doctor(fix=True) == []


def test_what_others_do_meanwhile_is_no_finding(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    """A doctor that mends runs beside processes that create, mount, look at and remove."""
    create("kept", fstype="ext4", mb_size=8)
    code = """
name = arguments[0]
for _ in range(15):
    manager.create(name, Given(policy="local", fstype="raw", mb_size=1))
    manager.mount(name)
    manager.usage(name)
    manager.unmount(name)
    manager.usage(name)
    manager.rm(name)
print("done")
"""
    workers = [site.python(code, name) for name in ("a", "b")]
    seen: list[dict[str, Any]] = []
    while any(worker.poll() is None for worker in workers):
        seen += manager.doctor(fix=True)
    for worker in workers:
        assert worker.communicate() == ("done\n", "")
    assert seen == [] or {finding["Kind"] for finding in seen} == {"owners"}
    manager.doctor(fix=True)
    assert_clean(site)


def test_a_mend_asks_once_more_before_it_takes_a_mount_away(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volume is mounted between the doctor's look and its mend."""
    create("v", fstype="ext4", mb_size=8)
    mounts.make_point(site.config.mount_root / "v")
    doctor = manager._doctor
    report = doctor._report

    def late(finding: Any, fix: bool) -> Any:
        site.manager().mount("v")
        return report(finding, fix)

    monkeypatch.setattr(doctor, "_report", late)
    assert kinds(manager.doctor(fix=True)) == [("mount", "v")]
    assert mounts.at(site.config.mount_root / "v")
    monkeypatch.undo()
    assert manager.doctor() == []
    manager.unmount("v")
    assert_clean(site)


def test_a_reboot_and_an_unmount_leave_no_mount_point(manager: VolumeManager, site: Site) -> None:
    manager.create("v", Given(policy="local"))
    point = manager.mount("v")["Mountpoint"]
    site.reboot()
    assert manager.unmount("v")["Changed"] is False
    assert not Path(point).exists()
    assert manager.doctor() == []
