"""Copies of images: the same bytes, the same holes, nothing left of one that failed."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from lab.site import Site
from libstorage.errors import BackendError, CommandFailed, CommandTimeout, NoSpace
from libstorage.host import files, images, mounts
from libstorage.host.commands import Work
from libstorage.records import MB


def mounted(site: Site, fstype: str, size: int) -> Path:
    image, point = site.root / "disk", site.root / "disk-mounted"
    files.make_sparse(image, size * MB)
    Work().run(f"mkfs.{fstype}", "-q", str(image))
    point.mkdir()
    mounts.mount(Work(), str(image), point, fstype, "loop")
    return point


def sparse(path: Path, size: int, pieces: int = 3) -> Path:
    """A file of which a megabyte here and there is data, its last byte too."""
    files.make_sparse(path, size)
    with open(path, "r+b") as file:
        for at in range(pieces):
            file.seek(at * (size // pieces))
            file.write(os.urandom(MB))
        file.seek(size - 1)
        file.write(b"x")
    return path


def bits(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(params=["here", "by cp"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small copies are made here; whatever does not go well there, or may take long, is cp's."""
    if request.param == "by cp":
        monkeypatch.setattr(images, "copy_here", lambda source, target: False)
    return str(request.param)


@pytest.mark.parametrize("size", [4 * MB, 64 * MB, 64 * MB + 1])
def test_a_copy_is_the_same_and_as_sparse(site: Site, way: str, size: int) -> None:
    source, target = sparse(site.root / "source", size), site.root / "target"
    before = images.allocated(source)
    images.copy(Work(), source, target, 60)
    assert bits(target) == bits(source)
    assert target.stat().st_size == size
    assert target.stat().st_mode & 0o777 == 0o600
    assert images.allocated(target) <= before + MB
    assert images.allocated(source) == before


def test_an_image_without_data_takes_nothing(site: Site, way: str) -> None:
    source = site.root / "source"
    files.make_sparse(source, 2**40)
    begun = time.monotonic()
    images.copy(Work(), source, site.root / "target", 60)
    assert time.monotonic() - begun < 2
    assert images.allocated(site.root / "target") < MB
    assert (site.root / "target").stat().st_size == 2**40


def test_a_copy_changes_with_neither(site: Site, way: str) -> None:
    source, target = sparse(site.root / "source", 8 * MB), site.root / "target"
    images.copy(Work(), source, target, 60)
    kept = bits(source)
    with open(source, "r+b") as file:
        file.write(b"changed")
    assert bits(target) == kept


@pytest.mark.parametrize("there", ["file", "link", "directory"])
def test_what_exists_is_never_copied_over(site: Site, way: str, there: str) -> None:
    source, target, other = (site.root / name for name in ("source", "target", "other"))
    sparse(source, 4 * MB)
    other.write_text("kept")
    if there == "file":
        target.write_text("kept")
    elif there == "link":
        target.symlink_to(other)
    else:
        target.mkdir()
    with pytest.raises(BackendError, match=f"{target} exists already and is left alone"):
        images.copy(Work(), source, target, 60)
    assert other.read_text() == "kept"
    assert there == "directory" or target.read_text() == "kept"


def no_cp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_HOW", ("--no-such-flag",))


