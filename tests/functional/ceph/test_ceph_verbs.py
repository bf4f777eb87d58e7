"""Volumes of the policy distributed, from their creation to their end, on a real Ceph."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.ceph import POOL, Ceph, mappers
from lab.scenarios import assert_intact, write_marker
from lab.site import Site, assert_clean
from libstorage.errors import (
    BackendError,
    Damaged,
    InvalidInput,
    StoreUnavailable,
    Unsupported,
    VolumeExists,
    VolumeInUse,
)
from libstorage.host import filesystems
from libstorage.manager import Given, VolumeManager

KINDS = ("ext4", "xfs", "btrfs")
REPAIRS = {"ext4": "e2fsck -f", "xfs": "xfs_repair", "btrfs": "btrfs check --repair"}
SIZE, GROWN = 300, 400


def wish(fstype: str | None = "ext4", size: int = 16) -> Given:
    return Given(policy="distributed", fstype=fstype, mb_size=size)


@pytest.mark.parametrize("fstype", KINDS)
def test_a_volume_s_life(ceph: Ceph, site: Site, manager: VolumeManager, fstype: str) -> None:
    record = manager.create("v", wish(fstype, SIZE))["Volume"]
    assert (record["Voltype"], record["Node"]) == ("ds-ceph", "")
    assert ceph.images(site) == [record["Id"]] and mappers(site) == []
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "file").write_text("one")
    manager.snapshot_create("v@s")  # frozen meanwhile
    (point / "file").write_text("two")
    assert manager.usage("v")[0]["Usage"][-1]["file"] == "total"
    manager.unmount("v")
    assert mappers(site) == [] and site.mounted() == []
    manager.rollback("v@s")
    manager.snapshot_clone("v@s", "clone")
    points = [Path(manager.mount(name)["Mountpoint"]) for name in ("v", "clone")]
    assert [(one / "file").read_text() for one in points] == ["one", "one"]
    for name in ("v", "clone"):
        manager.unmount(name)
    with pytest.raises(VolumeInUse, match="Volume snapshot inuse"):
        manager.snapshot_rm("v@s")
    with pytest.raises(VolumeInUse, match="Volume has snapshots: s"):
        manager.rm("v")
    assert not manager.usage("v")[0]["Err"]
    manager.rm("clone")
    manager.snapshot_rm("v@s")
    manager.rm("v")
    assert ceph.images(site) == []
    assert_clean(site)


def test_the_doctor_leaves_alone_what_is_mapped_for_a_volume_under_way(
    site: Site, manager: VolumeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor, looks, found = site.manager(), 0, []

    def look_before(act: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal looks
            looks += 1
            found.extend(doctor.doctor(fix=True))
            return act(*arguments, **named)

        return call

    for name in ("make", "renew_uuid"):
        monkeypatch.setattr(filesystems, name, look_before(getattr(filesystems, name)))
    manager.create("v", wish())
    manager.snapshot_create("v@s")
    manager.snapshot_clone("v@s", "clone")
    assert looks == 2 and found == []
    for name in ("v", "clone"):
        manager.mount(name)
        manager.unmount(name)


def test_the_seed_s_default_is_an_xfs_of_100_mb(manager: VolumeManager) -> None:
    record = manager.create("v", Given(policy="distributed"))["Volume"]
    assert (record["Fstype"], record["MBSize"]) == ("xfs", 100)


@pytest.mark.parametrize("fstype", KINDS)
def test_it_grows_unmounted(manager: VolumeManager, fstype: str) -> None:
    manager.create("v", wish(fstype, SIZE))
    write_marker(manager)
    assert manager.resize("v", GROWN)["Changed"]
    assert_intact(manager)


@pytest.mark.parametrize("fstype", ["xfs", "btrfs"])
def test_it_grows_mounted(manager: VolumeManager, fstype: str) -> None:
    manager.create("v", wish(fstype, SIZE))
    point = Path(manager.mount("v")["Mountpoint"])
    before = room(point)
    manager.resize("v", GROWN)
    assert room(point) - before > 50 * 2**20
    manager.unmount("v")


def room(point: Path) -> int:
    """Bytes of the filesystem that is mounted there."""
    found = os.statvfs(point)
    return int(found.f_blocks * found.f_frsize)


@pytest.mark.parametrize("fstype", KINDS)
def test_a_damaged_one_is_not_mounted_and_names_its_repair(
    ceph: Ceph, site: Site, manager: VolumeManager, fstype: str
) -> None:
    record = manager.create("v", wish(fstype, SIZE))["Volume"]
    image = f"{POOL}/{site.config.ceph['namespace']}/{record['Id']}"
    first = ("--io-size", "64K", "--io-total", "1M", "--io-pattern", "seq", "--io-threads", "1")
    ceph.rbd("bench", image, "--io-type", "write", *first)
    with pytest.raises(Damaged, match=f"The {fstype} .*repair it with: {REPAIRS[fstype]}"):
        manager.mount("v")
    assert manager.info("v")[0]["State"] == "damaged"
    assert site.mounted() == [] and mappers(site) == []


def test_a_raw_one_is_a_device_and_tells_what_it_holds(manager: VolumeManager) -> None:
    manager.create("v", wish("raw", 64))
    assert manager.usage("v")[0]["Usage"] == [{"file": "total", "size": "0"}]
    write_marker(manager)
    assert_intact(manager)
    assert manager.usage("v")[0]["Usage"] == [{"file": "total", "size": "4M"}]


def test_a_raw_one_grows_while_it_is_used(manager: VolumeManager) -> None:
    manager.create("v", wish("raw", 16))
    point = Path(manager.mount("v")["Mountpoint"])
    manager.resize("v", 64)
    with open(point, "rb") as device:
        assert device.seek(0, 2) == 64 * 2**20
    manager.unmount("v")


def test_what_is_removed_waits_in_the_trash(ceph: Ceph, site: Site) -> None:
    manager = site.manager(trash={"retention": 1})
    record = manager.create("v", wish())["Volume"]
    write_marker(manager)
    manager.rm("v")
    assert ceph.images(site) == [record["Id"]]
    manager.undelete("v")
    assert_intact(manager)
    manager.rm("v", purge=True)
    assert ceph.images(site) == []


def test_a_lost_store_is_made_anew_from_what_ceph_holds(site: Site, manager: VolumeManager) -> None:
    manager.create("v", wish())
    write_marker(manager)
    manager.snapshot_create("v@s")
    manager.snapshot_clone("v@s", "clone")
    manager.mount("v", id="web")
    before, kept = records(manager), manager.snapshot_ls()
    manager.close()
    site.lose_store()
    again = site.manager()
    with pytest.raises(StoreUnavailable, match="The store is empty, but this node holds volumes"):
        again.ls()
    again.doctor(rebuild=True)
    assert records(again) == before and again.snapshot_ls() == kept
    again.unmount("v", id="web")


def test_a_clone_becomes_a_volume_of_its_own(
    ceph: Ceph, site: Site, manager: VolumeManager, other: VolumeManager
) -> None:
    manager.create("v", wish())
    write_marker(manager)
    manager.snapshot_create("v@s")
    manager.snapshot_clone("v@s", "clone")
    other.mount("clone", id="web")
    with pytest.raises(VolumeInUse, match="salt:web@node2"):
        manager.flatten("clone")
    other.unmount("clone", id="web")
    foretold = manager.flatten("clone", test=True)
    assert manager.snapshot_ls("v")[0]["Children"] == ["clone"]
    done = manager.flatten("clone")
    assert done == foretold and done["Changed"]
    assert (done["Volume"]["IsClone"], done["Volume"]["ParentSnapshot"]) == (False, "")
    assert not manager.flatten("clone")["Changed"] and not manager.flatten("v")["Changed"]
    manager.snapshot_rm("v@s")
    manager.rm("v", purge=True)
    assert_intact(other, name="clone")
    assert manager.doctor() == [] and len(ceph.images(site)) == 1


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs", "raw"])
def test_an_image_of_others_becomes_a_volume(
    ceph: Ceph, site: Site, manager: VolumeManager, fstype: str
) -> None:
    pool = f"{POOL}/{site.config.ceph['namespace']}"
    theirs = f"{pool}/theirs"
    id = manager.create("old", wish(fstype, 128))["Volume"]["Id"]
    write_marker(manager, name="old")
    ceph.rbd("cp", f"{pool}/{id}", theirs)
    ceph.rbd("image-meta", "remove", theirs, "dsvolume.copy")
    foretold = manager.adopt("db", theirs, test=True)
    assert manager.doctor() == [] and foretold["Changed"]
    done = manager.adopt("db", theirs)
    record = done["Volume"]
    assert (record["Fstype"], record["MBSize"]) == (fstype, 128)
    assert not manager.adopt("db", theirs)["Changed"]
    assert sorted(ceph.images(site)) == sorted((id, record["Id"]))
    manager.rm("old", purge=True)
    assert_intact(manager, name="db")
    manager.snapshot_create("db@s")
    assert manager.doctor() == []


def test_what_cannot_be_a_volume_stays_what_it_is(
    ceph: Ceph, site: Site, manager: VolumeManager
) -> None:
    pool = f"{POOL}/{site.config.ceph['namespace']}"
    id = manager.create("taken", wish())["Volume"]["Id"]
    ceph.rbd("create", f"{pool}/odd", "--size=1234567B")
    ceph.rbd("create", f"{pool}/kept", "--size=8M")
    ceph.rbd("snap", "create", f"{pool}/kept@s")
    ceph.rbd("clone", "--rbd-default-clone-format=2", f"{pool}/kept@s", f"{pool}/child")
    for object, name, words in (
        ("theirs", "db", "write POOL/IMAGE"),
        (f"other/{POOL}", "db", f"rbd deep cp other/{POOL} {pool}/{POOL}"),
        (f"{pool}/none", "db", "There is no image"),
        (f"{pool}/{id}", "db", "is the volume taken's"),
        (f"{pool}/odd", "db", f"rbd resize {pool}/odd --size 2M"),
        (f"{pool}/kept", "db", "has snapshots"),
        (f"{pool}/child", "db", f"rbd flatten {pool}/child"),
    ):
        with pytest.raises(InvalidInput, match=re.escape(words)):
            manager.adopt(name, object)
    with pytest.raises(VolumeExists, match="under another name"):
        manager.adopt("taken", f"{pool}/odd")
    with pytest.raises(Unsupported, match="adopts nothing"):
        manager.adopt("db", f"{pool}/odd", policy="local")
    assert sorted(ceph.images(site)) == sorted((id, "odd", "kept", "child"))
    assert [row["Name"] for row in manager.ls()] == ["taken"]


def records(manager: VolumeManager) -> list[dict[str, object]]:
    """All of them, but for when each was used."""
    found = manager.ls()
    return [{k: v for k, v in one.items() if k != "LastAccessTimestamp"} for one in found]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Given(policy="distributed", fstype="zfs"), "Unknown fstype 'zfs'"),
        (Given(policy="distributed", fstype="xfs", mb_size=8), "xfs needs at least 16 MB"),
        (Given(policy="distributed", options={"colour": "red"}), "Unknown option 'colour'"),
    ],
)
def test_bad_input_makes_nothing(
    ceph: Ceph, site: Site, manager: VolumeManager, given: Given, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        manager.create("v", given)
    assert ceph.images(site) == [] and manager.ls() == []


def test_a_wrong_pool_is_named(ceph: Ceph, site: Site) -> None:
    manager = site.manager(ceph={**site.config.ceph, "pool": "nowhere"})
    with pytest.raises(BackendError, match="nowhere"):
        manager.create("v", wish())


def test_a_mounted_ext4_that_cannot_grow_keeps_its_size(manager: VolumeManager) -> None:
    manager.create("v", wish())
    manager.mount("v")
    try:
        manager.resize("v", 32)
    except Unsupported:
        assert manager.info("v")[0]["MBSize"] == 16
    manager.unmount("v")
    assert manager.resize("v", 48)["Volume"]["MBSize"] == 48


def test_the_documented_user_may_do_no_more(ceph: Ceph) -> None:
    """All other tests are done as that user."""
    ceph("osd", "pool", "create", "other", "8")
    assert ceph.refuses("ceph", "osd", "pool", "create", "mine")
    surely = "--yes-i-really-really-mean-it"
    assert ceph.refuses("ceph", "osd", "pool", "rm", "other", "other", surely)
    assert ceph.refuses("ceph", "auth", "get", "client.admin")
    assert ceph.refuses("rados", "--pool=other", "ls")
    assert not ceph.refuses("rados", f"--pool={POOL}", "ls")
