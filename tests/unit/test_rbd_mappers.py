"""How mappers are chosen, and how they tell from the host what they have mapped."""

import os
from pathlib import Path
from typing import Any

import pytest

from libstorage.config import load
from libstorage.controllers import rbd_mapper_krbd, rbd_mapper_nbd
from libstorage.controllers.rbd_connection import Place, instance_of
from libstorage.controllers.rbd_mapper_krbd import Krbd
from libstorage.controllers.rbd_mapper_nbd import RbdNbd
from libstorage.controllers.rbd_mapper_qemu import Qemu
from libstorage.controllers.rbd_mappers import Mappers
from libstorage.errors import ConfigInvalid, ToolMissing
from libstorage.host import modules

ID, OTHER = "11111111-aaaa", "22222222-bbbb"
PLACE = Place(Path("/etc/ceph/ceph.conf"), "dsvolume", "pool", "one")


def entry(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This node maps ID by each of the two; the host has more mapped."""
    images, block, proc = tmp_path / "images", tmp_path / "block", tmp_path / "proc"
    entry(images / "0", name=ID, current_snap="old", client_addr="10.0.0.5:0/1")
    entry(images / "1", name=ID, current_snap="-", client_addr="10.0.0.5:0/2")
    entry(images / "2", name=OTHER, current_snap="-", client_addr="10.0.0.5:0/3")
    entry(images / "3")  # being unmapped
    entry(block / "nbd0", size="0")
    for device, (pid, id) in enumerate(((os.getpid(), ID), (1, OTHER)), 1):
        entry(block / f"nbd{device}", pid=str(pid))
        words = ("/usr/bin/rbd-nbd", "--id", "dsvolume", "--exclusive", "map", f"pool/one/{id}", "")
        entry(proc / str(pid), cmdline="\0".join(words))
    entry(block / "nbd3", pid="7")  # somebody else's server
    entry(proc / "7", cmdline=f"nbd-client\0map\0pool/{ID}\0")
    entry(block / "nbd4", pid="8")  # whose daemon has died
    monkeypatch.setattr(rbd_mapper_krbd, "DEVICES", images)
    monkeypatch.setattr(rbd_mapper_nbd, "BLOCK", block)
    monkeypatch.setattr(rbd_mapper_nbd, "PROC", proc)
    for name in ("krbd", "rbd-nbd"):
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / ID).touch()
    return tmp_path / "run"


def test_krbd_reads_what_the_kernel_has_mapped(run_dir: Path) -> None:
    mapper = Krbd(PLACE, run_dir)
    assert mapper.find(ID) == Path("/dev/rbd1")
    assert mapper.client(ID) == "10.0.0.5:0/2"
    assert mapper.lives(ID)
    assert mapper.held() == {ID: "device /dev/rbd1"}


def test_rbd_nbd_is_found_by_its_daemons_command_line(run_dir: Path) -> None:
    mapper = RbdNbd(PLACE, run_dir)
    assert mapper.find(ID) == Path("/dev/nbd1")
    assert mapper.lives(ID)
    assert mapper.held() == {ID: "device /dev/nbd1"}


@pytest.mark.parametrize("kind", [Krbd, RbdNbd])
def test_what_another_node_of_the_host_has_mapped_is_not_ours(kind: Any, run_dir: Path) -> None:
    mapper = kind(PLACE, run_dir)
    assert mapper.find(OTHER) is None and not mapper.lives(OTHER) and mapper.client(OTHER) == ""


def test_of_two_nodes_that_have_mapped_one_image_each_finds_its_own_device(run_dir: Path) -> None:
    entry(rbd_mapper_krbd.DEVICES / "4", name=ID, current_snap="-", client_addr="10.0.0.5:0/5")
    mark = run_dir / "krbd" / ID
    for number in ("1", "4"):
        mark.write_text(f"/dev/rbd{number}")
        assert Krbd(PLACE, run_dir).find(ID) == Path(f"/dev/rbd{number}")
    mark.write_text("/dev/rbd5")
    assert Krbd(PLACE, run_dir).find(ID) is None


@pytest.mark.parametrize("kind", [Krbd, RbdNbd])
def test_a_mark_without_a_device_is_held_until_it_is_unmapped(kind: Any, run_dir: Path) -> None:
    mapper = kind(PLACE, run_dir)
    mark = run_dir / mapper.name / "33333333-cccc"
    mark.touch()
    assert mapper.find(mark.name) is None and not mapper.lives(mark.name)
    assert mapper.held()[mark.name] == f"mark {mark}"
    mapper.unmap(None, mark.name)
    assert not mark.exists()


def test_who_has_an_image_is_not_a_matter_of_the_configuration(run_dir: Path) -> None:
    (run_dir / "rbd-nbd" / ID).unlink()
    mappers = Mappers(PLACE, run_dir, "node1", "qemu")
    assert mappers.find(ID) == mappers.map(None, ID) == Path("/dev/rbd1")  # type: ignore[arg-type]
    assert mappers.lives(ID) and mappers.client(ID) == "10.0.0.5:0/2"
    assert mappers.held() == {ID: "device /dev/rbd1"}


@pytest.mark.parametrize(
    ("wanted", "lacking", "chosen"),
    [
        ("auto", (), "krbd"),
        ("auto", (Krbd,), "rbd-nbd"),
        ("auto", (Krbd, RbdNbd), "qemu"),
        ("qemu", (), "qemu"),
        ("rbd-nbd", (Krbd,), "rbd-nbd"),
    ],
)
def test_the_first_that_works_is_chosen_unless_one_is_named(
    wanted: str, lacking: tuple[Any, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack(monkeypatch, *lacking)
    assert Mappers(PLACE, Path("/run/none"), "node1", wanted).chosen().name == chosen


@pytest.mark.parametrize(
    ("wanted", "says"), [("auto", "krbd: .*rbd-nbd: .*qemu: "), ("rbd-nbd", "here; rbd-nbd: ")]
)
def test_a_host_that_can_map_nothing_says_what_it_lacks(
    wanted: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack(monkeypatch, Krbd, RbdNbd, Qemu)
    with pytest.raises(ToolMissing, match=says):
        Mappers(PLACE, Path("/run/none"), "node1", wanted).need()


def lack(monkeypatch: pytest.MonkeyPatch, *kinds: Any) -> None:
    """Let some mappers lack something on this host, and the others nothing."""

    def lacks(self: Any) -> None:
        raise ToolMissing("it is not here")

    for kind in (Krbd, RbdNbd, Qemu):
        monkeypatch.setattr(kind, "need", lacks if kind in kinds else lambda self: None)


def test_a_module_is_looked_for_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules, "_LOADED", tmp_path / "loaded")
    monkeypatch.setattr(modules, "_FOLDER", tmp_path)
    with pytest.raises(ToolMissing, match="has no module rbd"):
        modules.need("rbd")
    folder = tmp_path / os.uname().release
    entry(folder, **{"modules.dep": "kernel/drivers/block/xrbd.ko: kernel/rbd.ko"})
    assert not modules.available("rbd")
    (folder / "modules.builtin").write_text("kernel/drivers/block/nbd.ko\n")
    (folder / "modules.dep").write_text("kernel/drivers/block/rbd.ko.xz: kernel/libceph.ko.xz\n")
    assert modules.available("rbd") and modules.available("nbd")
    (tmp_path / "loaded" / "rbd").mkdir(parents=True)
    modules.need("rbd")


def test_ceph_and_the_kernel_write_a_clients_address_differently() -> None:
    assert instance_of("v1:10.0.0.5:0/37") == instance_of("10.0.0.5:0/37") == "10.0.0.5:0/37"


def test_the_configuration_names_a_mapper_that_there_is() -> None:
    assert load("node1").ceph["mapper"] == "auto"
    assert load("node1", {"ceph": {"mapper": "krbd"}}).ceph["mapper"] == "krbd"
    with pytest.raises(ConfigInvalid, match="one of auto, krbd, rbd-nbd, qemu, not 'loop'"):
        load("node1", {"ceph": {"mapper": "loop"}})
