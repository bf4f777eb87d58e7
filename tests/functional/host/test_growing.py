"""Filesystems made larger and given another UUID: the data stay, mounted or not."""

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lab.site import Site
from libstorage.errors import BackendError, Damaged, InvalidInput, ToolMissing, Unsupported
from libstorage.host import commands, files, filesystems, freezing, images, loops, mounts
from libstorage.host.commands import Work
from libstorage.host.filesystems import KINDS
from libstorage.records import MB

MADE = [name for name, kind in KINDS.items() if kind.mkfs]
EXT = ["ext2", "ext3", "ext4"]
CONTENT = os.urandom(300_000)

SIZES = [
    *((name, 2, 40) for name in EXT),
    *((name, 100, 300) for name in EXT),
    ("xfs", 16, 17),
    ("xfs", 100, 500),
    ("xfs", 300, 600),
    ("btrfs", 16, 256),
    ("btrfs", 120, 400),
]


def made(site: Site, fstype: str, size: int, name: str = "image") -> Path:
    path = site.root / f"{name}.img"
    files.make_sparse(path, size * MB)
    filesystems.make(Work(), path, fstype, size)
    return path


def shown(site: Site, path: Path, fstype: str, options: str = "loop") -> Path:
    point = site.root / f"{path.stem}-shown"
    point.mkdir(exist_ok=True)
    mounts.mount(Work(), str(path), point, fstype, options)
    return point


def hide(path: Path, point: Path) -> None:
    mounts.unmount(Work(), point)
    loops.detach(Work(), path)


def room(point: Path) -> int:
    found = os.statvfs(point)
    return found.f_blocks * found.f_frsize


def used(site: Site, fstype: str, size: int) -> tuple[Path, int]:
    """An unmounted image with a file in it, and the room that it had."""
    path = made(site, fstype, size)
    point = shown(site, path, fstype)
    (point / "kept").write_bytes(CONTENT)
    before = room(point)
    hide(path, point)
    return path, before


@pytest.mark.parametrize(("fstype", "size", "larger"), [case for case in SIZES if case[0] in EXT])
def test_an_unmounted_ext_grows_and_keeps_its_data(
    site: Site, fstype: str, size: int, larger: int
) -> None:
    path, before = used(site, fstype, size)
    os.truncate(path, larger * MB)
    for _ in range(2):
        filesystems.grow(Work(), path, fstype)
    filesystems.check(Work(), path, fstype, fully=True)
    point = shown(site, path, fstype)
    assert room(point) > before * 0.8 * larger / size
    assert (point / "kept").read_bytes() == CONTENT


@pytest.mark.parametrize("fstype", EXT)
def test_an_ext_that_was_not_unmounted_grows(site: Site, fstype: str) -> None:
    """The image of a crash: a journal to replay, a file that was removed but open."""
    path = made(site, fstype, 20)
    point = shown(site, path, fstype)
    (point / "kept").write_bytes(CONTENT)
    with open(point / "gone", "wb") as file:
        file.write(CONTENT)
        (point / "gone").unlink()
        Work().run("sync", "--file-system", str(point))
        crashed = site.root / "crashed.img"
        images.copy(Work(), path, crashed, 60)
    os.truncate(crashed, 40 * MB)
    filesystems.grow(Work(), crashed, fstype)
    assert (shown(site, crashed, fstype) / "kept").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fstype", "size", "larger"), [case for case in SIZES if case[0] not in EXT]
)
def test_a_mounted_filesystem_grows_under_a_writer(
    site: Site, fstype: str, size: int, larger: int
) -> None:
    path, before = used(site, fstype, size)
    point = shown(site, path, fstype)
    writer = site.ends(
        subprocess.Popen(
            ["sh", "-c", "while :; do echo x > $0/w; sync $0/w; sleep 0.01; done", str(point)],
            text=True,
            start_new_session=True,
        )
    )
    os.truncate(path, larger * MB)
    loops.refresh(Work(), path)
    for _ in range(2):
        filesystems.grow(Work(), path, fstype, point)
    assert room(point) >= before + (larger - size) * MB * 0.7
    assert writer.poll() is None
    os.killpg(writer.pid, 9)
    writer.wait(timeout=5)
    hide(path, point)
    filesystems.check(Work(), path, fstype)
    assert (shown(site, path, fstype) / "kept").read_bytes() == CONTENT


