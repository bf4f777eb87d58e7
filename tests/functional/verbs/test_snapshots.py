"""Snapshots: what was kept is what comes back, and nothing that is needed goes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.site import Site, assert_clean
from libstorage.errors import (
    InvalidInput,
    NoSuchSnapshot,
    NoSuchVolume,
    Unsupported,
    VolumeExists,
    VolumeInUse,
)
from libstorage.host import filesystems
from libstorage.host.commands import Work
from libstorage.manager import Given, VolumeManager

SIZES = {"ext2": 8, "ext3": 8, "ext4": 8, "xfs": 32, "btrfs": 32}
FILESYSTEMS = pytest.mark.parametrize("fstype", list(SIZES))


@pytest.fixture
def manager(site: Site) -> VolumeManager:
    return site.manager()


def make(manager: VolumeManager, name: str = "v", fstype: str = "ext4") -> None:
    size = SIZES.get(fstype, 8)
    manager.create(name, Given(policy="local", fstype=fstype, mb_size=size))


def write(manager: VolumeManager, name: str, **texts: str) -> None:
    point = Path(manager.mount(name, id="writer")["Mountpoint"])
    for file, text in texts.items():
        (point / file).write_text(text)
    manager.unmount(name, id="writer")


def read(manager: VolumeManager, name: str) -> dict[str, str]:
    point = Path(manager.mount(name, id="reader")["Mountpoint"])
    found = {p.name: p.read_text() for p in point.iterdir() if p.is_file()}
    manager.unmount(name, id="reader")
    return found


def texts(manager: VolumeManager, volume: str) -> list[str]:
    return [e["Text"] for e in manager.events(filters=[f"volume={volume}"])]


def forget(manager: VolumeManager, site: Site, *names: str) -> None:
    """Remove clones, then snapshots, then the rest; nothing is left."""
    for name in names:
        if "@" in name:
            manager.snapshot_rm(name)
        else:
            manager.rm(name)
    assert_clean(site)
    assert list((site.root / "snapshots").iterdir()) == []


@FILESYSTEMS
def test_a_rollback_brings_back_what_was_kept(
    manager: VolumeManager, site: Site, fstype: str
) -> None:
    make(manager, fstype=fstype)
    write(manager, "v", one="1", hosts="hosts")
    record = manager.snapshot_create("v@s")
    assert (record["Name"], record["Volume"]) == ("s", "v")
    assert record["Size"] == SIZES[fstype] * 2**20
    write(manager, "v", one="changed", two="2")
    assert manager.rollback("v@s")["Name"] == "s"
    assert read(manager, "v") == {"one": "1", "hosts": "hosts"}
    told = [text for text in texts(manager, "v") if "@" in text]
    assert told == ["Snapshot[v@s] create success", "VolumeRollback v@s success"]
    forget(manager, site, "v@s", "v")


@FILESYSTEMS
def test_a_mounted_volume_is_kept_as_it_is_at_that_moment(
    manager: VolumeManager, site: Site, fstype: str
) -> None:
    make(manager, fstype=fstype)
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "file").write_text("before")
    manager.snapshot_create("v@s")
    (point / "file").write_text("after")
    manager.snapshot_clone("v@s", "clone")
    assert read(manager, "clone") == {"file": "before"}
    assert (point / "file").read_text() == "after"
    manager.unmount("v")
    forget(manager, site, "clone", "v@s", "v")


@FILESYSTEMS
def test_parent_and_clone_are_mounted_together(
    manager: VolumeManager, site: Site, fstype: str
) -> None:
    make(manager, fstype=fstype)
    write(manager, "v", file="1")
    manager.snapshot_create("v@s")
    clone = manager.snapshot_clone("v@s", "clone")["Volume"]
    assert clone["IsClone"] and clone["ParentSnapshot"] == "v@s"
    [parent] = manager.info("v")
    ids = [filesystems.uuid(Work(), site.image(record)) for record in (parent, clone)]
    assert ids[0] != ids[1]
    points = [Path(manager.mount(name)["Mountpoint"]) for name in ("v", "clone")]
    (points[1] / "file").write_text("2")
    assert [(point / "file").read_text() for point in points] == ["1", "2"]
    for name in ("v", "clone"):
        manager.unmount(name)
    assert texts(manager, "clone")[0] == "Clone volume v@s success"
    forget(manager, site, "clone", "v@s", "v")


def test_a_raw_volume_is_kept_cloned_and_rolled_back(manager: VolumeManager, site: Site) -> None:
    make(manager, fstype="raw")

    def device(name: str, data: bytes = b"") -> bytes:
        point = Path(manager.mount(name)["Mountpoint"])
        with open(point, "r+b") as file:
            if data:
                file.write(data)
                file.flush()
                subprocess.run(["sync"], check=True)
                file.seek(0)
            held = file.read(4)
        manager.unmount(name)
        return held

    device("v", b"old!")
    manager.snapshot_create("v@s")
    device("v", b"new!")
    manager.snapshot_clone("v@s", "clone")
    assert device("clone") == b"old!"
    manager.rollback("v@s")
    assert device("v") == b"old!"
    forget(manager, site, "clone", "v@s", "v")


def test_a_snapshot_with_clones_is_not_removed(manager: VolumeManager, site: Site) -> None:
    make(manager)
    manager.snapshot_create("v@s")
    manager.snapshot_clone("v@s", "clone")
    [record] = manager.snapshot_info("v@s")
    assert record["Children"] == ["clone"]
    with pytest.raises(VolumeInUse, match=r"^Volume snapshot inuse$"):
        manager.snapshot_rm("v@s")
    assert texts(manager, "v")[-1] == "Snapshot[v@s] delete failed Volume snapshot inuse"
    manager.rm("clone")
    assert manager.snapshot_info("v@s")[0]["Children"] == []
    forget(manager, site, "v@s", "v")


def test_a_volume_with_snapshots_is_not_removed(manager: VolumeManager, site: Site) -> None:
    make(manager)
    manager.snapshot_create("v@a")
    manager.snapshot_create("v@b")
    with pytest.raises(VolumeInUse, match=r"^Volume has snapshots: a, b$"):
        manager.rm("v")
    forget(manager, site, "v@a", "v@b", "v")


def test_later_snapshots_stay_after_a_rollback(manager: VolumeManager, site: Site) -> None:
    make(manager)
    for number in ("1", "2", "3"):
        write(manager, "v", file=number)
        manager.snapshot_create(f"v@s{number}")
    manager.rollback("v@s1")
    assert read(manager, "v") == {"file": "1"}
    manager.rollback("v@s3")
    assert read(manager, "v") == {"file": "3"}
    forget(manager, site, "v@s1", "v@s2", "v@s3", "v")


def test_a_mounted_volume_is_not_rolled_back(manager: VolumeManager, site: Site) -> None:
    make(manager)
    manager.snapshot_create("v@s")
    manager.mount("v", id="user")
    with pytest.raises(VolumeInUse, match="Volume in use by salt:user@"):
        manager.rollback("v@s")
    manager.unmount("v", id="user")
    forget(manager, site, "v@s", "v")


@pytest.mark.parametrize("policy", ["local", "ram", "secure"])
def test_directories_and_memory_say_that_they_keep_none(
    manager: VolumeManager, site: Site, policy: str
) -> None:
    manager.create("v", Given(policy=policy))
    with site.nothing_changes(), pytest.raises(Unsupported, match="keeps no snapshots"):
        manager.snapshot_create("v@s")


def test_the_same_clone_asked_again_is_answered_with_its_record(
    manager: VolumeManager, site: Site
) -> None:
    make(manager)
    make(manager, "other")
    manager.snapshot_create("v@s")
    first = manager.snapshot_clone("v@s", "clone")
    again = manager.snapshot_clone("v@s", "clone")
    assert (first["Created"], again["Created"]) == (True, False)
    assert again["Volume"] == first["Volume"]
    with pytest.raises(VolumeExists, match="parent none, asked v@s"):
        manager.snapshot_clone("v@s", "other")
    forget(manager, site, "clone", "v@s", "v", "other")


Refused = Callable[[VolumeManager], object]


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda m: m.snapshot_create("v"), InvalidInput),
        (lambda m: m.snapshot_create("v@"), InvalidInput),
        (lambda m: m.snapshot_create("@s"), InvalidInput),
        (lambda m: m.snapshot_create("v@a@b"), InvalidInput),
        (lambda m: m.snapshot_create("v@../x"), InvalidInput),
        (lambda m: m.snapshot_create("nix@s"), NoSuchVolume),
        (lambda m: m.snapshot_create("v@s"), VolumeExists),
        (lambda m: m.snapshot_rm("v@nix"), NoSuchSnapshot),
        (lambda m: m.rollback("v@nix"), NoSuchSnapshot),
        (lambda m: m.snapshot_clone("v@nix", "new"), NoSuchSnapshot),
        (lambda m: m.snapshot_clone("v@s", "../new"), InvalidInput),
        (lambda m: m.snapshot_clone("v@s", "v"), VolumeExists),
        (lambda m: m.snapshot_clone("v@s", "new", options={"nix": "1"}), InvalidInput),
        (lambda m: m.snapshot_info("v@nix"), NoSuchSnapshot),
        (lambda m: m.snapshot_ls("nix"), NoSuchVolume),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    manager: VolumeManager, site: Site, ask: Refused, error: type[Exception]
) -> None:
    make(manager)
    manager.snapshot_create("v@s")
    with site.nothing_changes(), pytest.raises(error) as caught:
        ask(manager)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_test_mode_writes_nothing(manager: VolumeManager, site: Site) -> None:
    make(manager)
    manager.snapshot_create("v@s")
    with site.nothing_changes():
        assert manager.snapshot_create("v@t", test=True)["Name"] == "t"
        assert manager.rollback("v@s", test=True)["Name"] == "s"
        assert manager.snapshot_clone("v@s", "new", test=True)["Created"]
        assert manager.snapshot_rm("v@s", test=True)["Name"] == "s"


def test_the_doctor_names_what_became_of_snapshots(manager: VolumeManager, site: Site) -> None:
    make(manager)
    record = manager.snapshot_create("v@s")
    kept = site.root / "snapshots" / f"{record['Id']}.img"
    moved = kept.rename(kept.with_suffix(".away"))
    [finding] = manager.doctor()
    assert (finding["Kind"], finding["Name"]) == ("record", "v@s")
    moved.rename(kept)
    assert manager.doctor() == []
