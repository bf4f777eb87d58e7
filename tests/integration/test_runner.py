"""The master's side: the runner reads the store, and asks the minions' doctors by one job."""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest
from checkout import HEADER, cells
from cluster import NODES, Salt

from lab.site import Site

FUNCTIONS = ["doctor", "events", "history", "ls", "nodes", "top"]


@pytest.fixture(scope="module", autouse=True)
def runner(salt: Salt) -> Salt:
    """The runner comes to the master by its own sync alone."""
    answer = salt.run("saltutil.sync_all")
    assert "runners.dsvolume" in answer["runners"] and "utils.libstorage" in str(answer["utils"])
    return salt


@pytest.fixture(scope="module")
def volumes(salt: Salt, cluster_site: Site) -> Iterator[None]:
    """Three volumes: one in use on two nodes by three users, one on one node, one not in use."""
    for name in ("much", "little", "unused"):
        salt("dsvolume.create", name, "policy=local", to="node1")
    for name, id, node in (
        ("much", "a", "node1"),
        ("much", "b", "node1"),
        ("much", "a", "node2"),
        ("little", "a", "node2"),
    ):
        salt("dsvolume.mount", name, f"id={id}", to=node)
    yield
    salt("dsvolume.unmount", "much", "id=a")
    salt("dsvolume.unmount", "much", "id=b")
    salt("dsvolume.unmount", "little", "id=a")
    for name in ("much", "little", "unused"):
        salt("dsvolume.rm", name, to="node1")


def test_every_function_is_described_with_an_example(salt: Salt) -> None:
    docs = salt.run("doc.runner")
    own = {name: doc for name, doc in docs.items() if name.startswith("dsvolume.")}
    assert sorted(own) == [f"dsvolume.{function}" for function in FUNCTIONS]
    assert all(f"salt-run {name}" in doc for name, doc in own.items())


def test_ls_and_nodes_are_those_of_the_minions(salt: Salt, volumes: None) -> None:
    [seen] = salt("dsvolume.ls", "filter=name=much", to="node3").values()
    listed = salt.run("dsvolume.ls", "filter=name=much,inuse=true")["Volumes"]
    assert listed == seen and sorted(listed[0]["Inuse"]) == ["node1", "node2"]
    [nodes] = salt("dsvolume.nodes", to="node1").values()
    assert salt.run("dsvolume.nodes")["Nodes"] == nodes
    assert {n["Name"]: n["Attached"] for n in nodes} == {"node1": 1, "node2": 2}


def test_top_begins_with_what_is_used_most(salt: Salt, volumes: None) -> None:
    answer = salt.run("dsvolume.top", "count=2")
    assert [(n["Name"], n["Users"], n["Attached"]) for n in answer["Nodes"]][:2] == [
        ("node2", 2, 2),
        ("node1", 2, 1),
    ]
    most, next_ = answer["Top"]
    assert (most["Name"], most["Users"], sorted(most["Nodes"])) == ("much", 3, ["node1", "node2"])
    assert (next_["Name"], next_["Users"], next_["Nodes"]) == ("little", 1, ["node2"])
    here = salt.run("dsvolume.top", "node=node1")
    assert [(row["Name"], row["Users"], row["Nodes"]) for row in here["Top"]] == [
        ("much", 2, ["node1"])
    ]
    assert [row["Name"] for row in here["Nodes"]] == ["node1"]


def test_history_is_all_that_is_known_of_a_name(salt: Salt, volumes: None) -> None:
    found = salt.run("dsvolume.history", "little")
    assert found["Volume"]["Name"] == "little" and found["Operation"] is None
    assert [event["Verb"] for event in found["Events"]] == ["create", "mount"]
    assert found["Trash"] == []
    events = salt.run("dsvolume.events", "since=1h", "filter=volume=little,node=node2")["Events"]
    assert events == found["Events"][1:]


