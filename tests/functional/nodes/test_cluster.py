"""Nodes are emptied, declared dead and forgotten; a volume is taken from one by force."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_agent import AGENT, until

from lab.scenarios import KINDS, assert_intact, write_marker
from lab.site import KEEPS_TRASH, LEASE, NODE, Site, assert_clean
from libstorage.errors import (
    InvalidInput,
    MountBusy,
    NodeClosed,
    NoSuchNode,
    NoSuchVolume,
    NotHere,
    VolumeInUse,
)
from libstorage.manager import Given, VolumeManager

OTHER = "node2"
EXT4, DIRECTORY = KINDS["ext4"], KINDS["directory"]
LIVES = "manager._store.owner(); print('here', flush=True); time.sleep(60)"


@pytest.fixture
def manager(site: Site) -> VolumeManager:
    return site.manager()


@pytest.fixture
def other(site: Site) -> VolumeManager:
    """The manager of another node."""
    return site.manager(OTHER)


@pytest.fixture
def agent(site: Site, manager: VolumeManager) -> "subprocess.Popen[str]":
    """The agent of the other node."""
    process = site.python(AGENT, node=OTHER)
    until(lambda: any(row["Name"] == OTHER and row["Alive"] for row in manager.nodes()))
    return process


@pytest.fixture
def holder(site: Site) -> Iterator[Callable[[Path], "subprocess.Popen[bytes]"]]:
    """Starts processes that hold a file of a volume open."""
    started = []

    def hold(point: Path) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            ["sh", "-c", 'exec 3>"$1"; echo held; exec sleep 60', "sh", str(point / "held")],
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout and process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def verbs(site: Site, *wanted: str) -> list[tuple[str, str, bool]]:
    """The events of some verbs: what, of which volume or node, and whether it went well."""
    events = sorted(site.values("events/").values(), key=lambda event: event["Time"])
    return [(e["Verb"], e["Volume"], e["Success"]) for e in events if e["Verb"] in wanted]


# -- drain


def test_a_drained_node_takes_no_mounts(
    site: Site, manager: VolumeManager, other: VolumeManager
) -> None:
    manager.create("v", Given(**DIRECTORY))
    other.mount("v")
    other.unmount("v")
    answer = manager.cluster.drain(OTHER)
    assert answer == {"Node": OTHER, "Drained": True, "Attached": [], "Changed": True}
    assert manager.cluster.drain(OTHER)["Changed"] is False
    for test in (False, True):
        with pytest.raises(NodeClosed, match=r"node2 is drained since .* undrain it first"):
            other.mount("v", test=test)
    manager.mount("v")
    [row] = [row for row in manager.nodes() if row["Name"] == OTHER]
    assert row["Drained"]
    assert other.cluster.undrain(OTHER) == {"Node": OTHER, "Drained": False, "Changed": True}
    assert other.cluster.undrain(OTHER)["Changed"] is False
    other.mount("v")
    assert verbs(site, "drain", "undrain") == [("drain", OTHER, True), ("undrain", OTHER, True)]


def test_a_drain_waits_for_users_and_names_them(
    manager: VolumeManager, other: VolumeManager
) -> None:
    manager.create("v", Given(**DIRECTORY))
    other.mount("v", id="web")
    with pytest.raises(VolumeInUse, match=r"still: v by salt:web \(no agent there\); end that"):
        manager.cluster.drain(OTHER, timeout=0.3)
    # Closed all the same: who is there may go, nobody comes.
    other.mount("v", id="web")
    with pytest.raises(NodeClosed):
        other.mount("v", id="another")
    other.unmount("v", id="web")
    assert manager.cluster.drain(OTHER, timeout=0)["Changed"] is False


def test_a_drain_by_force_takes_volumes_from_their_users(
    site: Site, manager: VolumeManager, other: VolumeManager, agent: "subprocess.Popen[str]"
) -> None:
    other.create("v", Given(**EXT4))
    other.create("w", Given(**DIRECTORY))
    for name in "vw":
        other.mount(name, id="web")
    plan = manager.cluster.drain(OTHER, force=True, test=True)
    assert (plan["Changed"], plan["Attached"]) == (True, ["v", "w"])
    assert len(site.values("attachments/")) == 2
    manager.cluster.drain(OTHER, force=True)
    assert site.values("attachments/") == {} and site.mounted() == []
    assert sorted(verbs(site, "force_detach")) == [
        ("force_detach", "v", True),
        ("force_detach", "w", True),
    ]


def test_who_dies_while_draining_has_closed_the_node(
    site: Site, manager: VolumeManager, other: VolumeManager
) -> None:
    manager.create("v", Given(**DIRECTORY))
    other.mount("v")
    drainer = site.python("manager.cluster.drain(arguments[0])", OTHER)
    until(lambda: bool(site.values("drained/")))
    drainer.kill()
    other.unmount("v")
    with pytest.raises(NodeClosed):
        other.mount("v")


# -- by force


def test_a_volume_is_taken_from_its_users(
    site: Site, manager: VolumeManager, other: VolumeManager, agent: "subprocess.Popen[str]"
) -> None:
    other.create("v", Given(**EXT4))
    write_marker(other)
    other.mount("v", id="web")
    other.mount("v", id="job")
    answer = manager.cluster.force_detach("v", OTHER)
    assert (answer["Changed"], sorted(answer["Users"])) == (True, ["salt:job", "salt:web"])
    assert site.mounted() == [] and site.loops() == {}
    assert manager.cluster.force_detach("v", OTHER)["Changed"] is False
    [event] = [e for e in site.values("events/").values() if e["Verb"] == "force_detach"]
    assert event["Text"] == "Force detach[v] from node2 success" and event["By"]["from"] == NODE
    assert_intact(other)


def test_what_is_held_is_let_go_of_when_its_process_ends(
    site: Site, manager: VolumeManager, holder: Any
) -> None:
    manager.create("v", Given(**EXT4))
    write_marker(manager)
    process = holder(Path(manager.mount("v")["Mountpoint"]))
    with pytest.raises(MountBusy) as caught:
        manager.cluster.force_detach("v", NODE)
    said = " ".join([str(caught.value), *caught.value.__notes__])
    assert "still behind /dev/loop" in said and f"held by sleep ({process.pid})" in said
    assert site.mounted() == []
    # The device is in use: nobody mounts a second time what is being written to.
    with pytest.raises(MountBusy):
        manager.mount("v")
    process.kill()
    process.wait()
    manager.doctor(fix=True)
    assert_intact(manager)
    assert_clean(site)


def test_a_living_agent_is_needed_for_another_node(
    manager: VolumeManager, other: VolumeManager
) -> None:
    with pytest.raises(NoSuchVolume):
        manager.cluster.force_detach("v", OTHER)
    manager.create("v", Given(**DIRECTORY))
    assert manager.cluster.force_detach("v", OTHER)["Changed"] is False
    other.mount("v")
    plan = manager.cluster.force_detach("v", OTHER, test=True)
    assert (plan["Users"], plan["Changed"]) == (["salt:salt"], True)
    with pytest.raises(NotHere, match=r"No agent is running on node2; .* fence node2"):
        manager.cluster.force_detach("v", OTHER)


# -- fence


def test_a_dead_node_is_fenced_and_lets_go_when_it_is_back(
    site: Site, manager: VolumeManager, other: VolumeManager
) -> None:
    manager.create("v", Given(**DIRECTORY))
    other.mount("v")
    other.close()
    with pytest.raises(VolumeInUse, match="salt:salt@node2"):
        manager.rm("v")
    with pytest.raises(InvalidInput, match="switch it off, then say so with confirmed=True"):
        manager.cluster.fence(OTHER)
    assert manager.cluster.fence(OTHER, confirmed=True, test=True)["Released"] == ["v"]
    assert len(site.values("attachments/")) == 1
    answer = manager.cluster.fence(OTHER, confirmed=True)
    assert answer == {"Node": OTHER, "Fenced": True, "Released": ["v"], "Changed": True}
    assert manager.cluster.fence(OTHER)["Changed"] is False
    manager.rm("v")

    back = site.manager(OTHER)
    for verb in (lambda: back.create("w", Given(**EXT4)), lambda: back.mount("x")):
        manager.create("x", Given(**DIRECTORY))
        with pytest.raises(NodeClosed, match=r"node2 was fenced at .*doctor fix=True"):
            verb()
    assert [str(path) for path in site.mounted()] == [str(site.root / "mounts-node2/v")]
    [finding] = [f for f in back.doctor(fix=True) if f["Kind"] == "node"]
    assert finding["Fixed"] is True
    assert site.mounted() == [] and site.values("fenced/") == {}
    back.mount("x")
    back.unmount("x")
    assert verbs(site, "fence", "release", "back") == [
        ("fence", OTHER, True),
        ("release", "v", True),
        ("back", OTHER, True),
    ]
    assert_clean(site, NODE, OTHER)


def test_a_living_node_is_not_fenced(
    site: Site, manager: VolumeManager, agent: "subprocess.Popen[str]"
) -> None:
    with pytest.raises(NotHere, match="node2 lives: its lease is being renewed"):
        manager.cluster.fence(OTHER, confirmed=True, timeout=3 * LEASE)
    assert site.values("fenced/") == {}
    agent.kill()
    manager.cluster.fence(OTHER, confirmed=True)
    assert list(site.values("fenced/")) == ["fenced/node2"]
    with pytest.raises(InvalidInput, match="node1 is this node, and lives"):
        manager.cluster.fence(NODE, confirmed=True)


def test_an_agent_lets_go_by_itself_even_of_what_is_held(
    site: Site, manager: VolumeManager, other: VolumeManager, holder: Any
) -> None:
    manager.create("v", Given(**DIRECTORY))
    holder(Path(other.mount("v")["Mountpoint"]))
    other.close()
    manager.cluster.fence(OTHER, confirmed=True)
    site.python(AGENT, node=OTHER)
    until(lambda: site.values("fenced/") == {})
    assert site.mounted() == []


@pytest.mark.parametrize("wakes", [True, False], ids=["wakes", "is ended"])
def test_a_paused_mount_of_a_fenced_node_never_comes_back(
    site: Site, manager: VolumeManager, other: VolumeManager, wakes: bool
) -> None:
    """Stopped in the middle of a mount and fenced: its claim is gone, and so is its mount."""
    manager.create("v", Given(**DIRECTORY))
    paused = site.python(
        """
