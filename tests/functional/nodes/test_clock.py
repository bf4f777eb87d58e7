"""A node whose clock is off by an hour takes part, and nobody comes to harm."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import libstorage
from lab.etcd import Cluster
from lab.scenarios import KINDS, assert_intact, write_marker
from lab.site import KEEPS_TRASH, LEASE, NODE, Site
from libstorage.errors import OperationInProgress
from libstorage.manager import Given, Request, VolumeManager

OFF = "node2"
EXT4 = KINDS["ext4"]
AGENT = "manager.agent().run()"
HANGS = """
from libstorage.controllers.local import Local
def hangs(*_): print("at it", flush=True); time.sleep(60)
Local.put_copy = hangs
manager.create(arguments[0], Given(policy="local"))
"""
ANSWERS = """
for line in sys.stdin:
    try:
        print(json.dumps(eval(line)), flush=True)
    except Exception as exc:
        print(json.dumps(f"{type(exc).__name__}: {exc}"), flush=True)
"""


# libfaketime and Python's own sleep, which waits until a moment, do not agree on how long.
SLEEP = """
import select, time
def sleep(seconds): select.select((), (), (), seconds)
time.sleep = sleep
"""


def off_by(offset: str, folder: Path) -> dict[str, str]:
    """An environment whose clock of the day differs; intervals are as long as ever."""
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SLEEP)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Its shared memory is not for processes that fork.
        "FAKETIME_DISABLE_SHM": "1",
        "PYTHONPATH": f"{Path(libstorage.__file__).parent.parent}:{folder}",
    }


class Nodes:
    """A node with the right time, and one whose clock is off, each with a root of its own."""

    def __init__(self, right: Site, off: Site, offset: float) -> None:
        self.right = right
        self.off = off
        self.offset = offset
        self.manager: VolumeManager = right.manager(NODE)
        self._process = off.python(ANSWERS, node=OFF)

    def on_the_other(self, expression: str) -> object:
        """What an expression on ``manager`` comes to on the node that is off."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@pytest.fixture(params=["+1h", "-1h"])
def nodes(tmp_path: Path, etcd: Cluster, request: pytest.FixtureRequest) -> Iterator[Nodes]:
    store = etcd.store(f"/clock/{tmp_path.name}")
    with (
        Site(tmp_path / "right", store=store, trash=KEEPS_TRASH) as right,
        Site(tmp_path / "off", store=store, trash=KEEPS_TRASH) as off,
    ):
        off.environment = off_by(request.param, tmp_path / "sleep")
        made = Nodes(right, off, 3600.0 if request.param == "+1h" else -3600.0)
        told = made.on_the_other("time.time()")
        assert isinstance(told, float) and abs(told - time.time() - made.offset) < 60
        yield made


def until(reached: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_nobody_who_lives_is_taken_over_and_who_dies_is(nodes: Nodes) -> None:
    theirs = nodes.off.python(HANGS, "a", node=OFF)
    ours = nodes.right.python(HANGS, "b")
    assert _line(theirs) == _line(ours) == "at it"
    tokens = {key: value["Token"] for key, value in nodes.right.values("operations/").items()}
    with pytest.raises(OperationInProgress, match="a is busy: create by process"):
        nodes.manager.create("a", Given(policy="local"), timeout=2 * LEASE)
    said = nodes.on_the_other(
        f'manager.create("b", Given(policy="local"), timeout={2 * LEASE})["Created"]'
    )
    assert "b is busy: create by process" in str(said)
    now = {key: value["Token"] for key, value in nodes.right.values("operations/").items()}
    assert now == tokens
    theirs.kill()
    ours.kill()
    assert nodes.manager.create("a", Given(policy="local"))["Created"]
    assert nodes.on_the_other('manager.create("b", Given(policy="local"))["Created"]') is True


def test_its_agent_does_the_housekeeping_and_forgets_nothing_too_soon(nodes: Nodes) -> None:
    nodes.off.python(AGENT, node=OFF)
    until(lambda: nodes.right.store.get("elected") is not None)
    job = Request("20260101120000000000")
    nodes.manager.create("v", Given(**EXT4))
    write_marker(nodes.manager)
    first = nodes.manager.create("job", Given(policy="local"), request=job)
    nodes.manager.rm("v")
    # What is asked of it, is done and not forgotten.
    nodes.on_the_other(
        'manager.create("w", Given(policy="local", fstype="ext4", mb_size=8))["Created"]'
    )
    assert nodes.manager.resize("w", 16)["Changed"]
    time.sleep(2 * LEASE)  # it has looked several times by then
    assert nodes.right.manager(NODE).create("job", Given(policy="local"), request=job) == first
    assert [row["Name"] for row in nodes.manager.trash_ls()] == ["v"]
    assert nodes.manager.undelete("v")["Name"] == "v"
    assert_intact(nodes.manager)


def test_events_of_both_are_there_by_the_clocks_of_those_who_wrote_them(nodes: Nodes) -> None:
    nodes.manager.create("v", Given(policy="local"))
    nodes.on_the_other('manager.label("v", {"a": "b"})["Revision"]')
    times = {event["Verb"]: event["Time"] for event in nodes.manager.events()}
    assert (times["label"] > times["create"]) == (nodes.offset > 0)
    assert [event["Time"] for event in nodes.manager.events()] == sorted(times.values())
    assert len(nodes.manager.events(since="2h")) == 2
    assert len(nodes.manager.events(since="10m")) == (2 if nodes.offset > 0 else 1)


def test_its_agent_sees_changes_and_recovers_its_dead(nodes: Nodes) -> None:
    nodes.off.python(AGENT, node=OFF)
    until(lambda: any(node["Alive"] for node in nodes.manager.nodes()))
    nodes.manager.create("v", Given(policy="local"))
    nodes.on_the_other('manager.mount("v")["Changed"]')
    nodes.on_the_other('manager.unmount("v")["Changed"]')
    nodes.manager.label("v", {"a": "b"})
    # Another node's edit comes to the copy beside the data here.
    until(lambda: nodes.on_the_other("manager.doctor()") == [])
    victim = nodes.off.python(HANGS, "w", node=OFF)
    assert _line(victim) == "at it"
    victim.kill()
    until(lambda: nodes.right.values("operations/") == {})
    assert [record["Name"] for record in nodes.manager.ls()] == ["v"]
