"""The agent: one per node, which does what is asked of its node and what the dead have left."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.scenarios import KINDS, assert_intact, read_marker, write_marker
from lab.site import KEEPS_TRASH, LEASE, NODE, Site, assert_clean
from libstorage.errors import (
    ConfigInvalid,
    InvalidInput,
    NotHere,
    NotInTrash,
    OperationInProgress,
    VolumeInUse,
)
from libstorage.manager import Given, VolumeManager

EXT4 = KINDS["ext4"]
AGENT = """
import signal
agent = manager.agent()
signal.signal(signal.SIGTERM, lambda *_: agent.stop())
agent.run(lambda text: print(text, flush=True))
"""
Start = Callable[..., "subprocess.Popen[str]"]


def until(reached: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture
def manager(site: Site) -> VolumeManager:
    return site.manager()


@pytest.fixture
def other(site: Site) -> VolumeManager:
    """The manager of another node."""
    return site.manager("node2")


@pytest.fixture
def start(site: Site, other: VolumeManager) -> Iterator[Start]:
    """Starts the agent of a node, and waits for it."""

    def begin(node: str = NODE, **over: Any) -> "subprocess.Popen[str]":
        agent = site.python(AGENT, node=node, **over)
        until(lambda: any(n["Name"] == node and n["Alive"] for n in other.nodes()))
        return agent

    yield begin


def end(agent: "subprocess.Popen[str]") -> str:
    agent.send_signal(signal.SIGTERM)
    said, wrong = agent.communicate(timeout=20)
    assert agent.returncode == 0, wrong
    return said


# -- nodes


def test_a_node_is_there_as_long_as_its_agent(
    site: Site, other: VolumeManager, start: Start
) -> None:
    agent = start()
    [node] = other.nodes()
    assert (node["Name"], node["Alive"], node["Attached"], node["Data"]) == (NODE, True, 0, 0)
    assert node["Policies"]["local"] == "ds-local" and node["BootId"] and node["Addresses"]
    assert node["Versions"]["schema"] == 1 and "Owner" not in node
    end(agent)
    assert other.nodes() == []


def test_a_killed_agent_is_gone_after_a_lease(other: VolumeManager, start: Start) -> None:
    agent = start()
    agent.kill()
    began = time.monotonic()
    until(lambda: not any(node["Alive"] for node in other.nodes()))
    assert time.monotonic() - began < 3 * LEASE
    start()


def test_nodes_without_an_agent_are_seen_by_what_they_hold(
    manager: VolumeManager, other: VolumeManager
) -> None:
    manager.create("v", Given(**EXT4))
    manager.mount("v")
    assert other.nodes() == [{"Attached": 1, "Data": 1, "Name": NODE, "Alive": False}]


def test_there_is_one_agent_on_a_node(site: Site, start: Start) -> None:
    start()
    with pytest.raises(ConfigInvalid, match="An agent of node1 runs already"):
        site.manager().agent().run()


def test_a_name_belongs_to_one_living_host(site: Site, start: Start) -> None:
    agent = start()
    impostor = site.manager(NODE, run_dir=str(site.root / "run-else"))
    with pytest.raises(ConfigInvalid, match="node1 belongs to a living host"):
        impostor.agent().run()
    end(agent)


def test_after_a_reboot_the_agent_takes_its_name_and_releases_old_claims(
    site: Site, manager: VolumeManager, start: Start
) -> None:
    manager.create("v", Given(**EXT4))
    write_marker(manager)
    manager.mount("v")
    agent = start()
    agent.kill()
    agent.communicate()
    site.reboot()
    start()
    until(lambda: site.values("attachments/") == {})
    assert_intact(site.manager(), "v")


# -- asked by others


def test_what_another_node_has_is_done_there(
    site: Site, manager: VolumeManager, other: VolumeManager, start: Start
) -> None:
    manager.create("v", Given(**EXT4))
    write_marker(manager)
    start()
    by = {"door": "salt", "user": "joe"}
    assert other.snapshot_create("v@s", by=by)["Name"] == "s"
    [event] = other.events(filters=["verb=snapshot_create"])
    assert event["Node"] == NODE and event["By"] == {**by, "from": "node2"}
    write_marker(manager, text="changed\n")
    clone = other.snapshot_clone("v@s", "w")
    assert clone["Created"] and clone["Volume"]["Node"] == NODE
    assert not other.snapshot_clone("v@s", "w")["Created"]
    other.rollback("v@s")
    assert_intact(manager, "v")
    assert_intact(manager, "w")
    assert other.resize("v", 24)["Volume"]["MBSize"] == 24
    [usage] = other.usage("v")
    assert (usage["Err"], usage["Node"]) == ("", NODE)
    other.rm("w")
    other.snapshot_rm("v@s")
    other.rm("v")
    assert other.ls() == [] and site.values("delegated/") == {}


def test_the_trash_of_another_node(tmp_path: Path) -> None:
    with Site(tmp_path / "site", trash=KEEPS_TRASH) as site:
        manager, other = site.manager(), site.manager("node2")
        manager.create("v", Given(**EXT4))
        write_marker(manager)
        site.python(AGENT)
        until(lambda: bool(other.nodes()) and other.nodes()[0]["Alive"])
        other.rm("v")
        assert [row["Name"] for row in other.trash_ls()] == ["v"]
        assert other.undelete("v", new="w", test=True)["Name"] == "w"
        assert other.rm("v", purge=True, test=True)["Name"] == "v"
        assert [row["Name"] for row in other.trash_ls()] == ["v"]
        assert other.undelete("v", new="w")["Name"] == "w"
        assert_intact(manager, "w")
        other.rm("w")
        other.rm("w", purge=True)
        assert other.trash_ls() == []
        with pytest.raises(NotInTrash):
            other.undelete("w")


def test_its_refusals_are_given_as_they_are(
    site: Site, manager: VolumeManager, other: VolumeManager, start: Start
) -> None:
    manager.create("v", Given(**EXT4))
    manager.mount("v")
    start()
    with pytest.raises(VolumeInUse, match=r"^Volume in use by salt:salt@node1$"):
        other.rm("v")
    with pytest.raises(InvalidInput, match="size 8, asked 4"):
        other.resize("v", 4)
    failed = [e["Node"] for e in other.events(filters=["success=false"])]
    assert failed == [NODE]
    manager.unmount("v")


def test_a_test_run_asks_nobody(
    site: Site, manager: VolumeManager, other: VolumeManager, start: Start
) -> None:
    manager.create("v", Given(**EXT4))
    start()
    revision = site.store.revision()
    assert other.rm("v", test=True)["Name"] == "v"
    assert other.resize("v", 24, test=True)["Changed"]
    assert other.snapshot_create("v@s", test=True)["Name"] == "s"
    changes = site.store.watch("", revision + 1, timeout=0.1)
    # On a busy host an agent may register again.
    assert not [c for c in changes if not c.key.startswith(("owners/", "nodes/", "elected"))]


def test_without_an_agent_it_is_refused_at_once(
    manager: VolumeManager, other: VolumeManager
) -> None:
    manager.create("v", Given(**EXT4))
    for ask in (
        lambda: other.rm("v"),
        lambda: other.rm("v", test=True),
        lambda: other.snapshot_create("v@s"),
        lambda: other.usage("v"),
    ):
        with pytest.raises(NotHere, match="on node1, where no agent is running"):
            ask()


def test_a_stuck_volume_blocks_no_other(
    site: Site, manager: VolumeManager, other: VolumeManager, start: Start
) -> None:
    for name in ("v", "w"):
        manager.create(name, Given(**EXT4))
    busy = site.python(
        """