from libstorage.host import mounts
real = mounts.bind
def bind(*args):
    print("now", flush=True)
    os.kill(os.getpid(), 19)
    real(*args)
mounts.bind = bind
manager.mount("v")
""",
        node=OTHER,
    )
    assert paused.stdout and paused.stdout.readline() == "now\n"
    assert [a["Status"] for a in site.values("attachments/").values()] == ["attaching"]
    manager.cluster.fence(OTHER, confirmed=True)
    [fence] = site.values("fenced/").values()
    assert [claim["Volume"] for claim in fence["Claims"]] == ["v"]
    if wakes:
        os.kill(paused.pid, signal.SIGCONT)
        assert "Superseded" in paused.communicate(timeout=20)[1]
    other.doctor(fix=True)
    if not wakes:
        assert paused.wait(5) == -signal.SIGKILL
    assert site.mounted() == [] and site.values("fenced/") == {}
    other.mount("v")
    other.unmount("v")
    assert_clean(site, NODE, OTHER)


def test_the_doctor_goes_on_where_a_fence_was_killed(
    site: Site, manager: VolumeManager, other: VolumeManager
) -> None:
    for name in ("v", "w"):
        manager.create(name, Given(**DIRECTORY))
        other.mount(name)
    other.close()
    fencer = site.python(
        """
