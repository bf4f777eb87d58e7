"""resize: a volume becomes larger with all that it holds, or stays as it was."""

from pathlib import Path
from typing import Any

import pytest

from lab.site import Site, assert_clean
from libstorage.errors import InvalidInput, NoSpace, NoSuchVolume, Unsupported
from libstorage.manager import Given, VolumeManager
from libstorage.manager.journal import Held

GROWTH = {"ext2": (8, 24), "ext3": (8, 24), "ext4": (8, 24), "xfs": (32, 64), "btrfs": (128, 320)}
FILESYSTEMS = pytest.mark.parametrize("fstype", list(GROWTH))


@pytest.fixture
def manager(site: Site) -> VolumeManager:
    return site.manager()


def fill(manager: VolumeManager, mb: int) -> bytes:
    point = Path(manager.mount("v", id="filler")["Mountpoint"])
    (point / "full").write_bytes(bytes(mb * 2**20))
    size = (point / "full").stat().st_size
    manager.unmount("v", id="filler")
    assert size == mb * 2**20
    return b""


@FILESYSTEMS
def test_an_unmounted_volume_grows_with_its_filesystem(
    manager: VolumeManager, site: Site, fstype: str
) -> None:
    small, large = GROWTH[fstype]
    manager.create("v", Given(policy="local", fstype=fstype, mb_size=small))
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "file").write_text("kept")
    manager.unmount("v")
    answer = manager.resize("v", large)
    assert (answer["Changed"], answer["Volume"]["MBSize"], answer["Volume"]["Revision"]) == (
        True,
        large,
        2,
    )
    fill(manager, small + 2)
    point = Path(manager.mount("v")["Mountpoint"])
    assert (point / "file").read_text() == "kept"
    manager.unmount("v")
    assert manager.events()[-5]["Text"] == "Volume resize success"
    assert manager.doctor() == []
    manager.rm("v")
    assert_clean(site)


@FILESYSTEMS
def test_a_mounted_volume_grows_or_says_that_it_cannot(
    manager: VolumeManager, site: Site, fstype: str
) -> None:
    small, large = GROWTH[fstype]
    manager.create("v", Given(policy="local", fstype=fstype, mb_size=small))
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "file").write_text("kept")
    try:
        manager.resize("v", large)
    except Unsupported as exc:
        assert fstype.startswith("ext") and "unmount it first" in str(exc)
        assert manager.info("v")[0]["MBSize"] == small
        assert site.image(manager.info("v")[0]).stat().st_size == small * 2**20
    else:
        (point / "full").write_bytes(bytes((small + 2) * 2**20))
    assert (point / "file").read_text() == "kept"
    manager.unmount("v")
    assert manager.resize("v", large)["Volume"]["MBSize"] == large
    manager.rm("v")
    assert_clean(site)


@pytest.mark.parametrize("mounted", [False, True])
def test_a_raw_device_grows(manager: VolumeManager, site: Site, mounted: bool) -> None:
    manager.create("v", Given(policy="local", fstype="raw", mb_size=8))
    if mounted:
        manager.mount("v")
    manager.resize("v", 16)
    point = Path(manager.mount("v")["Mountpoint"])
    with open(point, "rb") as device:
        assert device.seek(0, 2) == 16 * 2**20
    manager.unmount("v")
    manager.rm("v")
    assert_clean(site)


def test_a_rollback_keeps_the_grown_size(manager: VolumeManager, site: Site) -> None:
    manager.create("v", Given(policy="local", fstype="ext4", mb_size=8))
    manager.snapshot_create("v@s")
    manager.resize("v", 24)
    manager.rollback("v@s")
    assert manager.info("v")[0]["MBSize"] == 24
    fill(manager, 16)
    manager.snapshot_rm("v@s")
    manager.rm("v")
    assert_clean(site)


def test_the_size_that_it_has_changes_nothing(manager: VolumeManager, site: Site) -> None:
    manager.create("v", Given(policy="local", fstype="ext4", mb_size=8))
    with site.nothing_changes():
        assert manager.resize("v", 8)["Changed"] is False
        assert manager.resize("v", 16, test=True)["Volume"]["MBSize"] == 16


@pytest.mark.parametrize(
    ("name", "size", "error"),
    [
        ("v", 4, InvalidInput),
        ("v", 0, InvalidInput),
        ("v", -1, InvalidInput),
        ("v", "many", InvalidInput),
        ("v", None, InvalidInput),
        ("v", 10**12, NoSpace),
        ("nix", 16, NoSuchVolume),
        ("../x", 16, InvalidInput),
        ("plain", 16, Unsupported),
        ("memory", 64, Unsupported),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    manager: VolumeManager, site: Site, name: str, size: object, error: type[Exception]
) -> None:
    manager.create("v", Given(policy="local", fstype="ext4", mb_size=8))
    manager.create("plain", Given(policy="local"))
    manager.create("memory", Given(policy="ram", mb_size=16))
    with site.nothing_changes(), pytest.raises(error) as caught:
        manager.resize(name, size)
    assert "\n" not in str(caught.value)


def test_a_removal_right_after_the_commit_leaves_no_copy(
    manager: VolumeManager, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.create("v", Given(policy="local", fstype="ext4", mb_size=8))
    commit = Held.commit

    def then_remove(held: Held, *args: Any) -> None:
        commit(held, *args)
        if held.record.verb == "resize":
            monkeypatch.undo()
            other = site.manager()
            other.rm("v", purge=True)

    monkeypatch.setattr(Held, "commit", then_remove)
    assert manager.resize("v", 16)["Volume"]["MBSize"] == 16
    assert manager.ls() == []
    assert_clean(site)
