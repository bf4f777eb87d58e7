"""Every filesystem at its smallest: made, mounted, written to, mounted again."""

import hashlib
from pathlib import Path

import pytest

from lab.site import Site
from libstorage.errors import BackendError, CommandFailed
from libstorage.host import files, filesystems, mounts
from libstorage.host.commands import Work
from libstorage.host.filesystems import KINDS
from libstorage.records import MB

MADE = [name for name, kind in KINDS.items() if kind.mkfs]


def image(site: Site, size: int) -> Path:
    path = site.root / f"{size}.img"
    files.make_sparse(path, size * MB)
    return path


def mounted(site: Site, path: Path, fstype: str, options: str = "loop") -> Path:
    point = site.root / "m"
    point.mkdir(exist_ok=True)
    mounts.mount(Work(), str(path), point, fstype, options)
    return point


def bits(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def use(site: Site, path: Path, fstype: str) -> None:
    """Mount, write, mount again and read."""
    point = mounted(site, path, fstype)
    (point / "file").write_text("kept")
    mounts.unmount(Work(), point)
    filesystems.check(Work(), path, fstype)
    point = mounted(site, path, fstype)
    assert (point / "file").read_text() == "kept"
    mounts.unmount(Work(), point)


@pytest.mark.parametrize("fstype", MADE)
def test_the_smallest_of_each_can_be_made_and_used(site: Site, fstype: str) -> None:
    size = KINDS[fstype].smallest
    path = image(site, size)
    filesystems.make(Work(), path, fstype, size)
    use(site, path, fstype)


@pytest.mark.parametrize("fstype", [name for name in MADE if KINDS[name].smallest > 1])
def test_one_mb_less_than_the_smallest_fails_or_has_no_journal(site: Site, fstype: str) -> None:
    """The table's figure is the true limit: the tools refuse, or give up the journal."""
    size = KINDS[fstype].smallest - 1
    path = image(site, size)
    try:
        filesystems.make(Work(), path, fstype, size)
    except CommandFailed:
        return
    features = Work().run("dumpe2fs", "-h", str(path))
    assert "has_journal" not in features


@pytest.mark.parametrize("fstype", [name for name in MADE if KINDS[name].small])
def test_both_sides_of_the_small_flags_can_be_made(site: Site, fstype: str) -> None:
    for size in (KINDS[fstype].small - 1, KINDS[fstype].small):
        filesystems.make(Work(), image(site, size), fstype, size)


def test_the_default_of_old_xfs_of_100_mb_works(site: Site) -> None:
    path = image(site, 100)
    filesystems.make(Work(), path, "xfs", 100)
    use(site, path, "xfs")


@pytest.mark.parametrize("there", ["ext4", "xfs", "btrfs"])
@pytest.mark.parametrize("fstype", MADE)
def test_what_holds_data_is_never_formatted_over(site: Site, fstype: str, there: str) -> None:
    path = image(site, 32)
    filesystems.make(Work(), path, there, 32)
    before = bits(path)
    with pytest.raises(BackendError, match=f"{path} holds data already"):
        filesystems.make(Work(), path, fstype, 32)
    assert bits(path) == before


@pytest.mark.parametrize("fstype", MADE)
def test_a_read_only_look_changes_no_bit(site: Site, fstype: str) -> None:
    size = max(KINDS[fstype].smallest, 8)
    path = image(site, size)
    filesystems.make(Work(), path, fstype, size)
    use(site, path, fstype)
    before = bits(path)
    point = mounted(site, path, fstype, f"loop,{KINDS[fstype].read_only}")
    assert (point / "file").read_text() == "kept"
    mounts.unmount(Work(), point)
    assert bits(path) == before


@pytest.mark.parametrize("fstype", ["ext2", "ext3", "ext4"])
def test_an_ext_is_clean_only_after_its_unmount(site: Site, fstype: str) -> None:
    path, cut = image(site, 16), site.root / "cut.img"
    filesystems.make(Work(), path, fstype, 16)
    assert filesystems.clean(path.read_bytes())
    point = mounted(site, path, fstype)
    (point / "file").write_text("kept")
    files.sync(point / "file")
    cut.write_bytes(path.read_bytes())  # what a power cut would leave
    mounts.unmount(Work(), point)
    assert filesystems.clean(path.read_bytes()) and not filesystems.clean(cut.read_bytes())
    filesystems.check(Work(), cut, fstype)
    assert filesystems.clean(cut.read_bytes())


def test_one_with_errors_or_nothing_there_is_not_clean(site: Site) -> None:
    path = image(site, 16)
    assert not filesystems.clean(path.read_bytes())
    filesystems.make(Work(), path, "ext4", 16)
    Work().run("debugfs", "-w", "-R", "ssv state 2", str(path))
    assert not filesystems.clean(path.read_bytes())


def test_an_ext4_without_a_seed_is_checked_before_its_uuid_changes(site: Site) -> None:
    path = image(site, 16)
    Work().run("mkfs.ext4", "-q", "-O", "metadata_csum,^metadata_csum_seed", str(path))
    (mounted(site, path, "ext4") / "file").write_text("x")
    mounts.unmount(Work(), site.root / "m")
    before = filesystems.uuid(Work(), path)
    filesystems.renew_uuid(Work(), path, "ext4", lambda _: None)
    assert filesystems.uuid(Work(), path) not in ("", before)
    filesystems.check(Work(), path, "ext4", fully=True)


@pytest.mark.parametrize("fstype", ["ext2", "ext3", "ext4", "xfs", "btrfs"])
def test_what_a_new_one_consists_of_makes_it_elsewhere(site: Site, fstype: str) -> None:
    path, folder = image(site, 300), site.root / "folder"
    folder.mkdir()
    with filesystems.made(Work(), folder, fstype, 300) as pieces, open(path, "r+b") as file:
        for at, data in pieces:
            assert len(data) <= MB
            file.seek(at)
            file.write(data)
        assert not list(folder.iterdir())
    filesystems.check(Work(), path, fstype, fully=True)
    point = mounted(site, path, fstype)
    (point / "file").write_text("kept")
    # What is nothing but zeros is not written.
    assert path.stat().st_blocks * 512 < 20 * MB
