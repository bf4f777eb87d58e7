"""Volumes in Ceph on devices of krbd and rbd-nbd: their life, their limits, and their faults."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guest.ceph.conftest import MAPPERS, PREFIX, Sited, Strange, devices
from guest.conftest import UNLIMITED, Group
from guest.loads import Load
from lab.ceph import Reached, write_through
from lab.scenarios import assert_intact, write_marker
from lab.site import NODE, Site
from libstorage.controllers import ceph as controller
from libstorage.controllers import rbd_mapper_nbd
from libstorage.controllers.rbd_connection import Place
from libstorage.controllers.rbd_mappers import Mappers
from libstorage.errors import MountBusy, VolumeInUse
from libstorage.host import throttling
from libstorage.host.commands import Work
from libstorage.manager import Given

EXT4 = Given(policy="distributed", fstype="ext4", mb_size=16)
RAW = Given(policy="distributed", fstype="raw", mb_size=16)
GROWN = 32
RATE = 200_000
BLOCK = 16384  # a dozen operations a second: the processor is emulated
TRIES = 5  # an emulated processor may lag: what is too slow is measured again, too fast never
WRITES = """
while dd if=/dev/zero of="$1" bs=64k count=64 oflag=direct conv=notrunc status=none; do :; done
exit 1
"""
MOUNTS = "print(manager.mount('v', id='web')['Mountpoint'], flush=True); time.sleep(600)"


@pytest.mark.parametrize("mapper", MAPPERS)
def test_a_volume_s_life(mapper: str, ceph: Reached, sited: Sited) -> None:
    site = sited(mapper)
    manager = site.manager()
    manager.create("v", EXT4)
    assert devices() == []
    point = Path(manager.mount("v")["Mountpoint"])
    [device] = devices()
    assert device.startswith(PREFIX[mapper])
    (point / "file").write_text("one")
    before = os.statvfs(point).f_blocks
    manager.resize("v", GROWN)
    assert os.statvfs(point).f_blocks > 1.5 * before
    manager.snapshot_create("v@s")  # frozen meanwhile
    (point / "file").write_text("two")
    manager.unmount("v")
    assert devices() == []
    manager.rollback("v@s")
    assert (Path(manager.mount("v")["Mountpoint"]) / "file").read_text() == "one"
    manager.unmount("v")
    manager.snapshot_rm("v@s")
    manager.rm("v")
    assert ceph.images(site) == [] and devices() == [] and manager.doctor() == []


@pytest.mark.parametrize("mapper", MAPPERS)
def test_a_second_writer_is_refused(
    mapper: str, sited: Sited, stranger: Strange, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rbd

    monkeypatch.setattr(controller, "CLIENT_SECONDS", 1.0)  # it has not died
    site = sited(mapper)
    manager = site.manager()
    record = manager.create("v", EXT4)["Volume"]
    refused = pytest.raises(VolumeInUse, match="in use by Ceph's client 10")
    with stranger(site, record["Id"]), refused:
        manager.mount("v")
    assert devices() == []
    manager.mount("v")
    [attachment] = site.values("attachments/").values()
    [device] = devices()
    if mapper == "krbd":
        entry = Path("/sys/bus/rbd/devices", device.removeprefix("/dev/rbd"))
        assert attachment["Client"] == (entry / "client_addr").read_text().strip()
    with stranger(site, record["Id"]) as image:
        clients = [watcher["addr"] for watcher in image.watchers_list()]
        assert attachment["Client"] in clients
        if mapper == "rbd-nbd":
            with pytest.raises(rbd.ReadOnlyImage):
                image.write(b"too much", 0)
    with pytest.raises(VolumeInUse, match="salt:salt@node1"):
        site.manager("node2").mount("v")
    manager.unmount("v")


def test_the_first_mapper_of_the_host_is_chosen_and_another_finds_what_it_has(sited: Sited) -> None:
    site = sited("auto")
    manager = site.manager()
    manager.create("v", EXT4)
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "marker").write_text("kept")
    assert devices()[0].startswith(PREFIX["krbd"])
    other = {**site.config.ceph, "mapper": "rbd-nbd"}
    changed = site.manager(ceph=other)
    assert changed.doctor() == []
    changed.unmount("v")
    assert devices() == []
    assert (Path(changed.mount("v")["Mountpoint"]) / "marker").read_text() == "kept"
    assert devices()[0].startswith(PREFIX["rbd-nbd"])
    manager.unmount("v")


@pytest.mark.parametrize("mapper", MAPPERS)
def test_a_device_that_nobody_accounts_for_is_taken_away_when_it_is_free(
    mapper: str, sited: Sited
) -> None:
    """As somebody leaves it who dies. The kernel would let a mounted nbd device go."""
    site = sited(mapper)
    manager = site.manager()
    id = manager.create("v", RAW)["Volume"]["Id"]
    mappers = mappers_of(site)
    device = mappers.map(Work(), id)
    assert mappers.map(Work(), id) == device and mappers.lives(id)
    taken = os.open(device, os.O_RDWR | os.O_EXCL)  # as a mount has it
    try:
        with pytest.raises(MountBusy, match=f"{device} is in use by .*{os.getpid()}"):
            mappers.unmap(Work(), id)
    finally:
        os.close(taken)
    [finding] = manager.doctor(fix=True)
    assert finding["Says"].startswith(f"The device {device} of v belongs to no attachment")
    assert devices() == [] and not mappers.lives(id) and mappers.held() == {}
    mappers.unmap(Work(), id)  # none is as good


def test_io_max_holds_on_a_device_of_krbd(sited: Sited, group: Group) -> None:
    manager = sited("krbd").manager()
    manager.qos.create("slow", {**UNLIMITED, "write_bw": RATE})
    manager.create("v", replace(EXT4, qos_profile="slow", qos_state=True))
    cgroup = group(f"{throttling.hierarchy().base()}/writer")
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "data").write_bytes(bytes(4 << 20))
    os.sync()
    rate = 0.0
    for _ in range(TRIES):
        rate = Load("write", point, cgroup, BLOCK, 5).wait().bytes()
        print(f"RATE krbd limit {RATE} got {rate:.0f}")
        if rate > RATE * 0.95:
            break
    assert rate == pytest.approx(RATE, rel=0.05)
    manager.unmount("v")


@pytest.mark.parametrize("options", [(), ("--try-netlink",)], ids=("by default", "netlink"))
def test_a_daemon_that_is_killed_is_replaced_by_unmounting_and_mounting(
    options: tuple[str, ...], sited: Sited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whoever writes meanwhile has an error, and does not wait for ever. Ceph 18 makes devices by
    netlink, unasked: they outlive their daemons.
    """
    monkeypatch.setattr(rbd_mapper_nbd, "OPTIONS", (*rbd_mapper_nbd.OPTIONS, *options))
    site = sited("rbd-nbd")
    manager = site.manager()
    id = manager.create("v", EXT4)["Volume"]["Id"]
    mappers = mappers_of(site)
    for told in (True, False):
        point = Path(manager.mount("v")["Mountpoint"])
        (point / "marker").write_text("kept")
        os.sync()
        assert mappers.lives(id)
        [pid] = [int(file.read_text()) for file in Path("/sys/block").glob("nbd*/pid")]
        assert os.getsid(pid) != os.getsid(0)
        with subprocess.Popen(["sh", "-c", WRITES, "sh", point / "late"]) as writer:
            until((point / "late").exists)
            os.kill(pid, signal.SIGKILL)
            until(lambda: not mappers.lives(id))
            assert not options or list(rbd_mapper_nbd.orphaned().values()) == [id]
            if told:
                findings = [finding["Says"] for finding in manager.doctor(fix=True)]
                assert "What served v on node1 has died; unmount and mount it again." in findings
                assert manager.info("v")[0]["State"] == "damaged"
                assert writer.wait(20) != 0
                with pytest.raises(OSError):
                    write_through(point)
            manager.unmount("v")
            assert writer.wait(20) != 0
        assert devices() == [] and site.mounted() == []
    assert (Path(manager.mount("v")["Mountpoint"]) / "marker").read_text() == "kept"
    manager.unmount("v")


