"""Every verb: what it does, what it answers, what it refuses and what it tells."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lab.site import NODE, Site, assert_clean
from libstorage.controllers.local import Local
from libstorage.errors import (
    BackendError,
    ConfigInvalid,
    Damaged,
    InvalidInput,
    LibstorageError,
    MountBusy,
    NoSuchVolume,
    NotHere,
    OperationInProgress,
    VolumeExists,
    VolumeInUse,
)
from libstorage.host import mounts
from libstorage.host.commands import Work
from libstorage.manager import Given, VolumeManager
from libstorage.records import FSTYPES, NEVER, check_name
from libstorage.store.contract import Put

Create = Callable[..., dict[str, Any]]
Texts = Callable[..., list[str]]

KINDS: dict[str, dict[str, Any]] = {
    "directory": {"policy": "local"},
    "ext4": {"policy": "local", "fstype": "ext4", "mb_size": 8},
    "xfs": {"policy": "local", "fstype": "xfs"},
    "ram": {"policy": "ram", "mb_size": 8},
    "secure": {"policy": "secure", "mb_size": 8},
}


def replace_value(site: Site, key: str, **fields: Any) -> None:
    """Edit a value of the store by hand."""
    entry = site.store.get(key)
    assert entry
    site.store.transact([], [Put(key, {**entry.value, **fields})])


def operation(site: Site, name: str, **fields: Any) -> None:
    """An operation of a living owner: this very process, seen by the managers as another's."""
    owner = site.store.owner()
    value = {
        "Volume": name,
        "Verb": "usage",
        "Arguments": {},
        "Owner": owner,
        "Token": "t",
        "Process": {},
        "Node": "elsewhere",
        "Started": "2026-01-01T00:00:00Z",
        "Seconds": 600,
        **fields,
    }
    site.store.transact([], [Put(f"operations/{name}", value)])


# -- create


@pytest.mark.parametrize("fstype", FSTYPES)
def test_every_fstype_is_created_used_and_removed(
    site: Site, manager: VolumeManager, fstype: str
) -> None:
    answer = manager.create("v", Given(policy="local", fstype=fstype))
    assert answer["Created"] is True
    assert answer["Warnings"] == []
    record = answer["Volume"]
    assert (record["Voltype"], record["Fstype"], record["MBSize"]) == ("ds-local", fstype, 100)
    assert (record["Node"], record["CreatedBy"], record["Revision"]) == (NODE, NODE, 1)
    assert site.image(record).stat().st_size == 100 * 2**20
    point = Path(manager.mount("v")["Mountpoint"])
    assert point == site.root / "mounts" / "v"
    if fstype == "raw":
        assert point.is_block_device()
    else:
        (point / "file").write_text("data")
    manager.unmount("v")
    assert_clean(site)
    assert manager.rm("v") == record
    assert_clean(site)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_request_again_is_answered_with_the_same_record(
    site: Site, manager: VolumeManager, kind: str
) -> None:
    given = Given(**KINDS[kind])
    first = manager.create("v", given)
    before = site.values()
    again = manager.create("v", given)
    assert again["Volume"] == first["Volume"]
    assert again["Created"] is False
    assert site.values() == before


def test_only_what_was_given_is_compared(manager: VolumeManager, create: Create) -> None:
    record = create(
        "v", fstype="ext4", mb_size=10, shared=False, options={"exec": "false"}, labels={"a": "1"}
    )
    for given in (
        Given(policy="local"),
        Given(),
        Given(policy="local", mb_size=10),
        Given(fstype="ext4"),
        Given(shared=False),
        Given(options={"exec": "FALSE"}),
        Given(labels={"a": "1"}),
    ):
        assert manager.create("v", given)["Volume"] == record


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        ({"mb_size": 200}, "size 100, asked 200"),
        ({"fstype": "ext4"}, "fstype xfs, asked ext4"),
        ({"policy": "ram"}, "policy local, asked ram"),
        ({"shared": False}, "shared true, asked false"),
        ({"auto_migrate": True}, "automigrate false, asked true"),
        ({"options": {"exec": "false"}}, "options none, asked exec=false"),
        ({"labels": {"a": "1"}}, "labels none, asked a=1"),
        ({"fstype": "ext3", "mb_size": 50}, "fstype xfs, asked ext3, size 100, asked 50"),
    ],
)
def test_other_options_are_refused_and_the_difference_is_named(
    site: Site, manager: VolumeManager, create: Create, given: dict[str, Any], difference: str
) -> None:
    create("v", fstype="xfs", mb_size=100)
    with site.nothing_changes(), pytest.raises(VolumeExists) as caught:
        manager.create("v", Given(**given))
    assert str(caught.value) == f"Volume exists with other options: {difference}"


