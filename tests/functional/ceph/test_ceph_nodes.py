"""One volume, several nodes: one writer at a time, whoever dies or is away."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.ceph import POOL, Ceph, mappers, write_through
from lab.scenarios import assert_intact, write_marker
from lab.site import NODE, Site
from libstorage.controllers import rbd_connection
from libstorage.controllers.rbd_connection import Connection, Place
from libstorage.controllers.rbd_images import RbdImages
from libstorage.errors import BackendError, Damaged, InvalidInput, NotHere, VolumeInUse
from libstorage.manager import Given, VolumeManager, looks_at_data
from libstorage.records import MB

OTHER = "node2"
EXT4 = Given(policy="distributed", fstype="ext4", mb_size=16)
AGENT = "manager.agent().run(lambda text: print(text, flush=True))"
MOUNTS = "print(manager.mount('v', id='web')['Mountpoint'], flush=True); time.sleep(600)"
WATCHES = """
import sys, rados, rbd
conf, pool, namespace, image = sys.argv[1:]
cluster = rados.Rados(conffile=conf, name="client.admin")
cluster.connect()
ioctx = cluster.open_ioctx(pool)
ioctx.set_namespace(namespace)
opened = rbd.Image(ioctx, image)
print("open", flush=True)
sys.stdin.read()
opened.close()
"""


def until(reached: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


@pytest.fixture
def agent(site: Site, manager: VolumeManager) -> "subprocess.Popen[str]":
    """The agent of the first node."""
    process = site.python(AGENT)
    until(lambda: any(row["Name"] == NODE and row["Alive"] for row in manager.nodes()))
    return process


@pytest.fixture
def foreign(ceph: Ceph, site: Site) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Starts clients that have an image open to write, and know nothing of us."""
    started = []

    def begin(image: str) -> "subprocess.Popen[str]":
        words = (str(ceph.conf), POOL, site.config.ceph["namespace"], image)
        pipe = subprocess.PIPE
        client = subprocess.Popen(
            [sys.executable, "-c", WATCHES, *words], stdin=pipe, stdout=pipe, text=True
        )
        started.append(client)
        assert client.stdout and client.stdout.readline() == "open\n"
        return client

    yield begin
    for client in started:
        client.kill()
        client.communicate()


def test_made_on_one_used_on_the_other(manager: VolumeManager, other: VolumeManager) -> None:
    manager.create("v", EXT4)
    write_marker(manager)
    assert_intact(other)
    other.mount("v", id="web")
    with pytest.raises(VolumeInUse, match="salt:web@node2"):
        manager.mount("v")
    with pytest.raises(VolumeInUse, match="salt:web@node2"):
        manager.rm("v")
    other.unmount("v", id="web")
    assert_intact(manager)


def test_the_address_of_its_client_is_known_while_it_is_attached(
    ceph: Ceph, site: Site, manager: VolumeManager
) -> None:
    record = manager.create("v", EXT4)["Volume"]
    manager.mount("v")
    [attachment] = site.values("attachments/").values()
    path = f"{POOL}/{site.config.ceph['namespace']}/{record['Id']}"
    assert attachment["Client"] and attachment["Client"] in ceph.rbd("status", path)
    manager.unmount("v")
    assert "Watchers: none" in ceph.rbd("status", path)