@pytest.mark.parametrize("fstype", EXT)
def test_a_mounted_ext_grows_or_the_way_out_is_told(site: Site, fstype: str) -> None:
    path, before = used(site, fstype, 100)
    point = shown(site, path, fstype)
    os.truncate(path, 200 * MB)
    loops.refresh(Work(), path)
    try:
        filesystems.grow(Work(), path, fstype, point)
    except Unsupported as exc:
        assert str(exc).endswith(f"({point}); unmount it first, then grow it")
        assert room(point) == before
        hide(path, point)
        filesystems.grow(Work(), path, fstype)
        point = shown(site, path, fstype)
    assert room(point) > before * 1.7
    assert (point / "kept").read_bytes() == CONTENT


@pytest.mark.parametrize("fstype", EXT)
def test_a_mounted_ext_is_never_grown_as_if_it_were_not(site: Site, fstype: str) -> None:
    path, _ = used(site, fstype, 20)
    point = shown(site, path, fstype)
    os.truncate(path, 40 * MB)
    with pytest.raises(BackendError):
        filesystems.grow(Work(), path, fstype)
    assert (point / "kept").read_bytes() == CONTENT


@pytest.mark.parametrize("fstype", ["xfs", "btrfs"])
def test_what_grows_mounted_only_is_refused_unmounted(site: Site, fstype: str) -> None:
    path = made(site, fstype, 120)
    with pytest.raises(ValueError, match=f"{fstype} grows only where it is mounted"):
        filesystems.grow(Work(), path, fstype)
    with pytest.raises(BackendError, match=f"Nothing is mounted at {site.root}"):
        filesystems.grow(Work(), path, fstype, site.root)


def test_one_mb_less_than_the_kernel_grows_a_btrfs_to_is_refused(site: Site) -> None:
    """The table's figure is the true limit."""
    least = KINDS["btrfs"].grows_to
    filesystems.check_growth("btrfs", least)
    filesystems.check_growth("ext4", 1)
    with pytest.raises(InvalidInput, match="btrfs can be grown to 256 MB or more, asked 255"):
        filesystems.check_growth("btrfs", least - 1)
    path = made(site, "btrfs", 120)
    point = shown(site, path, "btrfs")
    os.truncate(path, (least - 1) * MB)
    loops.refresh(Work(), path)
    with pytest.raises(BackendError, match="Invalid argument"):
        filesystems.grow(Work(), path, "btrfs", point)


def test_a_raw_volume_has_nothing_to_grow_or_rename(site: Site) -> None:
    path = site.root / "image.img"
    files.make_sparse(path, MB)
    filesystems.grow(Work(), path, "raw")
    filesystems.renew_uuid(Work(), path, "raw", pytest.fail)
    assert filesystems.uuid(Work(), path) == ""


def test_a_damaged_ext_is_not_grown_and_the_repair_is_named(site: Site) -> None:
    path, _ = used(site, "ext4", 20)
    Work().run("debugfs", "-w", "-R", "clri <2>", str(path))
    os.truncate(path, 40 * MB)
    with pytest.raises(Damaged, match=f"repair it with: e2fsck -f {path}"):
        filesystems.grow(Work(), path, "ext4")


def test_an_ext_whose_growth_was_killed_grows_again_and_keeps_its_data(site: Site) -> None:
    path, _ = used(site, "ext4", 64)
    for pause in (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.07, 0.09):
        image = site.root / "killed.img"
        files.remove(image)
        images.copy(Work(), path, image, 60)
        os.truncate(image, 6 * 1024 * MB)
        filesystems.check(Work(), image, "ext4", fully=True)
        quiet = subprocess.DEVNULL
        child = subprocess.Popen(["resize2fs", str(image)], stdout=quiet, stderr=quiet)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=pause)
        child.kill()
        child.wait(timeout=5)
        try:
            filesystems.grow(Work(), image, "ext4")
        except Damaged:
            filesystems.grow(Work(), image, "ext4", again=True)
        point = shown(site, image, "ext4")
        assert room(point) > 5 * 1024 * MB
        assert (point / "kept").read_bytes() == CONTENT
        hide(image, point)


def test_a_loop_device_becomes_as_large_as_its_file(site: Site) -> None:
    path = site.root / "image.img"
    files.make_sparse(path, MB)
    loops.refresh(Work(), path)
    device = Path(loops.attach(path)).name
    size = Path("/sys/block", device, "size")
    os.truncate(path, 5 * MB)
    assert int(size.read_text()) * 512 == MB
    for _ in range(2):
        loops.refresh(Work(), path)
        assert int(size.read_text()) * 512 == 5 * MB


def mount_once(site: Site, path: Path, fstype: str) -> Callable[[str], None]:
    def mount(options: str) -> None:
        hide(path, shown(site, path, fstype, ",".join(filter(None, ["loop", options]))))

    return mount


