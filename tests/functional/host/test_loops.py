"""Loop devices, found by the file behind them."""

from pathlib import Path

import pytest

from lab.site import Site
from libstorage.host import files, loops
from libstorage.host.commands import Work


def image(site: Site, name: str = "one.img") -> Path:
    path = site.root / name
    files.make_sparse(path, 2**20)
    return path


def test_an_image_gets_one_device_however_often_it_is_attached(site: Site) -> None:
    path, work = image(site), Work()
    device = loops.attach(work, path)
    assert loops.attach(work, path) == device
    assert loops.of(path) == [device]
    assert loops.behind()[device] == path


def test_detaching_takes_it_and_none_is_as_good(site: Site) -> None:
    path, work = image(site), Work()
    loops.attach(work, path)
    loops.detach(work, path)
    loops.detach(work, path)
    assert site.loops() == {}


def test_one_image_s_detach_leaves_the_other_s_device(site: Site) -> None:
    one, other, work = image(site), image(site, "other.img"), Work()
    loops.attach(work, one)
    device = loops.attach(work, other)
    loops.detach(work, one)
    assert site.loops() == {device: other}


def test_the_device_of_a_removed_file_is_still_found_and_taken(site: Site) -> None:
    path, work = image(site), Work()
    device = loops.attach(work, path)
    path.unlink()
    assert loops.of(path) == [device]
    loops.detach(work, path)
    assert site.loops() == {}


def test_a_device_is_found_whatever_its_size_and_without_the_list_of_partitions(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, work = site.root / "tiny.img", Work()
    files.make_sparse(path, 512)
    device = loops.attach(work, path)
    assert loops.of(path) == [device]
    monkeypatch.setattr(loops, "_PARTITIONS", Path("/nowhere"))
    assert loops.of(path) == [device]