def test_people_read_tables_and_lines(salt: Salt, volumes: None) -> None:
    status, text = salt.shown("dsvolume.ls", "filter=name=unused")
    table = [cells(line) for line in text.splitlines()]
    assert status == 0 and table[0] == HEADER and [row[0] for row in table[1:]] == ["unused"]
    _, text = salt.shown("dsvolume.top", "count=1")
    nodes, volumes_ = text.split("\n\n")
    assert cells(nodes.splitlines()[1])[:5] == ["node2", "-", "2", "2", "2"]
    assert cells(volumes_.splitlines()[1])[:4] == ["much", "local", "0", "3"]
    _, text = salt.shown("dsvolume.events", "since=1h", "filter=volume=unused")
    assert re.fullmatch(r"\S+Z unused: \(from libstorage\) Volume create success\n", text)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("ls", "filter=colour=red"), "Not a filter: 'colour=red'; write KEY=PATTERN with one of"),
        (("top", "count=0"), "count must be a whole number from 1, not '0'"),
        (("history", "nobody"), "No such volume: nobody"),
        (("history", "no@body"), "Not a volume name: 'no@body'"),
        (("events", "since=yesterday"), "since must be a time such as"),
        (("doctor", "nobody*"), "No minion"),
    ],
)
def test_what_cannot_be_answered_is_told(salt: Salt, call: tuple[str, ...], words: str) -> None:
    status, text = salt.shown(f"dsvolume.{call[0]}", *call[1:])
    assert status != 0
    assert f"CommandExecutionError: {words}" in text.splitlines()[-1]


# -- the doctor ------------------------------------------------------------------------------------


def doctors(salt: Salt, *arguments: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The findings and who was asked; what ended jobs are registered as lapses by itself."""
    answer = salt.run("dsvolume.doctor", *arguments)
    return [row for row in answer["Findings"] if row["Kind"] != "owners"], answer["Asked"]


def test_the_doctors_of_all_nodes_are_asked(salt: Salt, volumes: None, cluster_site: Site) -> None:
    assert doctors(salt) == ([], list(NODES))
    left_over = cluster_site.configured("node2").mount_root / "nothing"
    left_over.mkdir()
    [found], _ = doctors(salt)
    assert (found["Nodes"], found["Kind"], found["Fixed"]) == (["node2"], "mount", None)
    _, text = salt.shown("dsvolume.doctor", "node2")
    line = f"node2: mount nothing: The mount point {left_over} is left over although nothing is"
    assert line in text and text.endswith("\nasked: node2\n")
    [found], asked = doctors(salt, "node2,node3", "tgt_type=list", "fix=True")
    assert asked == ["node2", "node3"] and found["Fixed"] is True
    assert not left_over.exists()


def test_what_all_doctors_see_is_said_once(salt: Salt, cluster_site: Site) -> None:
    agent = cluster_site.python("manager.agent().run()", node="node4", timeout=3)
    until_there(cluster_site, "nodes/node4")
    rows, _ = doctors(salt)
    agent.terminate()
    agent.wait(20)
    [found] = rows
    assert (found["Nodes"], found["Kind"], found["Name"]) == (list(NODES), "node", "node4")
    assert "other settings (timeout)" in found["Says"]


def test_a_node_that_does_not_answer_is_named(salt: Salt, cluster_site: Site) -> None:
    minion = psutil.Process(salt.minions["node3"].pid)
    stopped = [minion, *minion.children(recursive=True)]
    signal_all(stopped, signal.SIGSTOP)
    try:
        found, asked = doctors(salt, "timeout=2")
    finally:
        signal_all(stopped, signal.SIGCONT)
    says = {row["Says"].partition(":")[0] for row in found if row["Nodes"] == ["node3"]}
    assert says == {"This node did not answer"} and asked == list(NODES)
    assert sorted(salt("test.ping")) == list(NODES)


def until_there(site: Site, key: str) -> None:
    end = time.monotonic() + 20
    while key not in site.values(key):
        assert time.monotonic() < end, f"{key} did not come"
        time.sleep(0.02)


def signal_all(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # a job's, which has just ended
            process.send_signal(number)