from libstorage.controllers.local import Local
def hangs(*_): print("at it", flush=True); time.sleep(60)
Local.rollback = hangs
manager.snapshot_create("v@s")
manager.rollback("v@s")
"""
    )
    assert busy.stdout and busy.stdout.readline() == "at it\n"
    start()
    waiting = site.python('manager.rm("v", timeout=5)', node="node2")
    began = time.monotonic()
    other.rm("w")
    assert time.monotonic() - began < 3
    said = waiting.communicate(timeout=20)[1]
    assert "v is busy: rollback by process" in said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_agent_that_dies_in_a_verb_leaves_nothing_half_done(
    site: Site, manager: VolumeManager, other: VolumeManager, start: Start, number: int
) -> None:
    manager.create("v", Given(**EXT4))
    write_marker(manager)
    manager.snapshot_create("v@s")
    agent = site.python(
        """
from libstorage.controllers.local import Local
def hangs(*_): print("at it", flush=True); time.sleep(60)
Local.rollback = hangs
manager.agent().run()
"""
    )
    until(lambda: any(n["Alive"] for n in other.nodes()))
    asking = site.python('manager.rollback("v@s", timeout=15)', node="node2")
    assert agent.stdout and agent.stdout.readline() == "at it\n"
    os.kill(agent.pid, number)
    said = asking.communicate(timeout=25)[1]
    assert "The agent of node1 ended before the rollback of v was done" in said
    if number == signal.SIGSTOP:
        os.kill(agent.pid, signal.SIGKILL)
        agent.wait()
    start()
    until(lambda: site.values("operations/") == {})
    assert read_marker(site.manager(), name="v").startswith("what was written")


# -- what the dead have left


def test_a_dead_owners_operation_is_recovered(
    site: Site, manager: VolumeManager, start: Start
) -> None:
    start()
    victim = site.python(
        """
