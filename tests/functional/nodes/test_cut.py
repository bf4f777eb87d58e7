"""A node's network is cut in the midst of verbs: they say so in time, and nothing is half done."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.etcd import Cluster
from lab.network import Network
from lab.scenarios import KINDS, assert_intact, write_marker
from lab.site import NODE, Site, assert_clean
from libstorage.errors import NotHere
from libstorage.manager import Given, VolumeManager

WITHIN = 10.0
"""Seconds in which a verb says that the store is away."""
OTHER = "node2"
EXT4 = KINDS["ext4"]

VICTIM = """
from libstorage.errors import LibstorageError
from libstorage.store.etcd import EtcdStore
name, verb, nth = arguments
real, count, began = EtcdStore.transact, 0, 0.0
def transact(store, compares, writes):
    global count, began
    count += 1
    if count == nth:
        print("at it", flush=True)
        sys.stdin.readline()
        began = time.monotonic()
    return real(store, compares, writes)
EtcdStore.transact = transact
try:
    eval(verb)
    said = ["", ""]
except LibstorageError as exc:
    said = [type(exc).__name__, str(exc)]
print(json.dumps([*said, time.monotonic() - began]), flush=True)
"""


@dataclass(frozen=True)
class Case:
    """
    A verb on a volume, cut off before one of its transactions.

    before
        Which transaction of the process.
    """

    verb: str
    before: int
    prepare: Callable[[VolumeManager, str], None]


def nothing(manager: VolumeManager, name: str) -> None:
    """No volume beforehand."""


def written(manager: VolumeManager, name: str) -> None:
    manager.create(name, Given(**EXT4))
    write_marker(manager, name=name)


def mounted(manager: VolumeManager, name: str) -> None:
    written(manager, name)
    manager.mount(name, id="a")


def kept(manager: VolumeManager, name: str) -> None:
    written(manager, name)
    manager.snapshot_create(f"{name}@s")


CREATE = 'manager.create(name, Given(policy="local", fstype="ext4", mb_size=8))'
CASES = {
    "create_begins": Case(CREATE, 1, nothing),
    "create_commits": Case(CREATE, 2, nothing),
    "rm_begins": Case("manager.rm(name)", 1, written),
    "rm_destroys": Case("manager.rm(name)", 2, written),
    "mount_claims": Case('manager.mount(name, id="a")', 1, written),
    "mount_is_done": Case('manager.mount(name, id="a")', 2, written),
    "unmount_begins": Case('manager.unmount(name, id="a")', 1, mounted),
    "unmount_is_done": Case('manager.unmount(name, id="a")', 2, mounted),
    "snapshot_commits": Case('manager.snapshot_create(f"{name}@s")', 2, written),
    "rollback_commits": Case('manager.rollback(f"{name}@s")', 2, kept),
    "clone_commits": Case('manager.snapshot_clone(f"{name}@s", f"{name}_clone")', 2, kept),
    "resize_commits": Case("manager.resize(name, 16)", 2, written),
    "label_is_written": Case('manager.label(name, {"a": "b"})', 1, written),
}


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(NODE) as made:
        yield made


@pytest.fixture
def cluster(tmp_path: Path, network: Network) -> Iterator[Cluster]:
    """In the network's own namespace, as the test is while it lasts."""
    with Cluster(tmp_path / "etcd", 3, listen="0.0.0.0") as made:
        yield made


def test_a_cut_in_the_midst_of_verbs_is_told_in_time_and_leaves_nothing_half_done(
    tmp_path: Path, network: Network, cluster: Cluster
) -> None:
    """All at once: each verb on a volume of its own, in a process of its own."""
    store = cluster.store("/a")
    far = [f"http://{network.server(NODE)}:{member.port}" for member in cluster.members]
    with (
        Site(tmp_path / "site", store=store) as site,
        Site(tmp_path / "other", store=store) as others,
    ):
        site.enter = network.enter(NODE)
        manager, other = site.manager(), others.manager(OTHER)
        for name, case in CASES.items():
            case.prepare(manager, name)
        victims = {
            name: site.python(
                VICTIM, name, case.verb, case.before, store=cluster.store("/a", endpoints=far)
            )
            for name, case in CASES.items()
        }
        for name, victim in victims.items():
            assert _line(victim) == "at it", name
        before = site.listing(), site.mounted()
        network.cut(NODE)
        for victim in victims.values():
            assert victim.stdin
            victim.stdin.write("\n")
            victim.stdin.flush()
        _others_go_on(other)
        for name, victim in victims.items():
            kind, text, seconds = json.loads(_line(victim))
            assert kind == "StoreUnavailable", (name, kind, text)
            assert "The store cannot be reached" in text and network.server(NODE) in text
            assert seconds < WITHIN, (name, seconds)
        # No further backend step, and none taken back that others may count on.
        assert (site.listing(), site.mounted()) == before
        network.mend(NODE)
        for victim in victims.values():
            victim.wait(20)
        _delivered(site)
        assert [f for f in manager.doctor(fix=True) if f["Fixed"] is False] == []
        _as_before_or_as_asked(manager)
        assert_clean(site)
        assert (other.doctor(), others.mounted(), others.loops()) == ([], [], {})


def _delivered(site: Site) -> None:
    """What the dead have sent is on its way still: the kernel tries again, ever more seldom."""
    states = ("established", "fin-wait-1", "close-wait", "last-ack", "closing")
    unsent = [*site.enter, "ss", "--no-header", "--tcp", "--numeric"]
    unsent += [word for state in states for word in ("state", state)]
    end = time.monotonic() + 60
    while subprocess.run(unsent, capture_output=True, text=True, check=True).stdout.strip():
        assert time.monotonic() < end, "connections of dead processes do not end"
        time.sleep(0.1)


def _line(victim: "subprocess.Popen[str]") -> str:
    assert victim.stdout and victim.stderr
    return victim.stdout.readline().strip() or victim.stderr.read()


def _others_go_on(other: VolumeManager) -> None:
    """Another node works meanwhile; of what is tied to the cut one it says where that is."""
    began = time.monotonic()
    other.create("theirs", Given(**EXT4))
    other.mount("theirs")
    other.unmount("theirs")
    other.rm("theirs")
    assert {record["Name"] for record in other.ls()} >= {"mount_claims", "label_is_written"}
    with pytest.raises(NotHere, match="on node1"):
        other.rm("snapshot_commits", timeout=8)
    assert time.monotonic() - began < WITHIN


def _as_before_or_as_asked(manager: VolumeManager) -> None:
    for record in manager.ls():
        name, users = record["Name"], record["Containers"] or ()
        for user in users:
            manager.unmount(name, id=user.split("@")[0].removeprefix("salt:"))
        assert record["Operation"] is None
        if name == "create_commits":
            write_marker(manager, name=name)
        assert_intact(manager, name)
    there = {record["Name"] for record in manager.ls()}
    # What was on its way when the link broke may have come when it was back.
    gone = {"create_begins", "create_commits", "rm_begins", "rm_destroys"}
    assert there >= CASES.keys() - gone and "rm_destroys" not in there
