"""Loop devices, found by the file behind them."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.site import Site
from libstorage.errors import BackendError, CommandFailed, MountBusy
from libstorage.host import files, loops, mounts
from libstorage.host.commands import Work

AT_ONCE = 12


def image(site: Site, name: str = "one.img") -> Path:
    path = site.root / name
    files.make_directory(path.parent)
    files.make_sparse(path, 2**20)
    return path


def formatted(site: Site, name: str = "one.img") -> Path:
    path = image(site, name)
    subprocess.run(["mkfs.ext2", "-q", str(path)], check=True)
    return path


def mounted(site: Site, path: Path, name: str = "point", options: str = "nosuid") -> Path:
    point = site.root / name
    files.make_directory(point)
    loops.mount(Work(), path, point, "ext2", options)
    return point


def test_an_image_gets_one_device_however_often_it_is_attached(site: Site) -> None:
    path = image(site)
    device = loops.attach(path)
    assert loops.attach(path) == device
    assert loops.of(path) == [device]
    assert loops.behind()[device] == path


def test_detaching_takes_it_and_none_is_as_good(site: Site) -> None:
    path, work = image(site), Work()
    loops.attach(path)
    loops.detach(work, path)
    loops.detach(work, path)
    assert site.loops() == {}


def test_one_image_s_detach_leaves_the_other_s_device(site: Site) -> None:
    one, other, work = image(site), image(site, "other.img"), Work()
    loops.attach(one)
    device = loops.attach(other)
    loops.detach(work, one)
    assert site.loops() == {device: other}


def test_the_device_of_a_removed_file_is_still_found_and_taken(site: Site) -> None:
    path, work = image(site), Work()
    device = loops.attach(path)
    path.unlink()
    assert loops.of(path) == [device]
    loops.detach(work, path)
    assert site.loops() == {}


def test_a_device_is_found_whatever_its_size_and_without_the_list_of_partitions(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site.root / "tiny.img"
    files.make_sparse(path, 512)
    device = loops.attach(path)
    assert loops.of(path) == [device]
    monkeypatch.setattr(loops, "_PARTITIONS", Path("/nowhere"))
    assert loops.of(path) == [device]


@pytest.mark.parametrize(
    "holds",
    [
        'exec 3<"$1"; echo holds; exec sleep 60',
        'unshare --mount sh -c "mount $1 /mnt && echo holds && exec sleep 60"',
    ],
    ids=["open", "mounted"],
)
def test_whoever_holds_a_device_is_named(site: Site, holds: str) -> None:
    """Also one with a mount namespace of his own."""
    path, work = image(site), Work()
    subprocess.run(["mkfs.ext4", "-q", str(path)], check=True)
    device = loops.attach(path)
    with subprocess.Popen(["sh", "-c", holds, "sh", device], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"holds\n"
        with pytest.raises(MountBusy) as caught:
            loops.detach(work, path, patience=0.1)
        assert f"behind {device}, held by sleep (" in str(caught.value)
        subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)
        process.kill()
    loops.detach(work, path)
    assert site.loops() == {}


def test_a_mount_s_device_ends_with_its_last_umount(site: Site) -> None:
    path, work = formatted(site), Work()
    points = [mounted(site, path, name) for name in ("here", "there")]
    [device] = loops.of(path)
    assert {mounts.at(point).source for point in points} == {device}  # type: ignore[union-attr]
    (points[0] / "file").write_text("something")
    assert (points[1] / "file").read_text() == "something"
    mounts.unmount(work, points[0])
    assert loops.of(path) == [device]
    mounts.unmount(work, points[1])
    assert site.loops() == {}


def test_a_mount_that_fails_leaves_no_device(site: Site) -> None:
    path = image(site)
    with pytest.raises(CommandFailed, match="wrong fs type"):
        mounted(site, path)
    assert site.loops() == {}
    with pytest.raises(BackendError, match=r"no loop device for .*nowhere: No such file"):
        mounted(site, site.root / "nowhere")


def test_what_is_mounted_to_read_only_has_such_a_device(site: Site) -> None:
    path = formatted(site)
    point = mounted(site, path, options="ro")
    [device] = loops.of(path)
    assert Path(f"/sys/block/{Path(device).name}/ro").read_text() == "1\n"
    with pytest.raises(OSError, match="Read-only"):
        (point / "file").touch()


def test_another_image_of_the_same_name_is_not_taken_for_it(site: Site) -> None:
    here, there = formatted(site, "a/one.img"), formatted(site, "b/one.img")
    (mounted(site, here, "points/a") / "file").touch()
    assert not (mounted(site, there, "points/b") / "file").exists()


def test_many_at_once_get_a_device_each(site: Site) -> None:
    """The kernel names the same free device to all of them."""
    paths = [formatted(site, f"image{n}.img") for n in range(AT_ONCE)]
    raw = [image(site, f"raw{n}.img") for n in range(AT_ONCE)]
    with ThreadPoolExecutor(2 * AT_ONCE) as pool:
        devices = pool.map(loops.attach, raw)
        points = list(pool.map(lambda path: mounted(site, path, f"at-{path.stem}"), paths))
    assert loops.behind().items() >= dict(zip(devices, raw, strict=True)).items()
    assert len(site.loops()) == 2 * AT_ONCE
    for path, point in zip(paths, points, strict=True):
        assert [mounts.at(point).source] == loops.of(path)  # type: ignore[union-attr]


@pytest.mark.parametrize("direct", [True, False])
def test_a_direct_one_keeps_nothing_in_the_page_cache(site: Site, direct: bool) -> None:
    device = loops.attach(image(site), direct=direct)
    flag = Path(f"/sys/block/{Path(device).name}/loop/dio").read_text()
    assert flag == ("1\n" if direct else "0\n")