def test_a_dead_node_s_kernel_is_shut_out_before_another_one_takes_over(sited: Sited) -> None:
    site = sited("krbd")
    manager, other = site.manager(), site.manager("node2")
    for name in ("v", "u"):
        manager.create(name, EXT4)
    write_marker(manager)
    manager.close()
    user = site.python(MOUNTS)
    assert user.stdout
    point = Path(user.stdout.readline().strip())
    user.kill()  # the kernel lives on, and so may containers
    until(lambda: not any(row["Name"] == NODE and row["Alive"] for row in other.nodes()))
    beside = Path(other.mount("u")["Mountpoint"])  # by the same kernel, as a client of its own
    assert other.cluster.fence(NODE)["Released"] == ["v"]
    with pytest.raises(OSError):
        write_through(point)
    write_through(beside)
    other.unmount("u")
    assert_intact(other)
    again = site.manager()
    again.doctor(fix=True)
    assert point not in site.mounted() and devices() == []
    assert_intact(again)


def mappers_of(site: Site) -> Mappers:
    """The first node's, as its managers have them."""
    settings = site.config.ceph
    place = Place(
        Path(settings["conf"]), settings["client"], settings["pool"], settings["namespace"]
    )
    return Mappers(place, site.config.run_dir, NODE, settings["mapper"])


def until(reached: Callable[[], bool], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.2)
