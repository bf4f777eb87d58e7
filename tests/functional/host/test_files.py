"""Files: whole or not at all, never formatted over, gone for good."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import libstorage
from lab.site import Site
from libstorage.errors import BackendError, NoSpace
from libstorage.host import files, mounts
from libstorage.host.commands import Work

LIBRARY = str(Path(libstorage.__file__).parent.parent)


def test_json_is_written_whole_and_for_our_eyes_only(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": 2})
    assert files.read_json(path) == {"a": 2}
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_write_that_fails_leaves_what_was_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match="cannot be written: the disk is full") as caught:
        files.write_json(path, {"a": 2})
    assert "\n" not in str(caught.value)
    assert files.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_first_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(BackendError, match="cannot be written"):
        files.write_json(tmp_path / "x.json", {"a": 1})
    assert os.listdir(tmp_path) == []


def test_what_is_written_is_synced_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that replaces another is on the disk before it does; a first one needs it after."""
    path, seen, sync = tmp_path / "x.json", [], os.fsync

    def look(fd: int) -> None:
        seen.append((Path(os.readlink(f"/proc/self/fd/{fd}")).name, files.read_json(path)))
        sync(fd)

    monkeypatch.setattr(os, "fsync", look)
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": 2})
    assert seen == [
        ("x.json", {"a": 1}),
        (tmp_path.name, {"a": 1}),
        (".x.json.0", {"a": 1}),
        (tmp_path.name, {"a": 2}),
    ]


def test_a_killed_writer_leaves_old_or_new_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"n": -1, "fill": ""})
    code = (
        "import sys\nfrom pathlib import Path\nfrom libstorage.host import files\n"
        "print(flush=True)\n"
        "for n in range(10**6): files.write_json(Path(sys.argv[1]), {'n': n, 'fill': 'x' * 50000})"
    )
    for pause in (0.0, 0.003, 0.007, 0.015):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": LIBRARY},
        )
        assert child.stdout
        child.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=pause)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert set(json.loads(path.read_text())) == {"n", "fill"}
        left = {half.name for half in files.unfinished(path)}
        assert set(os.listdir(tmp_path)) <= {"x.json", *left}
        for half in files.unfinished(path):
            files.remove(half)


@pytest.mark.parametrize("content", ["", "{", "[1]", "7", "\0\0\0"])
def test_what_is_no_object_reads_as_absent(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    assert files.read_json(path) is None
    path.write_text(content)
    assert files.read_json(path) is None


def test_bytes_that_are_no_text_read_as_absent(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"a": "\xff"}')
    assert files.read_json(tmp_path / "x") is None


def test_a_sparse_file_takes_no_room_and_is_never_made_over_another(tmp_path: Path) -> None:
    path = tmp_path / "i.img"
    files.make_sparse(path, 2**30)
    entry = path.stat()
    assert (entry.st_size, entry.st_blocks) == (2**30, 0)
    assert entry.st_mode & 0o777 == 0o600
    path.write_bytes(b"data")
    with pytest.raises(BackendError, match="exists already and is left alone"):
        files.make_sparse(path, 2**20)
    assert path.read_bytes() == b"data"


def test_a_sparse_file_too_large_for_the_filesystem_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot be made"):
        files.make_sparse(tmp_path / "i.img", 2**62)
    assert os.listdir(tmp_path) == []


def test_a_directory_gets_its_mode_also_where_it_exists(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    files.make_directory(path, 0o711)
    files.make_directory(path, 0o700)
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_file_where_a_directory_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(BackendError, match=f"The directory {path} cannot be made: "):
            files.make_directory(path)


def test_a_tree_goes_and_an_absent_one_is_as_good(tmp_path: Path) -> None:
    (tmp_path / "t" / "deep").mkdir(parents=True)
    (tmp_path / "t" / "deep" / "file").write_text("x")
    (tmp_path / "kept").write_text("x")
    (tmp_path / "t" / "link").symlink_to(tmp_path / "kept")
    mounts.remove_tree(tmp_path / "t")
    mounts.remove_tree(tmp_path / "t")
    assert os.listdir(tmp_path) == ["kept"]


def test_a_tree_is_never_removed_across_a_mount(site: Site) -> None:
    tree, inside = site.root / "tree", site.root / "tree" / "inside"
    inside.mkdir(parents=True)
    mounts.mount(Work(), "tmpfs", inside, "tmpfs", "size=1m")
    (inside / "data").write_text("x")
    for path in (tree, inside):
        with pytest.raises(BackendError, match=f"{inside} is still mounted"):
            mounts.remove_tree(path)
    assert (inside / "data").read_text() == "x"


def test_a_tree_is_never_removed_across_a_bind_mount_of_its_own_filesystem(site: Site) -> None:
    home, shown = site.root / "home", site.root / "tree" / "shown"
    for path in (home, shown):
        path.mkdir(parents=True)
    (home / "data").write_text("x")
    mounts.bind(Work(), home, shown)
    with pytest.raises(BackendError, match=f"{shown} is still mounted"):
        mounts.remove_tree(site.root / "tree")
    assert (home / "data").read_text() == "x"


def test_wiping_overwrites_every_file_and_fills_no_hole(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"secret" * 300_000)
    (tmp_path / "a" / "b" / "two").write_bytes(b"secret")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(2**30)
        file.seek(2**29)
        file.write(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(tmp_path / "pipe")
    files.wipe(tmp_path)
    assert (tmp_path / "a" / "one").read_bytes() == bytes(1_800_000)
    assert (tmp_path / "a" / "b" / "two").read_bytes() == bytes(6)
    with open(tmp_path / "sparse", "rb") as file:
        file.seek(2**29)
        assert file.read(6) == bytes(6)
    assert (tmp_path / "sparse").stat().st_blocks < 1000


def test_wiping_follows_no_symlink_and_no_mount(site: Site) -> None:
    folder, elsewhere = site.root / "v", site.root / "elsewhere"
    (folder / "m").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    (folder / "link").symlink_to(elsewhere / "kept")
    (folder / "links").symlink_to(elsewhere)
    mounts.mount(Work(), "tmpfs", folder / "m", "tmpfs", "size=1m")
    (folder / "m" / "kept").write_text("kept")
    files.wipe(folder)
    assert (elsewhere / "kept").read_text() == "kept"
    assert (folder / "m" / "kept").read_text() == "kept"


def test_an_immutable_directory_takes_nothing_even_from_root(site: Site) -> None:
    folder = site.root / "guarded"
    folder.mkdir()
    files.set_immutable(folder, True)
    with pytest.raises(PermissionError):
        (folder / "x").write_text("")
    files.set_immutable(folder, False)
    (folder / "x").write_text("")


def test_guarding_what_cannot_be_guarded_is_no_error(tmp_path: Path) -> None:
    files.set_immutable(Path("/proc/self"), True)
    files.set_immutable(Path("/dev/null"), True)
    files.set_immutable(tmp_path / "absent", True)


def test_free_space_is_that_of_the_nearest_directory(tmp_path: Path) -> None:
    total, available = files.free_space(tmp_path / "not" / "yet")
    assert total >= available > 0
    assert total == files.free_space(tmp_path)[0]
