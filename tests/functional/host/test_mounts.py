"""Mounts: bare points that take nothing, and who holds a busy one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import libstorage
from lab.site import Site
from libstorage.errors import BackendError, MountBusy
from libstorage.host import files, mounts
from libstorage.host.commands import Work


def tmpfs(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    mounts.mount(Work(), "tmpfs", path, "tmpfs", "size=1m,nosuid")
    return path


def test_what_is_mounted_is_seen_with_its_options(site: Site) -> None:
    path = site.root / "a b\\c\nd"
    assert mounts.at(path) is None
    tmpfs(path)
    seen = mounts.at(path)
    assert seen is not None
    assert (seen.fstype, seen.source, seen.path) == ("tmpfs", "tmpfs", path)
    assert "nosuid" in seen.options
    assert "size=1024k" in seen.super_options


def test_a_bind_mount_shows_which_directory_it_is_of(site: Site) -> None:
    source, shown = site.root / "source", site.root / "shown"
    source.mkdir()
    shown.mkdir()
    mounts.bind(Work(), source, shown, "nosuid,nodev")
    seen = mounts.at(shown)
    assert seen is not None
    # (In a tree that is bind-mounted as root, one is a tail of the other.)
    assert seen.root.endswith(str(source)) or str(source).endswith(seen.root)
    assert {"nosuid", "nodev"} <= seen.options


def test_unmounting_takes_all_layers_and_nothing_is_as_good(site: Site) -> None:
    path = tmpfs(site.root / "m")
    tmpfs(path)
    mounts.unmount(Work(), path)
    mounts.unmount(Work(), path)
    assert site.mounted() == []


def test_a_bare_point_takes_nothing_not_even_from_root(site: Site) -> None:
    point = site.root / "mounts" / "v"
    mounts.make_point(point)
    mounts.make_point(point)
    assert point.stat().st_mode & 0o777 == 0
    with pytest.raises(PermissionError):
        (point / "x").write_text("lost data")
    tmpfs(point)
    (point / "x").write_text("data")
    mounts.unmount(Work(), point)
    mounts.remove_point(point)
    mounts.remove_point(point)
    assert not point.exists()


def test_the_point_of_a_device_node_is_a_closed_file(site: Site) -> None:
    point = site.root / "mounts" / "v"
    mounts.make_point(point, node=True)
    mounts.make_point(point, node=True)
    assert point.is_file()
    with pytest.raises(PermissionError):
        point.write_text("lost data")
    mounts.make_point(point)
    assert point.is_dir()
    mounts.make_point(point, node=True)
    mounts.remove_point(point)
    assert not os.path.lexists(point)


def test_a_point_that_holds_something_is_refused_and_kept(site: Site) -> None:
    point = site.root / "mounts" / "v"
    point.mkdir(parents=True)
    (point / "theirs").write_text("data")
    for node in (False, True):
        with pytest.raises(BackendError, match=f"in the way at the mount point {point}"):
            mounts.make_point(point, node=node)
    mounts.remove_point(point)
    assert (point / "theirs").read_text() == "data"


@pytest.mark.parametrize("node", [False, True])
@pytest.mark.parametrize("theirs", ["file", "empty file", "symlink", "fifo"])
def test_somebody_s_file_at_the_point_is_refused_and_kept(
    site: Site, theirs: str, node: bool
) -> None:
    point = site.root / "mounts" / "v"
    point.parent.mkdir()
    if theirs == "symlink":
        point.symlink_to(site.root)
    elif theirs == "fifo":
        os.mkfifo(point)
    else:
        point.write_text("data" if theirs == "file" else "")
    before = site.listing()
    with pytest.raises(BackendError, match=f"in the way at the mount point {point}"):
        mounts.make_point(point, node=node)
    mounts.remove_point(point)
    assert site.listing() == before


def test_a_mounted_point_is_neither_made_again_nor_removed(site: Site) -> None:
    point = tmpfs(site.root / "mounts" / "v")
    with pytest.raises(BackendError, match=f"{point} already shows tmpfs"):
        mounts.make_point(point)
    (point / "still writable").write_text("")
    mounts.remove_point(point)
    assert mounts.at(point)


def test_a_point_below_a_file_is_told(site: Site) -> None:
    (site.root / "mounts").write_text("")
    with pytest.raises(BackendError, match=f"The directory {site.root}/mounts cannot be made"):
        mounts.make_point(site.root / "mounts" / "v")
    mounts.remove_point(site.root / "mounts" / "v")


HOLDERS = {
    "an open file": "file = open(path + '/x', 'w')",
    "a working directory": "os.chdir(path)",
    "a mapped file": """
with open(path + '/x', 'wb') as f: f.truncate(4096)
fd = os.open(path + '/x', os.O_RDWR)
memory = mmap.mmap(fd, 4096)
os.close(fd)
""",
}


@pytest.mark.parametrize("how", HOLDERS)
def test_a_busy_mount_names_the_process_that_holds_it(site: Site, how: str) -> None:
    path = tmpfs(site.root / "m")
    code = f"import mmap, os, sys\npath = sys.argv[1]\n{HOLDERS[how]}\nprint(flush=True)\ninput()"
    holder = site.ends(
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    assert holder.stdout
    holder.stdout.readline()
    with pytest.raises(MountBusy) as caught:
        mounts.unmount(Work(), path, patience=0)
    text = str(caught.value)
    assert text.startswith(f"{path} is held by ")
    assert f"({holder.pid})" in text
    assert "python" in text
    assert text.endswith("end that and unmount again")
    assert mounts.at(path)
    holder.communicate("\n", timeout=5)
    mounts.unmount(Work(), path)


def test_a_mount_inside_is_named_as_what_holds(site: Site) -> None:
    path = tmpfs(site.root / "m")
    tmpfs(path / "inside")
    with pytest.raises(MountBusy, match=f"the mount {path}/inside"):
        mounts.unmount(Work(), path, patience=0)


def test_a_short_holder_is_waited_for(site: Site) -> None:
    path = tmpfs(site.root / "m")
    holder = site.ends(subprocess.Popen(["sleep", "0.2"], cwd=path, text=True))
    mounts.unmount(Work(), path, patience=5)
    assert holder.wait(timeout=5) == 0
    assert site.mounted() == []


@pytest.mark.parametrize(("own", "answer"), [(False, "True"), (True, "False")])
def test_a_private_mount_namespace_is_not_the_host_s(own: bool, answer: str) -> None:
    if not mounts.in_host_namespace():
        pytest.skip("these tests run in a mount namespace of their own already")
    code = "from libstorage.host import mounts; print(mounts.in_host_namespace())"
    argv = [sys.executable, "-c", code]
    library = str(Path(libstorage.__file__).parent.parent)
    ran = subprocess.run(
        ["unshare", "-m", *argv] if own else argv,
        env=os.environ | {"PYTHONPATH": library},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == answer


def test_the_immutable_flag_never_reaches_a_mounted_filesystem(site: Site) -> None:
    point = site.root / "v"
    mounts.make_point(point)
    tmpfs(point)
    files.set_immutable(site.root / "v" / "absent", True)
    mounts.remove_point(point)
    (point / "x").write_text("data")