def test_what_is_small_needs_no_cp(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    no_cp(monkeypatch)
    source, target = site.root / "source", site.root / "target"
    files.make_sparse(source, 2**28)
    with open(source, "r+b") as file:
        for at in (3, 70_000, 2**27 + 5):
            file.seek(at)
            file.write(b"here")
        # Zeros become a hole, wherever they lie.
        file.seek(2**20)
        file.write(bytes(2 * MB))
    images.copy(Work(), source, target, 60)
    assert Work().run("cmp", str(source), str(target)) == ""
    assert images.allocated(target) < MB
    large = sparse(site.root / "large", 40 * MB, pieces=20)
    with pytest.raises(CommandFailed, match="cp failed"):
        images.copy(Work(), large, site.root / "another", 60)
    assert not (site.root / "another").exists()


def test_many_pieces_are_shared_by_cp_whose_time_is_limited(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = mounted(site, "xfs", 320)
    source = sparse(point / "source", 40 * MB, pieces=20)
    Work().run("sync", "--file-system", str(point))
    images.copy(Work(), source, point / "few", 60)
    monkeypatch.setattr(images, "FEW", 1)
    images.copy(Work(), source, point / "by-cp", 60)
    assert bits(point / "few") == bits(point / "by-cp") == bits(source)
    no_cp(monkeypatch)
    with pytest.raises(CommandFailed, match="cp failed"):
        images.copy(Work(), source, point / "never", 60)


def test_a_copy_that_fails_here_is_made_by_cp(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = sparse(site.root / "source", 8 * MB), site.root / "target"

    def broken(source: int, target: int, size: int) -> None:
        os.pwrite(target, b"half", 5 * MB)
        raise OSError(5, "broken")

    monkeypatch.setattr(images, "_copy_data", broken)
    images.copy(Work(), source, target, 60)
    assert bits(target) == bits(source)


@pytest.mark.parametrize("pieces", [10, 30])
def test_a_full_disk_is_told_and_nothing_is_left(site: Site, pieces: int) -> None:
    point = mounted(site, "ext4", 16)
    (point / "others").write_bytes(os.urandom(4 * MB))
    source = sparse(site.root / "source", 64 * MB, pieces=pieces)
    with pytest.raises(NoSpace, match=f"{point} has no room for a copy of source; free space"):
        images.copy(Work(), source, point / "target", 60)
    assert sorted(os.listdir(point)) == ["lost+found", "others"]
    (point / "filler").write_bytes(bytes(4 * MB))


def test_a_copy_that_takes_too_long_is_taken_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = site.root / "source", site.root / "target"
    # Reading from a pipe that nobody writes to never ends.
    os.mkfifo(source)
    monkeypatch.setattr(images, "_HOW", ("--no-preserve=all", "--reflink=auto"))
    with pytest.raises(CommandTimeout):
        images.copy(Work(), source, target, 0.2)
    assert not target.exists()


def test_a_source_that_is_missing_leaves_no_target(site: Site) -> None:
    with pytest.raises(CommandFailed, match="No such file"):
        images.copy(Work(), site.root / "source", site.root / "target", 60)
    assert not (site.root / "target").exists()
    with pytest.raises(BackendError, match="cannot be made: No such file"):
        images.copy(Work(), site.root / "source", site.root / "absent" / "target", 60)


@pytest.mark.parametrize(("fstype", "can"), [("xfs", True), ("btrfs", True), ("ext4", False)])
def test_whether_a_filesystem_shares_blocks_is_tried_and_nothing_stays(
    site: Site, monkeypatch: pytest.MonkeyPatch, fstype: str, can: bool
) -> None:
    monkeypatch.setattr(images, "_can", {})
    point = mounted(site, fstype, 320)
    before = set(os.listdir(point))
    assert images.can_reflink(point) is can
    assert set(os.listdir(point)) == before

    def never(folder: Path) -> bool:
        pytest.fail("once is enough")

    monkeypatch.setattr(images, "_try_reflink", never)
    assert images.can_reflink(point) is can


@pytest.mark.parametrize("fstype", ["xfs", "btrfs"])
def test_blocks_are_shared_at_once_however_large(site: Site, way: str, fstype: str) -> None:
    point = mounted(site, fstype, 1536)
    source, target = point / "source", point / "target"
    files.make_sparse(source, 1024 * MB)
    with open(source, "r+b") as file:
        for _ in range(20):
            file.write(os.urandom(MB))
    Work().run("sync", "--file-system", str(point))
    free = files.free_space(point)[1]
    begun = time.monotonic()
    images.copy(Work(), source, target, 60)
    assert time.monotonic() - begun < 3
    Work().run("sync", "--file-system", str(point))
    assert free - files.free_space(point)[1] < 10 * MB
    assert images.allocated(target) >= 20 * MB
    assert bits(target) == bits(source)


def test_the_time_of_a_copy_is_never_guessed_too_short(site: Site) -> None:
    source, target = site.root / "source", site.root / "target"
    source.write_bytes(os.urandom(MB) * 50)
    guess = images.copy_seconds(source)
    assert guess == pytest.approx(0.5, abs=0.1)
    took = []
    for _ in range(3):
        begun = time.monotonic()
        images.copy(Work(), source, target, 60)
        took.append(time.monotonic() - begun)
        target.unlink()
    assert min(took) < guess