from libstorage.controllers.local import Local
def hangs(*_): print("at it", flush=True); time.sleep(60)
Local.create = hangs
manager.create("v", Given(policy="local", fstype="ext4", mb_size=8))
"""
    )
    assert victim.stdout and victim.stdout.readline() == "at it\n"
    victim.kill()
    until(lambda: site.values("operations/") == {})
    assert manager.ls() == []
    [event] = manager.events(filters=["success=false"])
    assert event["Text"] == "Volume create failed its process ended before it was done"


def test_a_half_made_mount_is_taken_back(site: Site, manager: VolumeManager, start: Start) -> None:
    manager.create("v", Given(**EXT4))
    write_marker(manager)
    start()
    victim = site.python(
        """
from libstorage.manager import presence
def hangs(*_): print("at it", flush=True); time.sleep(60)
presence.present = hangs
manager.mount("v")
"""
    )
    assert victim.stdout and victim.stdout.readline() == "at it\n"
    victim.kill()
    until(lambda: site.values("attachments/") == {})
    assert_intact(manager, "v")


def test_limits_follow_a_change_made_elsewhere_within_a_second(
    site: Site, manager: VolumeManager, other: VolumeManager, start: Start
) -> None:
    manager.create("v", Given(**EXT4))
    manager.mount("v")
    start()

    def limit() -> set[int]:
        return {row["WriteBW"] for row in manager.info("v")[0]["QoSLimits"] or ()}

    changes: list[tuple[Callable[[], object], set[int]]] = [
        (lambda: other.qos.enable(["v"]), {10_000}),
        (lambda: other.qos.edit("default", {"write_bw": 70_000_000}), {70_000_000}),
        (lambda: other.qos.disable([], everywhere=True), set()),
        (lambda: other.qos.enable([], everywhere=True), {70_000_000}),
        (lambda: other.qos.disable(["v"]), set()),
    ]
    for change, expected in changes:
        change()
        until(lambda expected=expected: limit() == expected, 1.0)  # type: ignore[misc]
    manager.unmount("v")


def test_data_of_what_was_removed_elsewhere_are_purged(
    site: Site, manager: VolumeManager, other: VolumeManager, start: Start
) -> None:
    manager.create("v", Given(policy="local"))
    write_marker(manager)
    write_marker(other)
    start()
    start("node2")
    other.rm("v")
    until(lambda: site.values("purge/") == {})
    assert_clean(site)


def test_old_events_are_forgotten_by_one(site: Site, manager: VolumeManager, start: Start) -> None:
    manager.create("v", Given(policy="local"))
    assert manager.events()
    start(events={"retention": 0})
    until(lambda: site.values("events/") == {})
    elected = site.store.get("elected")
    assert elected and elected.value["Node"] == NODE


def test_another_is_elected_when_one_dies(site: Site, start: Start) -> None:
    first, second = start(), start("node2")
    until(lambda: site.store.get("elected") is not None)
    [chosen] = [site.store.get("elected").value["Node"]]  # type: ignore[union-attr]
    (first if chosen == NODE else second).kill()
    left = "node2" if chosen == NODE else NODE

    def now() -> str:
        entry = site.store.get("elected")
        return str(entry.value["Node"]) if entry else ""

    until(lambda: now() == left)


def test_a_store_that_goes_and_comes_is_waited_for(
    site: Site, manager: VolumeManager, start: Start
) -> None:
    agent = start()
    folder = site.root / "store"
    locked = site.python(
        """
import sqlite3
from pathlib import Path
[file] = Path(manager.config.root, "store").glob("*.db")
connection = sqlite3.connect(file, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(4)
"""
    )
    assert folder.is_dir() and locked.stdout and locked.stdout.readline() == "locked\n"
    locked.wait(20)
    manager.create("v", Given(policy="local"))
    until(lambda: any(n["Alive"] for n in manager.nodes()))
    assert agent.poll() is None
    end(agent)


def test_the_deadline_is_kept(site: Site, manager: VolumeManager, other: VolumeManager) -> None:
    """An agent that is alive but does nothing: the asker is told in time."""
    manager.create("v", Given(**EXT4))
    site.python(
        """
import threading
from libstorage.manager.nodes import Nodes
manager._nodes.register(threading.Event())
time.sleep(60)
"""
    )
    until(lambda: any(n["Alive"] for n in other.nodes()))
    began = time.monotonic()
    with pytest.raises(OperationInProgress, match="node1 has not answered to the rm of v yet"):
        other.rm("v", timeout=0.5)
    assert time.monotonic() - began < 8
    assert site.values("delegated/") == {}