from libstorage.manager.fencing import Fencing
real = Fencing._release
def once(self, node, name, by):
    real(self, node, name, by)
    os._exit(9)
Fencing._release = once
manager.cluster.fence(arguments[0], confirmed=True)
""",
        OTHER,
    )
    assert fencer.wait(20) == 9 and len(site.values("attachments/")) == 1
    assert "node" in {finding["Kind"] for finding in manager.doctor(fix=True)}
    assert site.values("attachments/") == {}


# -- forget


def test_a_node_is_forgotten_with_all_that_only_it_had(
    site: Site, manager: VolumeManager, other: VolumeManager
) -> None:
    kept = site.manager(OTHER, trash=KEEPS_TRASH)
    other.create("shared", Given(**DIRECTORY))
    manager.create("here", Given(**EXT4))
    for name in ("lost", "removed"):
        kept.create(name, Given(**EXT4))
    kept.snapshot_create("lost@s")
    kept.snapshot_clone("lost@s", "clone")
    kept.rm("removed")
    other.mount("shared")
    kept.close()
    other.close()
    with pytest.raises(VolumeInUse, match="Attached on node2 is still: shared; fence node2 first"):
        manager.cluster.forget(OTHER)
    manager.cluster.fence(OTHER, confirmed=True)
    with pytest.raises(VolumeInUse, match="Only node2 has the data of clone, lost, removed; bring"):
        manager.cluster.forget(OTHER)
    plan = manager.cluster.forget(OTHER, force=True, test=True)
    assert plan == {
        "Node": OTHER,
        "Lost": ["clone", "lost", "removed"],
        "Changed": True,
    }
    assert [record["Name"] for record in manager.ls()] == ["clone", "here", "lost", "shared"]
    assert manager.cluster.forget(OTHER, force=True) == plan
    assert [record["Name"] for record in manager.ls()] == ["here", "shared"]
    assert [row["Name"] for row in manager.nodes()] == [NODE]
    left = {k: v for k, v in site.values().items() if not k.startswith("events/")}
    assert not [key for key, value in left.items() if OTHER in key or value.get("Node") == OTHER]
    assert sorted(verbs(site, "lost")) == [("lost", n, True) for n in ("clone", "lost", "removed")]
    with pytest.raises(NoSuchNode, match="No such node: node2; there are: node1"):
        manager.cluster.forget(OTHER)


def test_an_unfinished_operation_of_a_dead_node_is_forgotten_with_it(
    site: Site, manager: VolumeManager
) -> None:
    victim = site.python(
        """
