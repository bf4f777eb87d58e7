"""Bad input and bad hosts: one clear sentence, nothing changed, and the list still works."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.site import Site, assert_clean
from libstorage.controllers.local import Images
from libstorage.errors import (
    BackendError,
    InvalidInput,
    LibstorageError,
    NoSpace,
    NoSuchVolume,
    StoreUnavailable,
    ToolMissing,
)
from libstorage.host import commands, files, filesystems, mounts
from libstorage.host.commands import Work
from libstorage.manager import Given, VolumeManager
from libstorage.records import FSTYPES

Create = Callable[..., dict[str, Any]]

BAD_NAMES = [
    "",
    "a" * 129,
    "a" * 300,
    "../x",
    "..",
    "-rf",
    "a@b",
    "a/b",
    "a b",
    "a\nb",
    "a\0b",
    "Größe",
    "名",
    "$(reboot)",
]


@contextmanager
def refused(
    site: Site, manager: VolumeManager, *kinds: type[LibstorageError], naming: str = ""
) -> Iterator[None]:
    """What runs inside is refused in one clear sentence; nothing has changed, ls works."""
    listed = manager.ls()
    with site.nothing_changes(), pytest.raises(kinds or InvalidInput) as caught:
        yield
    text = str(caught.value)
    assert text == text.strip()
    assert "\n" not in text
    assert len(text) < 400
    for word in ("Traceback", "Errno", "Error:", "None", "object at 0x"):
        assert word not in text
    assert naming in text
    assert manager.ls() == listed


@pytest.fixture
def there(create: Create) -> dict[str, Any]:
    """A volume that is there already, so that the list has something to show."""
    return create("there", fstype="ext4", mb_size=8)


# -- words


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused_by_every_verb(
    site: Site, manager: VolumeManager, there: dict[str, Any], name: str
) -> None:
    verbs: list[Callable[[], object]] = [
        lambda: manager.create(name, Given(policy="local")),
        lambda: manager.create(name, Given(policy="local", fstype="ext4")),
        lambda: manager.rm(name),
        lambda: manager.rm(name, force=True),
        lambda: manager.info(name),
        lambda: manager.info("there", name),
        lambda: manager.usage(name),
        lambda: manager.mount(name),
        lambda: manager.unmount(name),
    ]
    for verb in verbs:
        with refused(site, manager, naming="Not a volume name: "):
            verb()


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_user_id_is_refused(
    site: Site, manager: VolumeManager, there: dict[str, Any], name: str
) -> None:
    for verb in (manager.mount, manager.unmount):
        with refused(site, manager, naming="Not a user id name: "):
            verb("there", engine="docker", id=name)


@pytest.mark.parametrize("size", [0, -1, 2**43 + 1, 10**100])
@pytest.mark.parametrize("policy", ["local", "ram", "secure"])
def test_an_impossible_size_is_refused(
    site: Site, manager: VolumeManager, there: dict[str, Any], policy: str, size: int
) -> None:
    with refused(site, manager, naming="size must be a number of MB from 1 up"):
        manager.create("new", Given(policy=policy, mb_size=size))


@pytest.mark.parametrize("size", ["abc", "1.5", 1.5, True, "1e3", "0x10", [], "١٢"])
def test_a_size_that_is_no_number_is_refused(
    site: Site, manager: VolumeManager, there: dict[str, Any], size: object
) -> None:
    with refused(site, manager, naming="size must be a whole number of MB"):
        manager.create("new", Given.of(policy="local", size=size))


@pytest.mark.parametrize(
    "given",
    [{"policy": "local", "fstype": fstype} for fstype in FSTYPES]
    + [{"policy": "ram"}, {"policy": "secure"}],
)
def test_more_than_there_is_is_refused(
    site: Site, manager: VolumeManager, there: dict[str, Any], given: dict[str, Any]
) -> None:
    with refused(site, manager, NoSpace, naming="asked 1000000000000;"):
        manager.create("new", Given(mb_size=10**12, **given))


@pytest.mark.parametrize("fstype", [f for f in FSTYPES if filesystems.KINDS[f].smallest > 1])
def test_less_than_a_filesystem_needs_is_refused(
    site: Site, manager: VolumeManager, there: dict[str, Any], fstype: str
) -> None:
    smallest = filesystems.KINDS[fstype].smallest
    with refused(site, manager, naming=f"{fstype} needs at least {smallest} MB, asked "):
        manager.create("new", Given(policy="local", fstype=fstype, mb_size=smallest - 1))


@pytest.mark.parametrize(
    ("given", "naming"),
    [
        ({"policy": "tape"}, "Unknown policy 'tape'; there are distributed, "),
        ({"policy": "LOCAL"}, "Unknown policy 'LOCAL'"),
        ({"policy": "local", "fstype": "zfs"}, "Unknown fstype 'zfs'; there are ext2, "),
        ({"policy": "local", "fstype": "ext4 -F"}, "Unknown fstype 'ext4 -F'"),
        ({"policy": "local", "options": {"colour": "red"}}, "Unknown option 'colour'"),
        ({"policy": "local", "options": {"exec": "maybe"}}, "Option exec must be true or false"),
        ({"policy": "local", "options": {"mode": "0700"}}, "Unknown option 'mode'"),
        ({"policy": "ram", "options": {"mode": "0999"}}, "Option mode must be a mode in octal"),
        ({"policy": "ram", "options": {"size": "1g"}}, "Unknown option 'size'"),
        (
            {"policy": "local", "fstype": "raw", "options": {"exec": "true"}},
            "Unknown option 'exec' for policy local; there are none",
        ),
        ({"policy": "secure", "shared": True}, "A secure volume cannot be shared"),
    ],
)
def test_an_unknown_word_is_refused(
    site: Site, manager: VolumeManager, there: dict[str, Any], given: dict[str, Any], naming: str
) -> None:
    with refused(site, manager, naming=naming):
        manager.create("new", Given(**given))


@pytest.mark.parametrize("policy", [None, "distributed", "distributed-fs"])
def test_a_policy_that_nobody_serves_here_is_refused(
    site: Site, manager: VolumeManager, there: dict[str, Any], policy: str | None
) -> None:
    naming = f"Policy {policy or 'distributed'} is served by no controller on this node"
    with refused(site, manager, LibstorageError, naming=naming):
        manager.create("new", Given(policy=policy))


def test_bad_input_on_a_fresh_root_makes_nothing_at_all(site: Site, manager: VolumeManager) -> None:
    for given in ({"policy": "tape"}, {"policy": "local", "fstype": "xfs", "mb_size": 1}):
        with pytest.raises(InvalidInput):
            manager.create("new", Given(**given), test=True)
    with pytest.raises(InvalidInput):
        manager.create("../x", Given(policy="local"))
    assert list(site.root.iterdir()) == []


def test_a_volume_that_is_not_there_is_named(
    site: Site, manager: VolumeManager, there: dict[str, Any]
) -> None:
    for verb in (manager.rm, manager.info, manager.usage, manager.mount, manager.unmount):
        with refused(site, manager, NoSuchVolume, naming="No such volume: absent"):
            verb("absent")


# -- full disks


def fill(folder: Path) -> None:
    """Take all room of the filesystem that the folder is on."""
    with open(folder / "fill", "wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            with pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(size))


def small_tmpfs(folder: Path) -> None:
    folder.mkdir(parents=True)
    mounts.mount(Work(), "tmpfs", folder, "tmpfs", "size=1m,mode=700")


def small_ext4(folder: Path) -> None:
    folder.mkdir(parents=True)
    image = folder.parent / "disk.img"
    files.make_sparse(image, 4 * 2**20)
    filesystems.make(Work(), image, "ext4", 4)
    mounts.mount(Work(), str(image), folder, "ext4", "loop")
    folder.chmod(0o700)


@pytest.mark.parametrize("disk", [small_tmpfs, small_ext4])
@pytest.mark.parametrize("fstype", FSTYPES)
def test_a_disk_that_fills_while_the_image_is_made(
    site: Site,
    manager: VolumeManager,
    monkeypatch: pytest.MonkeyPatch,
    disk: Callable[[Path], None],
    fstype: str,
) -> None:
    """There was room when it was asked; another takes it before mkfs (raw: its record's copy)."""
    disk(site.root / "images")
    fill(site.root / "images")
    before = os.listdir(site.root / "images")
    manager.create("d", Given(policy="local"))
    monkeypatch.setattr(Images, "check", lambda self, volume: None)
    with refused(site, manager, NoSpace, naming="; free space and try again"):
        manager.create("new", Given(policy="local", fstype=fstype, mb_size=100))
    assert os.listdir(site.root / "images") == before
    assert manager.operations() == []
    (site.root / "images" / "fill").unlink()
    assert manager.doctor() == []


def test_a_full_disk_is_refused_before_anything_is_begun(
    site: Site, manager: VolumeManager, there: dict[str, Any]
) -> None:
    small = site.root / "small"
    small_tmpfs(small)
    with Site(small / "root") as inner:
        tight = inner.manager()
        tight.create("d", Given(policy="local"))
        with refused(inner, tight, NoSpace, naming="MB free, asked 100; free space or ask"):
            tight.create("new", Given(policy="local", fstype="ext4", mb_size=100))


def test_a_disk_that_is_full_when_the_record_is_written(site: Site) -> None:
    small = site.root / "small"
    small_tmpfs(small)
    with Site(small / "root") as inner:
        manager = inner.manager()
        manager.create("there", Given(policy="local"))
        fill(small)
        for given in ({"policy": "local"}, {"policy": "ram", "mb_size": 1}):
            with refused(inner, manager, StoreUnavailable, NoSpace):
                # the log of the store may have room for a little more
                for number in range(1000):
                    manager.create(f"there{number}", Given(policy="local"))
                    manager.rm(f"there{number}")
                    if given:
                        manager.create("new", Given(**given))
                        manager.rm("new")
        (small / "fill").unlink()
        manager.create("new", Given(policy="local"))
        assert [v["Name"] for v in manager.ls()] == ["new", "there"]
        manager.rm("new")
        assert_clean(inner)


# -- hosts that lack something


@pytest.mark.parametrize(
    ("fstype", "tool", "package"),
    [
        ("ext4", "mkfs.ext4", "e2fsprogs"),
        ("xfs", "mkfs.xfs", "xfsprogs"),
        ("btrfs", "mkfs.btrfs", "btrfs-progs"),
    ],
)
def test_a_missing_tool_is_named_with_its_package(
    site: Site,
    tmp_path: Path,
    manager: VolumeManager,
    there: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    fstype: str,
    tool: str,
    package: str,
) -> None:
    monkeypatch.setattr(commands, "PATH", str(tmp_path))
    naming = f"{tool} is not on this host; install the package {package}"
    with refused(site, manager, ToolMissing, naming=naming):
        manager.create("new", Given(policy="local", fstype=fstype))


def test_a_tool_that_vanishes_half_way_leaves_nothing(
    site: Site,
    manager: VolumeManager,
    there: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filesystems, "need_tools", lambda fstype: None)
    monkeypatch.setattr(commands, "PATH", "/nowhere")
    with refused(site, manager, ToolMissing, naming="mkfs.xfs is not on this host"):
        manager.create("new", Given(policy="local", fstype="xfs"))
    monkeypatch.undo()
    assert_clean(site)


def immutable(root: Path) -> None:
    root.mkdir(exist_ok=True)
    files.set_immutable(root, True)


def file_in_its_place(root: Path) -> None:
    if root.is_dir():
        root.rmdir()
    root.write_text("not a directory")


@pytest.mark.parametrize("spoil", [immutable, file_in_its_place])
@pytest.mark.parametrize("kind", ["ext4", "raw", "secure"])
def test_a_mount_root_that_takes_no_mount_point(
    site: Site, manager: VolumeManager, create: Create, spoil: Callable[[Path], None], kind: str
) -> None:
    if kind == "secure":
        create("v", policy="secure", mb_size=1)
        manager.mount("v")
        manager.unmount("v")
    else:
        create("v", fstype=kind, mb_size=8)
    spoil(site.config.mount_root)
    with refused(site, manager, BackendError, naming=str(site.config.mount_root)):
        manager.mount("v")
    assert manager.info("v")[0]["Inuse"] is None
    files.set_immutable(site.config.mount_root, False)
    if site.config.mount_root.is_file():
        site.config.mount_root.unlink()
    manager.mount("v")
    manager.unmount("v")
    assert_clean(site)


def a_file(point: Path) -> None:
    point.write_text("theirs")


def an_empty_file(point: Path) -> None:
    point.write_text("")


def a_link(point: Path) -> None:
    point.symlink_to("/etc")


def a_full_directory(point: Path) -> None:
    point.mkdir()
    (point / "theirs").write_text("theirs")


@pytest.mark.parametrize("put", [a_file, an_empty_file, a_link, a_full_directory])
@pytest.mark.parametrize("fstype", ["ext4", "raw"])
def test_something_foreign_at_the_mount_point_is_named_and_kept(
    site: Site, manager: VolumeManager, create: Create, put: Callable[[Path], None], fstype: str
) -> None:
    create("v", fstype=fstype, mb_size=8)
    point = site.config.mount_root / "v"
    point.parent.mkdir()
    point.parent.chmod(0o755)
    put(point)
    with refused(site, manager, BackendError, naming=f"in the way at the mount point {point}"):
        manager.mount("v")
    (finding,) = manager.doctor(fix=True)
    assert (finding["Kind"], finding["Fixed"]) == ("mount", False)
    assert os.path.lexists(point)


def test_a_failed_mount_of_a_directory_leaves_no_attachment(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    site.config.mount_root.write_text("not a directory")
    with pytest.raises(BackendError, match="cannot be made: File exists"):
        manager.mount("v")
    assert site.values("attachments/") == {}
    site.config.mount_root.unlink()
    manager.mount("v")
    manager.unmount("v")
    assert_clean(site)


def test_a_root_that_cannot_be_written_is_named(site: Site) -> None:
    files.set_immutable(site.root, True)
    manager = site.manager()
    assert manager.ls() == []
    with pytest.raises(StoreUnavailable) as caught:
        manager.create("v", Given(policy="local"))
    assert "\n" not in str(caught.value)
    assert str(site.root) in str(caught.value)
    files.set_immutable(site.root, False)
    manager.create("v", Given(policy="local"))


@pytest.mark.parametrize("folder", ["images", "local", "ram"])
def test_a_backend_folder_that_is_a_file_is_named(
    site: Site, manager: VolumeManager, there: dict[str, Any], folder: str
) -> None:
    given = {
        "images": Given(policy="local", fstype="ext4", mb_size=8),
        "local": Given(policy="local"),
        "ram": Given(policy="ram", mb_size=1),
    }[folder]
    manager.rm("there")
    if (site.root / folder).exists():
        (site.root / folder).rmdir()
    (site.root / folder).write_text("")
    with refused(site, manager, BackendError, naming=f"{site.root}/{folder}"):
        manager.create("new", given)
    (site.root / folder).unlink()
    manager.create("new", given)
    manager.mount("new")
    manager.unmount("new")
    manager.rm("new")
    assert_clean(site)