@pytest.mark.parametrize("fstype", MADE)
def test_a_clone_s_own_uuid_lets_both_be_mounted(site: Site, fstype: str) -> None:
    path, _ = used(site, fstype, 120)
    clone = site.root / "clone.img"
    images.copy(Work(), path, clone, 60)
    before = filesystems.uuid(Work(), path)
    assert filesystems.uuid(Work(), clone) == before != ""
    filesystems.renew_uuid(Work(), clone, fstype, mount_once(site, clone, fstype))
    first = filesystems.uuid(Work(), clone)
    filesystems.renew_uuid(Work(), clone, fstype, mount_once(site, clone, fstype))
    assert len({before, first, filesystems.uuid(Work(), clone)}) == 3
    assert filesystems.uuid(Work(), path) == before
    together(site, [path, clone], fstype)


@pytest.mark.parametrize("fstype", MADE)
def test_a_clone_of_a_mounted_frozen_one_can_be_mounted_beside_it(site: Site, fstype: str) -> None:
    path, _ = used(site, fstype, 120)
    point = shown(site, path, fstype)
    (point / "more").write_bytes(CONTENT)
    clones = [site.root / f"clone{n}.img" for n in range(2)]
    with open(point / "gone", "wb") as file:
        # What is open and removed is what a frozen filesystem keeps in its log.
        (point / "gone").unlink()
        file.write(CONTENT)
        with freezing.frozen(Work(), point):
            for clone in clones:
                images.copy(Work(), path, clone, 5)
    # The parent stays mounted throughout.
    for clone in clones:
        filesystems.renew_uuid(Work(), clone, fstype, mount_once(site, clone, fstype))
    assert len({filesystems.uuid(Work(), image) for image in (path, *clones)}) == 3
    together(site, clones, fstype)
    assert (point / "more").read_bytes() == CONTENT


def together(site: Site, paths: list[Path], fstype: str) -> None:
    """All mount at once, each with the data and a life of its own, and are sound afterwards."""
    points = [shown(site, path, fstype) for path in paths]
    for number, point in enumerate(points):
        assert (point / "kept").read_bytes() == CONTENT
        (point / "own").write_text(str(number))
    assert [(point / "own").read_text() for point in points] == [str(n) for n in range(len(points))]
    for path, point in zip(paths, points, strict=True):
        hide(path, point)
        filesystems.check(Work(), path, fstype, fully=True)


def test_a_btrfs_that_was_not_unmounted_is_replayed_first(site: Site) -> None:
    path = made(site, "btrfs", 120)
    point = shown(site, path, "btrfs")
    with open(point / "kept", "wb") as file:
        file.write(CONTENT)
        file.flush()
        # Only into the log, which the copy below must not lose.
        os.fsync(file.fileno())
        crashed = site.root / "crashed.img"
        images.copy(Work(), path, crashed, 60)
    hide(path, point)
    asked = []

    def mount(options: str) -> None:
        asked.append(options)
        mount_once(site, crashed, "btrfs")(options)

    filesystems.renew_uuid(Work(), crashed, "btrfs", mount)
    assert asked == [""]
    together(site, [path, crashed], "btrfs")


def test_an_xfs_that_keeps_its_uuid_is_told(site: Site) -> None:
    """xfs_admin ends well although the log must be replayed first."""
    path = made(site, "xfs", 120)
    point = shown(site, path, "xfs")
    (point / "kept").write_bytes(CONTENT)
    with freezing.frozen(Work(), point):
        clone = site.root / "clone.img"
        images.copy(Work(), path, clone, 5)
    with pytest.raises(BackendError, match=f"The xfs on {clone} could not be given another UUID"):
        filesystems.renew_uuid(Work(), clone, "xfs", lambda options: None)


@pytest.mark.parametrize("fstype", MADE)
def test_the_tools_of_these_verbs_are_asked_for_only_by_them(
    site: Site, monkeypatch: pytest.MonkeyPatch, fstype: str
) -> None:
    filesystems.need_growing_tools(fstype)
    filesystems.need_renewing_tools(fstype)
    kind = KINDS[fstype]
    folder = site.root / "bin"
    folder.mkdir()
    for tool in (kind.mkfs[0], kind.check[0]):
        (folder / tool).touch(mode=0o755)
    monkeypatch.setattr(commands, "PATH", str(folder))
    filesystems.need_tools(fstype)
    with pytest.raises(ToolMissing, match=r"tune2fs|xfs_admin|btrfstune"):
        filesystems.need_renewing_tools(fstype)
    # The command btrfs checks and grows.
    with suppress(ToolMissing) if fstype == "btrfs" else pytest.raises(ToolMissing):
        filesystems.need_growing_tools(fstype)