def test_a_directory_has_no_size_and_says_so(manager: VolumeManager) -> None:
    answer = manager.create("v", Given(policy="local", mb_size=100))
    assert (answer["Volume"]["MBSize"], answer["Volume"]["Fstype"]) == (0, "")
    assert "has no size" in answer["Warnings"][0]
    again = manager.create("v", Given(policy="local", mb_size=100))
    assert again["Created"] is False
    assert again["Warnings"] == answer["Warnings"]


def test_memory_has_the_size_and_mode_that_were_asked(manager: VolumeManager) -> None:
    manager.create("v", Given(policy="ram", mb_size=3, options={"mode": "1777"}))
    point = Path(manager.mount("v")["Mountpoint"])
    found = os.statvfs(point)
    assert found.f_blocks * found.f_frsize == 3 * 2**20
    assert point.stat().st_mode & 0o7777 == 0o1777


def test_no_policy_means_distributed_which_this_node_may_not_serve(manager: VolumeManager) -> None:
    with pytest.raises(LibstorageError, match="Policy distributed is served by no controller"):
        manager.create("v", Given())


# -- rm


def test_a_mounted_volume_is_not_removed_and_its_user_is_named(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    manager.mount("v", engine="docker", id="1", container="c1")
    for force in (False, True):
        with pytest.raises(VolumeInUse) as caught:
            manager.rm("v", force=force)
        assert str(caught.value) == f"Volume in use by c1@{NODE}"
    assert manager.info("v")[0]["Containers"] == [f"c1@{NODE}"]
    manager.unmount("v", engine="docker", id="1")
    manager.rm("v")
    assert_clean(site)


def test_a_volume_mounted_elsewhere_is_not_removed(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    other = site.manager("node2")
    other.mount("v")
    with pytest.raises(VolumeInUse, match=r"^Volume in use by salt:salt@node2$"):
        manager.rm("v", force=True)
    other.unmount("v")
    manager.rm("v")


def test_a_protected_volume_is_not_removed(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    replace_value(site, "volumes/v", Protected=True)
    for force in (False, True):
        with site.nothing_changes(), pytest.raises(VolumeInUse, match=r"^Volume is protected: v;"):
            manager.rm("v", force=force)


def test_a_volume_with_snapshots_is_not_removed(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    puts = [Put(f"snapshots/v/{name}", {"Name": name, "Volume": "v"}) for name in ("a", "b")]
    site.store.transact([], puts)
    for force in (False, True):
        with site.nothing_changes(), pytest.raises(VolumeInUse) as caught:
            manager.rm("v", force=force)
        assert str(caught.value) == "Volume has snapshots: a, b"


def test_a_reference_holds_a_volume_unless_forced(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    assert site.manager("node2").refer({"v": ["c"]}, engine="docker") == ["v"]
    with (
        site.nothing_changes(),
        pytest.raises(VolumeInUse, match=r"in use by c@node2;.*force"),
    ):
        manager.rm("v")
    manager.rm("v", force=True)
    with pytest.raises(NoSuchVolume):
        manager.info("v")


def test_an_image_is_removed_on_its_own_node_only(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    other = site.manager("node2")
    for verb in (other.rm, other.mount, other.usage):
        with pytest.raises(NotHere, match=f"^v has its data on {NODE}"):
            verb("v")
    manager.rm("v")


def test_a_directory_s_data_go_on_every_node_that_holds_some(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    record = create("v")
    other = site.manager("node2")
    other.mount("v")
    other.unmount("v")
    assert (site.root / "local" / record["Id"]).is_dir()
    manager.rm("v")
    # (The nodes of a test share their root, so that the first has removed it for both.)
    assert list(site.values("purge/")) == [f"purge/node2/{record['Id']}"]
    assert [f["Kind"] for f in other.doctor(fix=True)] == ["purge"]
    assert not (site.root / "local" / record["Id"]).exists()
    assert_clean(site, NODE, "node2")


def test_a_removed_name_is_free_for_another(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    first = create("v", fstype="ext4", mb_size=8)
    (Path(manager.mount("v")["Mountpoint"]) / "old").write_text("")
    manager.unmount("v")
    manager.rm("v")
    second = create("v")
    assert second["Id"] != first["Id"]
    assert os.listdir(manager.mount("v")["Mountpoint"]) == []
    manager.unmount("v")
    assert_clean(site)


# -- reading


def test_info_derives_what_attachments_tell(manager: VolumeManager, create: Create) -> None:
    record = create("v")
    (info,) = manager.info("v")
    assert {k: v for k, v in info.items() if k in record} == record
    assert (info["Mountpoint"], info["Inuse"], info["Containers"]) == ("", None, None)
    assert (info["LastAccessTimestamp"], info["Operation"]) == (NEVER, None)
    point = manager.mount("v", engine="docker", id="7", container="c7")["Mountpoint"]
    manager.mount("v")
    (info,) = manager.info("v")
    assert info["Mountpoint"] == point
    assert info["Inuse"] == [NODE]
    assert info["Containers"] == [f"c7@{NODE}", f"salt:salt@{NODE}"]
    assert datetime.fromisoformat(info["LastAccessTimestamp"]).year > 2000
    assert info["Revision"] == 1
    assert manager.ls() == [info]


def test_info_of_several_is_in_the_order_asked(manager: VolumeManager, create: Create) -> None:
    for name in "abc":
        create(name)
    assert [v["Name"] for v in manager.info("c", "a", "b")] == ["c", "a", "b"]
    assert manager.info() == []
    with pytest.raises(NoSuchVolume, match=r"^No such volume: x$"):
        manager.info("a", "x")


def test_an_operation_in_progress_is_shown(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    operation(site, "v", Step="inspect")
    for shown in (manager.info("v")[0]["Operation"], manager.ls()[0]["Operation"]):
        assert (shown["Verb"], shown["Step"], shown["Alive"]) == ("usage", "inspect", True)
        assert shown["Age"] > 0
    (listed,) = manager.operations()
    assert (listed["Volume"], listed["Verb"], listed["Alive"]) == ("v", "usage", True)


def test_ls_lists_by_name_what_matches_every_filter(manager: VolumeManager, create: Create) -> None:
    create("db1", fstype="ext4", mb_size=8, labels={"env": "prod", "team": "a"})
    create("db2", labels={"env": "test"})
    create("web", policy="ram", mb_size=1, shared=False)
    manager.mount("db2")

    def names(*filters: str) -> list[str]:
        return [volume["Name"] for volume in manager.ls(filters)]

    assert names() == ["db1", "db2", "web"]
    assert names("name=db*") == ["db1", "db2"]
    assert names("policy=ram") == ["web"]
    assert names("fstype=ext?") == ["db1"]
    assert names("type=ds-local", "fstype=") == ["db2"]
    assert names("label=env") == ["db1", "db2"]
    assert names("label=env=prod") == ["db1"]
    assert names("label=env=*t", "name=db2") == ["db2"]
    assert names("label=none") == []
    assert names("inuse=true") == ["db2"]
    assert names("inuse=false") == ["db1", "web"]
    assert names("shared=false") == ["web"]
    assert names(f"node={NODE}") == ["db1"]
    assert names("protected=true") == []
    assert names("state=ok", f"created_by={NODE}", "location=near") == ["db1", "db2", "web"]


def test_ls_of_names_lists_those_that_there_are(manager: VolumeManager, create: Create) -> None:
    names = [f"db{number:02}" for number in range(60)]
    for name in names:
        create(name, policy="local")
    asked = ["none", *reversed(names), "db07"]
    assert [volume["Name"] for volume in manager.ls(names=asked)] == names
    assert manager.ls(names=names) == manager.info(*names) == manager.ls()
    assert manager.ls(["name=db1?"], names=["db11", "db22"]) == manager.info("db11")
    assert manager.ls(names=[]) == []
    shown = manager.info("db20", "db01", "db20")
    assert [volume["Name"] for volume in shown] == ["db20", "db01", "db20"]
    with pytest.raises(InvalidInput):
        manager.ls(names=["@"])


@pytest.mark.parametrize("text", ["name", "colour=red", "", "=x", "Name=db"])
def test_an_unknown_filter_is_refused_with_those_there_are(
    manager: VolumeManager, text: str
) -> None:
    with pytest.raises(InvalidInput, match=r"^Not a filter: .*name, policy, .*label, inuse$"):
        manager.ls([text])


def test_reading_a_fresh_store_makes_nothing(site: Site, manager: VolumeManager) -> None:
    assert manager.ls() == []
    assert manager.events() == []
    assert manager.operations() == []
    assert manager.doctor() == []
    with pytest.raises(NoSuchVolume):
        manager.info("v")
    assert list(site.root.iterdir()) == []


def test_version_names_what_runs(manager: VolumeManager) -> None:
    version = manager.version()
    assert set(version) >= {"libstorage", "schema", "manager", "store"}
    assert version["store"] == "embedded"


# -- usage


@pytest.mark.parametrize("kind", ["directory", "ext4", "xfs", "ram"])
def test_usage_is_the_same_mounted_and_not(site: Site, manager: VolumeManager, kind: str) -> None:
    manager.create("v", Given(**KINDS[kind]))
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "sub").mkdir()
    (point / "sub" / "file").write_bytes(b"x" * 50_000)
    mounted = {s: manager.usage("v", summary=s)[0] for s in (True, False)}
    manager.unmount("v")
    for summary, expected in mounted.items():
        assert manager.usage("v", summary=summary)[0] == expected
    files = {entry["file"] for entry in mounted[False]["Usage"]}
    folders = {entry["file"] for entry in mounted[True]["Usage"]}
    assert folders >= {str(point), str(point / "sub"), "total"}
    assert files - folders == {str(point / "sub" / "file")}
    assert mounted[True]["Usage"][-1]["file"] == "total"
    assert mounted[True]["Usage"][-1]["size"] == mounted[True]["Usage"][-2]["size"]
    assert (mounted[True]["Name"], mounted[True]["Err"]) == ("v", "")
    assert mounted[True]["Size"] == f"{manager.info('v')[0]['MBSize']}M"
    assert_clean(site)


def test_usage_reads_as_in_the_examples(manager: VolumeManager, create: Create) -> None:
    create("demovol1", fstype="ext4", mb_size=100)
    (answer,) = manager.usage("demovol1")
    assert [re.sub(r".*/demovol1", "...", e["file"]) for e in answer["Usage"]] == [
        ".../lost+found",
        "...",
        "total",
    ]
    assert answer["Usage"][0]["size"] == "12K"
    assert (answer["Size"], answer["Err"]) == ("100M", "")


def test_usage_of_what_was_never_used_is_nothing(manager: VolumeManager, create: Create) -> None:
    create("d")
    create("s", policy="secure", mb_size=1)
    for answer in manager.usage("d", "s"):
        assert answer["Usage"] == [{"file": "total", "size": "0"}]


def test_usage_of_an_unmounted_image_writes_no_event_and_no_record(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    with site.nothing_changes():
        # the folder for maintenance mounts is made once
        (site.root / "maintenance").mkdir()
        manager.usage("v")
        (site.root / "maintenance").rmdir()


def test_usage_whose_image_is_gone_says_so_in_err(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    site.image(record).unlink()
    (answer,) = manager.usage("v")
    assert answer["Usage"] == []
    assert answer["Err"]
    assert "\n" not in answer["Err"]
    assert manager.operations() == []


# -- mount and unmount


def test_salt_s_users_are_a_set(site: Site, manager: VolumeManager, create: Create) -> None:
    create("v")
    first = manager.mount("v")
    assert first["Changed"] is True
    before = site.values()
    again = manager.mount("v")
    assert again == {**first, "Changed": False}
    assert site.values() == before
    assert manager.mount("v", id="other")["Changed"] is True
    assert manager.unmount("v")["Changed"] is True
    assert manager.unmount("v")["Changed"] is False
    assert Path(first["Mountpoint"]).is_mount() or mounts.at(Path(first["Mountpoint"]))
    last = manager.unmount("v", id="other")
    assert (last["Changed"], last["Mountpoint"]) == (True, "")
    before = site.values()
    assert manager.unmount("v", id="other")["Changed"] is False
    assert site.values() == before
    assert_clean(site)


def test_docker_s_users_are_counted(site: Site, manager: VolumeManager, create: Create) -> None:
    create("v")
    for _ in range(3):
        assert manager.mount("v", engine="docker", id="c1")["Changed"] is True
    (attachment,) = site.values("attachments/").values()
    assert [(u["Id"], u["Count"]) for u in attachment["Users"]] == [("c1", 3)]
    for _ in range(2):
        manager.unmount("v", engine="docker", id="c1")
        assert manager.info("v")[0]["Inuse"] == [NODE]
    manager.unmount("v", engine="docker", id="c1")
    assert manager.info("v")[0]["Inuse"] is None
    assert manager.unmount("v", engine="docker", id="c1")["Changed"] is False
    assert_clean(site)


def test_what_is_not_shared_takes_one_user_only(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", shared=False)
    manager.mount("v", engine="docker", id="1", container="c1")
    manager.mount("v", engine="docker", id="1", container="c1")
    other = site.manager("node2")
    for refused in (manager, other):
        with pytest.raises(VolumeInUse, match=f"^Volume in use by c1@{NODE}$"):
            refused.mount("v", engine="docker", id="2")
    for _ in range(2):
        manager.unmount("v", engine="docker", id="1")
    assert other.mount("v")["Changed"] is True
    other.unmount("v")
    assert_clean(site, NODE, "node2")


def test_each_node_has_a_directory_s_data_of_its_own_mount(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    points = {m.mount("v")["Mountpoint"] for m in (manager, site.manager("node2"))}
    assert len(points) == 2
    assert manager.info("v")[0]["Inuse"] == [NODE, "node2"]


def test_a_busy_volume_stays_without_users_until_it_is_free(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    point = manager.mount("v")["Mountpoint"]
    holder = site.ends(subprocess.Popen(["sleep", "60"], cwd=point, text=True))
    with pytest.raises(MountBusy, match=rf"{point} is held by sleep \({holder.pid}\)"):
        manager.unmount("v")
    (attachment,) = site.values("attachments/").values()
    assert (attachment["Status"], attachment["Users"]) == ("attached", [])
    assert manager.mount("v")["Changed"] is True
    with pytest.raises(MountBusy):
        manager.unmount("v")
    holder.kill()
    holder.wait(timeout=5)
    assert manager.unmount("v")["Changed"] is True
    assert_clean(site)


def test_a_vanished_mount_is_made_again_for_the_next_user(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    point = Path(manager.mount("v", engine="docker", id="1")["Mountpoint"])
    (point / "file").write_text("data")
    mounts.unmount(Work(), point)
    manager.mount("v", engine="docker", id="2")
    assert (point / "file").read_text() == "data"
    for id in "12":
        manager.unmount("v", engine="docker", id=id)
    assert_clean(site)


def test_a_living_operation_is_waited_for_then_named(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    operation(site, "v", Step="inspect")
    for verb in (manager.rm, manager.mount):
        begun = time.monotonic()
        with pytest.raises(OperationInProgress) as caught:
            verb("v", timeout=0.3)
        assert 0.25 < time.monotonic() - begun < 10
        text = str(caught.value)
        assert text.startswith("v is busy: usage by process ")
        assert "step inspect" in text


def test_a_private_namespace_is_refused_where_the_host_s_is_meant(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    if not mounts.in_host_namespace():
        pytest.skip("these tests run in a mount namespace of their own already")
    create("v")
    code = """
import ctypes
assert ctypes.CDLL(None, use_errno=True).unshare(0x20000) == 0
for verb in (manager.mount, manager.unmount):
    try: verb("v")
    except Exception as exc: print(type(exc).__name__, exc)
"""
    process = site.python(code, mount_namespace="host")
    out, err = process.communicate(timeout=20)
    assert err == ""
    for line in out.splitlines():
        assert line.startswith("NotHere This process has a mount namespace of its own")
    assert len(out.splitlines()) == 2
    assert site.values("attachments/") == {}


def test_the_host_s_namespace_is_accepted(site: Site, create: Create) -> None:
    if not mounts.in_host_namespace():
        pytest.skip("these tests run in a mount namespace of their own already")
    create("v")
    manager = site.manager(mount_namespace="host")
    assert manager.mount("v")["Changed"] is True
    manager.unmount("v")


def test_under_test_nothing_is_written(site: Site, manager: VolumeManager, create: Create) -> None:
    create("v")
    before = site.values(), site.listing()
    assert manager.create("new", Given(policy="local"), test=True)["Created"] is True
    assert manager.mount("v", test=True)["Changed"] is True
    assert manager.unmount("v", test=True)["Changed"] is False
    assert manager.rm("v", test=True)["Name"] == "v"
    with pytest.raises(VolumeExists):
        manager.create("v", Given(policy="ram"), test=True)
    with pytest.raises(NoSuchVolume):
        manager.rm("new", test=True)
    assert (site.values(), site.listing()) == before


# -- events


def test_events_tell_the_story_as_operators_know_it(
    manager: VolumeManager, create: Create, texts: Texts
) -> None:
    create("v")
    manager.mount("v", engine="docker", id="1", container="2b1e11bc")
    manager.mount("v")
    with pytest.raises(VolumeInUse):
        manager.rm("v")
    manager.unmount("v", engine="docker", id="1")
    manager.unmount("v")
    manager.rm("v")
    assert texts("v") == [
        "Volume create success",
        "Mount success",
        "Mount success",
        f"Volume destroy failed Volume in use by 2b1e11bc@{NODE}, salt:salt@{NODE}",
        "Unmount[v] container 2b1e11bc success",
        "Unmount[v] success",
        "Volume destroy success",
    ]


def test_the_end_of_a_container_s_mount_names_the_container(
    manager: VolumeManager, create: Create, texts: Texts
) -> None:
    create("v")
    for engine in ("docker", "salt"):
        manager.mount("v", engine=engine, id="1", container="2b1e11bc")
        manager.unmount("v", engine=engine, id="1")
        assert texts("v")[-1] == "Unmount[v] container 2b1e11bc success"


def test_every_event_says_who_asked(manager: VolumeManager, create: Create) -> None:
    by = {"door": "salt", "jid": "20260101", "user": "root"}
    manager.create("v", Given(policy="local"), by=by)
    manager.mount("v", by=by)
    manager.unmount("v", by=by)
    with pytest.raises(VolumeExists):
        manager.create("v", Given(policy="ram"), by=by)
    manager.rm("v", by=by)
    events = manager.events()
    assert len(events) == 5
    assert [event["By"] for event in events] == [by] * 5
    assert {event["Node"] for event in events} == {NODE}
    assert len({event["Id"] for event in events}) == 5


def test_a_refusal_is_an_event_and_invalid_input_is_none(
    manager: VolumeManager, create: Create, texts: Texts
) -> None:
    create("v")
    before = texts()
    for given in ({"policy": "tape"}, {"fstype": "zfs"}, {"options": {"x": "y"}}):
        with pytest.raises(InvalidInput):
            manager.create("new", Given(**{"policy": "local", **given}))
    for verb in (manager.rm, manager.mount, manager.unmount):
        with pytest.raises(NoSuchVolume):
            verb("absent")
    assert texts() == before
    with pytest.raises(VolumeExists):
        manager.create("v", Given(policy="ram"))
    assert texts()[-1] == (
        "Volume create failed Volume exists with other options: policy local, asked ram"
    )
    assert manager.events(filters=["success=false"])[0]["Verb"] == "create"


def test_events_are_found_by_time_and_filter(manager: VolumeManager, create: Create) -> None:
    create("a")
    time.sleep(0.002)
    middle = datetime.now().astimezone().isoformat()
    time.sleep(0.002)
    create("b")
    manager.mount("b")

    def found(**bounds: Any) -> list[str]:
        return [f"{e['Volume']} {e['Verb']}" for e in manager.events(**bounds)]

    assert found() == ["a create", "b create", "b mount"]
    assert found(since=middle) == ["b create", "b mount"]
    assert found(until=middle) == ["a create"]
    assert found(since="10m") == found()
    assert found(until="10m") == []
    assert found(filters=["verb=create"]) == ["a create", "b create"]
    assert found(filters=["volume=b", "verb=m*"]) == ["b mount"]
    assert found(filters=["success=true", f"node={NODE}"]) == found()


# -- boots


def test_an_attachment_of_an_older_boot_is_released_without_host_work(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "file").write_text("data")
    site.reboot()
    assert manager.unmount("v")["Changed"] is False
    assert site.values("attachments/") == {}
    again = site.manager()
    assert (Path(again.mount("v")["Mountpoint"]) / "file").read_text() == "data"
    again.unmount("v")
    assert_clean(site)


def test_after_a_reboot_the_volume_can_be_removed_at_once(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    manager.mount("v")
    site.reboot()
    manager.rm("v")
    manager.doctor(fix=True)
    assert_clean(site)


def test_memory_is_empty_after_a_reboot_and_an_event_says_so(
    site: Site, manager: VolumeManager, create: Create, texts: Texts
) -> None:
    create("v", policy="ram", mb_size=1)
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "file").write_text("data")
    manager.unmount("v")
    manager.mount("v")
    assert (point / "file").read_text() == "data"
    site.reboot()
    manager.mount("v")
    assert os.listdir(point) == []
    assert [text for text in texts("v") if "reboot" in text] == ["Volume emptied by reboot"]
    manager.unmount("v")
    manager.mount("v")
    assert len([text for text in texts("v") if "reboot" in text]) == 1
    manager.unmount("v")
    assert_clean(site)


def test_data_of_a_directory_that_are_gone_are_never_silently_empty(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    record = create("v")
    manager.mount("v")
    manager.unmount("v")
    data = site.root / "local" / record["Id"]
    data.rmdir()
    with pytest.raises(BackendError, match=f"^The data of v on {NODE} are gone; "):
        manager.mount("v")
    assert not data.exists()
    assert manager.info("v")[0]["Inuse"] is None
    data.mkdir()
    manager.mount("v")
    manager.unmount("v")
    manager.rm("v")
    assert_clean(site)


# -- unclean and damaged


def crash(site: Site, manager: VolumeManager, record: dict[str, Any]) -> None:
    """The host goes down while the volume is mounted: the image as the disk has it then."""
    image = site.image(record)
    point = Path(manager.mount(record["Name"])["Mountpoint"])
    (point / "file").write_text("data")
    subprocess.run(["sync", "-f", point], check=True)
    snap = image.with_suffix(".snap")
    subprocess.run(["cp", "--sparse=always", image, snap], check=True)
    site.reboot()
    snap.rename(image)


@pytest.mark.parametrize("fstype", [f for f in FSTYPES if f != "raw"])
def test_an_unclean_image_is_checked_at_the_next_attach(
    site: Site, manager: VolumeManager, create: Create, fstype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = create("v", fstype=fstype, mb_size=16)
    crash(site, manager, record)
    checked: list[str] = []
    run = Work.run

    def watched(self: Work, *argv: str, **limits: Any) -> str:
        checked.extend(argv[:1])
        return run(self, *argv, **limits)

    monkeypatch.setattr(Work, "run", watched)
    point = Path(manager.mount("v")["Mountpoint"])
    assert (point / "file").read_text() == "data"
    checkers = {"xfs": "xfs_repair", "btrfs": "btrfs"}
    assert checkers.get(fstype, "e2fsck") in checked
    manager.unmount("v")
    checked.clear()
    manager.mount("v")
    manager.unmount("v")
    assert not {"e2fsck", "xfs_repair", "btrfs"} & set(checked)
    assert_clean(site)


@pytest.mark.parametrize(
    ("fstype", "repair"),
    [
        ("ext4", ["e2fsck", "-f", "-y"]),
        ("xfs", ["xfs_repair", "-L", "-o", "force_geometry"]),
    ],
)
def test_a_damaged_image_is_refused_with_its_repair_until_it_is_repaired(
    site: Site, manager: VolumeManager, create: Create, fstype: str, repair: list[str]
) -> None:
    record = create("v", fstype=fstype, mb_size=100)
    crash(site, manager, record)
    image = site.image(record)
    with open(image, "r+b") as file:
        # the superblock of both; each has copies of it elsewhere
        file.write(bytes(2048))
    for attempt in range(2):
        with pytest.raises(Damaged) as caught:
            manager.mount("v")
        text = str(caught.value)
        assert f"repair it with: {repair[0]} " in text
        assert text.endswith(str(image))
        (info,) = manager.info("v")
        assert (info["State"], info["Inuse"]) == ("damaged", None)
        assert info["Revision"] == 2, attempt
        assert site.mounted() == []
        assert site.loops() == {}
    assert [f["Name"] for f in manager.doctor() if f["Kind"] == "record"] == ["v"]
    ran = subprocess.run([*repair, image], capture_output=True, check=False)
    assert ran.returncode in (0, 1), ran
    manager.mount("v")
    assert manager.info("v")[0]["State"] == "ok"
    manager.unmount("v")
    manager.doctor(fix=True)
    assert_clean(site)


def test_damage_is_told_by_an_event(
    site: Site, manager: VolumeManager, create: Create, texts: Texts
) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    crash(site, manager, record)
    with open(site.image(record), "r+b") as file:
        file.write(bytes(2**20))
    with pytest.raises(Damaged):
        manager.mount("v")
    assert texts("v")[-1].startswith("Mount failed The ext4 on ")
    manager.rm("v")
    assert_clean(site)


def test_a_missing_image_is_named(site: Site, manager: VolumeManager, create: Create) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    site.image(record).unlink()
    with pytest.raises(BackendError, match=r"^The image of v is missing: "):
        manager.mount("v")
    assert manager.info("v")[0]["State"] == "ok"
    manager.rm("v")
    assert_clean(site)


# -- the store's owner


def test_another_volume_manager_is_refused(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    other = site.manager(manager="theirs")
    for verb in (other.ls, other.events, other.operations, other.doctor):
        with pytest.raises(ConfigInvalid, match="volume manager is libstorage, this node is"):
            verb()
    with pytest.raises(ConfigInvalid):
        other.mount("v")


def test_a_newer_schema_is_refused(site: Site, manager: VolumeManager, create: Create) -> None:
    create("v")
    replace_value(site, "schema", version=2)
    fresh = site.manager()
    with pytest.raises(ConfigInvalid, match=r"has schema 2, this libstorage .* knows 1"):
        fresh.ls()


def test_fields_of_a_newer_version_survive_our_edits(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    replace_value(site, "volumes/v", Colour="red")
    crash(site, manager, record)
    with open(site.image(record), "r+b") as file:
        file.write(bytes(2**20))
    with pytest.raises(Damaged):
        manager.mount("v")
    (info,) = manager.info("v")
    assert (info["State"], info["Colour"]) == ("damaged", "red")


def test_a_foreign_controller_joins_by_configuration(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One importable module, named in the configuration, and nothing else changed."""
    (tmp_path / "mine_storage.py").write_text(
        "from libstorage.controllers.local import Local\n"
        "class Mine(Local):\n    name = 'ds-mine'\n"
        "CONTROLLER = Mine\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    manager = site.manager(policies={"local": "ds-mine"}, controllers={"ds-mine": "mine_storage"})
    assert manager.create("v", Given(policy="local"))["Volume"]["Voltype"] == "ds-mine"
    manager.mount("v")
    manager.unmount("v")
    manager.rm("v")
    assert Local.name == "ds-local"


def test_all_answers_are_plain_json(site: Site, manager: VolumeManager) -> None:
    for name, kind in KINDS.items():
        manager.create(name, Given(**kind))
        manager.mount(name)
    answers: list[Any] = [manager.ls(), manager.events(), manager.doctor(), manager.version()]
    answers += [manager.usage(check_name(name)) for name in KINDS]
    assert json.loads(json.dumps(answers)) == answers
    for name in KINDS:
        manager.unmount(name)
        manager.rm(name)
    assert_clean(site)
    assert sys.version_info >= (3, 11)


def test_a_foreign_mount_in_the_way_is_refused_and_left_alone(
    manager: VolumeManager, site: Site
) -> None:
    manager.create("v", Given(policy="local", fstype="ext4", mb_size=8))
    point = site.config.mount_root / "v"
    point.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "theirs", str(point)], check=True)
    (point / "file").write_text("theirs")
    with pytest.raises(BackendError, match=r"mounts/v already shows theirs; run doctor fix=True"):
        manager.mount("v")
    assert (point / "file").read_text() == "theirs"
    assert site.values("attachments/") == {}