from libstorage.controllers.images import Images
Images.create = lambda *_: os._exit(9)
manager.create("v", Given(policy="local", fstype="ext4", mb_size=8))
""",
        node=OTHER,
    )
    assert victim.wait(20) == 9 and len(site.values("operations/")) == 1
    manager.cluster.forget(OTHER)
    assert site.values("operations/") == {}
    manager.create("v", Given(**DIRECTORY))


def test_a_living_node_is_not_forgotten(
    manager: VolumeManager, agent: "subprocess.Popen[str]"
) -> None:
    with pytest.raises(NotHere, match="node2 lives"):
        manager.cluster.forget(OTHER, timeout=0.2)
    with pytest.raises(InvalidInput, match="is this node"):
        manager.cluster.forget(NODE)


# -- bad input


@pytest.mark.parametrize("verb", ["drain", "undrain", "fence", "forget"])
def test_unknown_nodes_and_bad_names_are_refused(
    site: Site, manager: VolumeManager, verb: str
) -> None:
    manager.create("v", Given(**DIRECTORY))
    call = getattr(manager.cluster, verb)
    confirmed = {"confirmed": True} if verb == "fence" else {}
    with site.nothing_changes():
        with pytest.raises(NoSuchNode, match="No such node: node9; there are: node1"):
            call("node9", **confirmed)
        with pytest.raises(InvalidInput):
            call("no/name", **confirmed)


def test_flags_are_true_or_false(site: Site, manager: VolumeManager) -> None:
    manager.create("v", Given(**DIRECTORY))
    with site.nothing_changes():
        for call in (
            lambda: manager.cluster.drain(NODE, force="yes"),  # type: ignore[arg-type]
            lambda: manager.cluster.fence(OTHER, confirmed="yes"),  # type: ignore[arg-type]
            lambda: manager.cluster.forget(OTHER, force=1),  # type: ignore[arg-type]
        ):
            with pytest.raises(InvalidInput, match="must be true or false"):
                call()