def test_an_image_that_a_stranger_has_open_is_left_alone(
    site: Site, manager: VolumeManager, foreign: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    record = manager.create("v", EXT4)["Volume"]
    client = foreign(record["Id"])
    for verb in (manager.mount, manager.rm):
        with pytest.raises(VolumeInUse, match="in use by Ceph's client 127"):
            verb("v")
    assert site.mounted() == [] and mappers(site) == []
    client.communicate()
    manager.doctor(fix=True)
    assert manager.ls() == []


def test_what_others_keep_in_the_pool_is_never_touched(
    ceph: Ceph, site: Site, manager: VolumeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither images nor snapshots, however old; what we have half made goes."""
    monkeypatch.setattr(looks_at_data, "ORPHAN_AGE", -60.0)
    space = f"{POOL}/{site.config.ceph['namespace']}"
    id = manager.create("v", EXT4)["Volume"]["Id"]
    others = ("backup", str(uuid.uuid4()))
    for name in others:
        ceph.rbd("create", f"{space}/{name}", "--size=8M")
    ceph.rbd("snap", "create", f"{space}/{id}@nightly")
    half = str(uuid.uuid4())
    images_of(site).create(half, "half", 8 * MB)
    [finding] = manager.doctor(fix=True)
    assert half in finding["Says"] and finding["Fixed"]
    assert sorted(ceph.images(site)) == sorted((id, *others))
    assert "nightly" in ceph.rbd("snap", "ls", f"{space}/{id}")
    assert manager.doctor() == [] and [row["Name"] for row in manager.ls()] == ["v"]
    # To remove the image would remove what they have of it: the removal waits for them.
    with pytest.raises(BackendError, match="still has snapshots"):
        manager.rm("v", purge=True)
    assert id in ceph.images(site)
    ceph.rbd("snap", "rm", f"{space}/{id}@nightly")
    manager.doctor(fix=True)
    assert sorted(ceph.images(site)) == sorted(others)


def images_of(site: Site) -> RbdImages:
    """The images of a site's pool, as the controller has them."""
    place = site.config.ceph
    return RbdImages(
        Connection(Place(Path(place["conf"]), place["client"], place["pool"], place["namespace"]))
    )


def test_a_snapshot_is_made_where_the_volume_is_mounted(
    site: Site, manager: VolumeManager, other: VolumeManager, agent: "subprocess.Popen[str]"
) -> None:
    manager.create("v", EXT4)
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "marker").write_text("x" * 100_000)
    other.snapshot_create("v@s")
    [event] = [e for e in site.values("events/").values() if e["Verb"] == "snapshot_create"]
    assert event["Node"] == NODE and event["Success"]
    assert other.usage("v")[0]["Node"] == NODE
    manager.unmount("v")
    other.snapshot_clone("v@s", "clone")
    read = Path(other.mount("clone")["Mountpoint"]) / "marker"
    assert read.read_text() == "x" * 100_000
    other.unmount("clone")


def test_without_an_agent_there_it_is_refused(manager: VolumeManager, other: VolumeManager) -> None:
    manager.create("v", EXT4)
    manager.mount("v")
    for verb in (lambda: other.snapshot_create("v@s"), lambda: other.resize("v", 32)):
        with pytest.raises(NotHere, match="node1, where no agent is running"):
            verb()
    manager.unmount("v")
    other.snapshot_create("v@s")


def test_a_mapper_that_dies_is_replaced_by_unmounting_and_mounting(
    site: Site, manager: VolumeManager
) -> None:
    manager.create("v", EXT4)
    point = Path(manager.mount("v")["Mountpoint"])
    with open(point / "marker", "w") as file:
        file.write("kept")
        file.flush()
        os.fsync(file.fileno())
    [daemon] = mappers(site)
    os.kill(daemon, signal.SIGKILL)
    with pytest.raises(OSError):
        write_through(point)
    manager.unmount("v")
    assert mappers(site) == [] and site.mounted() == [] and site.loops() == {}
    assert (Path(manager.mount("v")["Mountpoint"]) / "marker").read_text() == "kept"
    manager.unmount("v")


def test_a_mapper_that_dies_is_noticed_and_told(
    site: Site, manager: VolumeManager, other: VolumeManager, agent: "subprocess.Popen[str]"
) -> None:
    manager.create("v", EXT4)
    manager.mount("v", id="web")
    [daemon] = mappers(site)
    os.kill(daemon, signal.SIGKILL)
    until(lambda: other.ls()[0]["State"] == "damaged")
    [event] = [e for e in site.values("events/").values() if e["Verb"] == "damaged"]
    assert event["Text"] == "Volume damaged: what served it on node1 has died"
    assert not event["Success"] and event["Node"] == NODE
    with pytest.raises(Damaged, match="used by salt:web@node1"):
        manager.mount("v", id="second")
    findings = [finding["Says"] for finding in manager.doctor()]
    assert "What served v on node1 has died; unmount and mount it again." in findings
    manager.unmount("v", id="web")
    manager.mount("v", id="second")
    assert other.ls()[0]["State"] == "ok" and manager.doctor() == []
    manager.unmount("v", id="second")
    told = [e for e in site.values("events/").values() if e["Verb"] == "damaged"]
    assert told == [event]


def test_a_store_made_anew_hears_from_each_node_what_it_has(
    site: Site, manager: VolumeManager, other: VolumeManager
) -> None:
    for name in ("here", "there", "idle"):
        manager.create(name, EXT4)
    manager.mount("here", id="web")
    other.mount("there", id="db")
    before = {prefix: site.values(prefix) for prefix in ("volumes/", "attachments/")}
    mounted = site.mounted()
    manager.close()
    other.close()
    site.lose_store()

    manager, other = site.manager(), site.manager(OTHER)
    manager.doctor(rebuild=True)
    assert set(site.values("attachments/")) == {f"attachments/here/{NODE}"}
    # Nothing is taken from the other node, by whomever, before it has told.
    [finding] = other.doctor()
    assert finding["Says"] == "The store was made anew, and does not know yet what node2 has."
    with pytest.raises(VolumeInUse):
        manager.mount("there")
    assert other.attachments(refresh=True) and site.mounted() == mounted
    agent = site.python(AGENT, node=OTHER)
    until(lambda: len(site.values("attachments/")) == 2)
    agent.kill()
    agent.wait(20)
    assert {prefix: site.values(prefix) for prefix in before} == before
    assert site.mounted() == mounted
    other.doctor(fix=True)  # the agent that was killed
    assert manager.doctor() == other.doctor() == []
    with pytest.raises(InvalidInput, match="only a lost one"):
        other.doctor(rebuild=True)
    manager.unmount("here", id="web")
    other.unmount("there", id="db")


def test_a_dead_node_is_shut_out_before_another_one_takes_over(
    site: Site, manager: VolumeManager, other: VolumeManager
) -> None:
    manager.create("v", EXT4)
    write_marker(manager)
    manager.close()
    user = site.python(MOUNTS)
    assert user.stdout
    point = Path(user.stdout.readline().strip())
    user.kill()  # its mapper lives on, and so may containers
    with pytest.raises(VolumeInUse, match="salt:web@node1"):
        other.mount("v")
    until(lambda: not any(row["Name"] == NODE and row["Alive"] for row in other.nodes()))
    answer = other.cluster.fence(NODE)  # nobody's word is needed
    assert answer["Released"] == ["v"]
    with pytest.raises(OSError):
        write_through(point)
    assert_intact(other)
    again = site.manager()
    again.doctor(fix=True)
    assert point not in site.mounted()
    assert_intact(again)


def test_what_no_storage_can_shut_out_needs_a_word(
    site: Site, manager: VolumeManager, other: VolumeManager
) -> None:
    manager.create("v", Given(policy="local"))
    manager.close()
    user = site.python(MOUNTS)
    assert user.stdout and user.stdout.readline()
    user.kill()
    until(lambda: not any(row["Name"] == NODE and row["Alive"] for row in other.nodes()))
    with pytest.raises(InvalidInput, match="switch it off"):
        other.cluster.fence(NODE)


def test_ceph_may_be_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each verb ends with a word; other storage is untouched, and I/O goes on when it is back."""
    monkeypatch.setitem(rbd_connection.OPTIONS, "rados_osd_op_timeout", "3")
    with Ceph(tmp_path / "c") as ceph, Site(tmp_path / "site", **ceph.settings()) as site:
        manager = site.manager()
        manager.create("v", EXT4)
        manager.create("u", EXT4)
        manager.create("here", Given(policy="local", fstype="ext4", mb_size=8))
        manager.mount("here")
        other, agent = site.manager(OTHER), site.python(AGENT)
        until(lambda: any(row["Name"] == NODE and row["Alive"] for row in other.nodes()))
        point = Path(manager.mount("v")["Mountpoint"])
        writing = subprocess.Popen(
            ["dd", "if=/dev/zero", f"of={point}/out", "bs=64k", "count=80", "oflag=direct"],
            stderr=subprocess.DEVNULL,
        )
        ceph.signal("osd", signal.SIGSTOP)
        try:
            began = time.monotonic()
            for verb in (
                lambda: manager.create("new", EXT4),
                lambda: manager.mount("u"),
                lambda: manager.snapshot_create("u@s"),
            ):
                with pytest.raises(BackendError, match="no answer"):
                    verb()
            findings = manager.doctor(fix=True)
            assert any("Ceph gave no answer" in finding["Says"] for finding in findings)
            # One call of each waits for Ceph.
            assert time.monotonic() - began < 4 * 5
            manager.create("local", Given(policy="local", fstype="ext4", mb_size=8))
            write_marker(manager, name="local")
            assert_intact(manager, name="local")
            assert_unhindered(manager, other)
            assert writing.poll() is None and agent.poll() is None
        finally:
            ceph.signal("osd", signal.SIGCONT)
        assert writing.wait(60) == 0
        manager.unmount("v")
        manager.unmount("here")
        manager.doctor(fix=True)
        assert sorted(r["Name"] for r in manager.ls()) == ["here", "local", "u", "v"]
        assert len(ceph.images(site)) == 2


def assert_unhindered(manager: VolumeManager, other: VolumeManager) -> None:
    """The agent does what another node asks of it, and lets limits follow, within a second."""
    for number in range(6):
        began = time.monotonic()
        other.snapshot_create(f"here@s{number}")
        (other.qos.disable if number % 2 else other.qos.enable)(["here"])
        limited = not number % 2
        until(lambda limited=limited: bool(manager.info("here")[0]["QoSLimits"]) == limited, 1)  # type: ignore[misc]
        assert time.monotonic() - began < 2
        time.sleep(0.5)
