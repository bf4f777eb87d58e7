"""One Salt job is one request: many nodes ask, one does, all answer the same."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lab.site import Site, assert_clean
from libstorage.controllers.local import Local
from libstorage.errors import (
    BackendError,
    LibstorageError,
    NoSpace,
    NotHere,
    OperationInProgress,
    ToolMissing,
    VolumeExists,
)
from libstorage.host.commands import Work
from libstorage.manager import Given, Request, VolumeManager
from libstorage.manager.context import CLOCKS_DIFFER
from libstorage.manager.requests import KEPT
from libstorage.records import Volume
from libstorage.store.contract import Put

JOB = Request("20260101120000000000")
NODES = ("node1", "node2", "node3", "node4")
Answer = dict[str, Any] | LibstorageError


def together(calls: Sequence[Callable[[], Any]]) -> list[Answer]:
    """Make calls at the same moment, each in a thread; their answers or errors, in order."""
    gate = threading.Barrier(len(calls))
    answers: list[Any] = [None] * len(calls)

    def call(number: int) -> None:
        gate.wait()
        try:
            answers[number] = calls[number]()
        except LibstorageError as exc:
            answers[number] = exc

    threads = [threading.Thread(target=call, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return answers


def creating(
    managers: Sequence[VolumeManager], given: Given, request: Request = JOB
) -> list[Answer]:
    return together([lambda m=m: m.create("v", given, request=request) for m in managers])


@pytest.fixture
def managers(site: Site) -> list[VolumeManager]:
    """A manager of each node, all on one store."""
    return [site.manager(node) for node in NODES]


def verbs(manager: VolumeManager) -> list[str]:
    return [f"{e['Verb']} {'ok' if e['Success'] else 'failed'}" for e in manager.events()]


GIVENS = {
    "directory": Given(policy="local"),
    "ext4": Given(policy="local", fstype="ext4", mb_size=8),
    "ram": Given(policy="ram", mb_size=1),
}


@pytest.mark.parametrize("kind", GIVENS)
def test_nodes_of_one_job_create_once_and_answer_the_same(
    site: Site, managers: list[VolumeManager], kind: str
) -> None:
    first, *others = answers = creating(managers, GIVENS[kind])
    assert isinstance(first, dict)
    assert all(answer == first for answer in others), answers
    assert first["Created"] is True
    assert verbs(managers[0]) == ["create ok"]
    assert_clean(site, *NODES)


def test_a_late_node_of_the_job_gets_the_same_answer(
    managers: list[VolumeManager],
) -> None:
    first = managers[0].create("v", GIVENS["ext4"], request=JOB)
    assert managers[1].create("v", GIVENS["ext4"], request=JOB) == first
    assert managers[1].create("v", GIVENS["ext4"])["Created"] is False


def test_processes_of_one_job_remove_once(site: Site, managers: list[VolumeManager]) -> None:
    managers[0].create("v", GIVENS["ext4"])
    code = """
input()
print(json.dumps(manager.rm("v", request=Request(arguments[0]))))
"""
    processes = [site.python(code, JOB.job) for _ in range(3)]
    answers = [process.communicate("\n", timeout=30) for process in processes]
    assert {err for _, err in answers} == {""}
    assert len({out for out, _ in answers}) == 1
    assert json.loads(answers[0][0])["Name"] == "v"
    assert verbs(managers[0]) == ["create ok", "rm ok"]
    managers[0].doctor(fix=True)
    assert_clean(site)


def test_the_same_call_later_in_the_job_is_another(managers: list[VolumeManager]) -> None:
    """create, rm, create in one job: the second create is no echo of the first."""
    given = GIVENS["directory"]
    first = managers[0].create("v", given, request=JOB)
    managers[0].rm("v", request=JOB)
    again = Request(JOB.job, nth=1)
    second = managers[0].create("v", given, request=again)
    assert second["Volume"]["Id"] != first["Volume"]["Id"]
    assert managers[1].create("v", given, request=JOB) == first
    assert managers[1].create("v", given, request=again) == second


def test_another_job_is_another_request(managers: list[VolumeManager]) -> None:
    managers[0].create("v", GIVENS["directory"], request=JOB)
    assert managers[1].create("v", GIVENS["directory"], request=Request("2"))["Created"] is False


def test_nodes_that_ask_for_different_sizes_are_told_the_difference(
    managers: list[VolumeManager],
) -> None:
    sizes = [10, 20, 30, 40]
    calls = [
        lambda m=m, s=s: m.create("v", Given(policy="local", fstype="ext4", mb_size=s), request=JOB)
        for m, s in zip(managers, sizes, strict=True)
    ]
    answers = together(calls)
    made = [answer["Volume"]["MBSize"] for answer in answers if isinstance(answer, dict)]
    assert len(made) == 1
    refused = {str(answer) for answer in answers if isinstance(answer, VolumeExists)}
    assert refused == {
        f"Volume exists with other options: size {made[0]}, asked {size}"
        for size in sizes
        if size != made[0]
    }


def test_a_refusal_is_given_by_all_and_told_once(managers: list[VolumeManager]) -> None:
    managers[0].create("v", Given(policy="ram", mb_size=1))
    answers = creating(managers, GIVENS["ext4"])
    assert {(type(a), str(a)) for a in answers} == {
        (VolumeExists, "Volume exists with other options: policy ram, asked local")
    }
    assert verbs(managers[0]) == ["create ok", "create failed"]


@pytest.mark.parametrize(
    "reason", [ToolMissing("mkfs.ext4 is not on this host"), NoSpace("no room here")]
)
def test_a_failure_of_the_doer_s_own_node_is_tried_once_by_another(
    site: Site,
    managers: list[VolumeManager],
    monkeypatch: pytest.MonkeyPatch,
    reason: BackendError,
) -> None:
    tried = failing_on(monkeypatch, reason, times=1)
    answers = creating(managers, GIVENS["ext4"])
    made = [answer for answer in answers if isinstance(answer, dict)]
    failed = [answer for answer in answers if isinstance(answer, LibstorageError)]
    assert len(failed) == 1, "only the first doer reports its own node's failure"
    assert str(failed[0]) == str(reason)
    assert len(made) == 3
    assert all(answer == made[0] for answer in made)
    assert len(tried) == 2
    assert verbs(managers[0]) == ["create failed", "create ok"]
    assert_clean(site, *NODES)


def test_where_the_second_fails_too_all_fail_alike(
    site: Site, managers: list[VolumeManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = NoSpace("no room here")
    tried = failing_on(monkeypatch, reason, times=99)
    answers = creating(managers, GIVENS["ext4"])
    assert {(type(a), str(a)) for a in answers} == {(NoSpace, "no room here")}
    assert len(tried) == 2
    assert managers[0].ls() == []
    assert_clean(site, *NODES)


def failing_on(monkeypatch: pytest.MonkeyPatch, reason: BackendError, times: int) -> list[Volume]:
    """The backend refuses the first ``times`` volumes; returns all that were asked of it."""
    tried: list[Volume] = []
    create = Local.create

    def fails(self: Local, work: Work, volume: Volume) -> None:
        tried.append(volume)
        # the others are to arrive while the first one works
        time.sleep(0.2)
        if len(tried) <= times:
            raise type(reason)(str(reason))
        create(self, work, volume)

    monkeypatch.setattr(Local, "create", fails)
    return tried


HANGING_COMMIT = """
from libstorage.manager.journal import Held
def hangs(*_): print("at it", flush=True); time.sleep(60)
Held.commit = hangs
manager.create("v", Given(**arguments[1]), request=Request(arguments[0]))
"""


def killed_before_its_commit(
    site: Site, managers: list[VolumeManager], kind: str, node: str
) -> list[Answer]:
    """A node of the job dies at work while the others wait; the answers of these."""
    given = GIVENS[kind]
    arguments = {name: getattr(given, name) for name in given.named()}
    doer = site.python(HANGING_COMMIT, JOB.job, arguments, node=node)
    assert doer.stdout
    assert doer.stdout.readline() == "at it\n"
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.extend(creating(managers, given)))
    thread.start()
    time.sleep(0.3)
    assert answers == []
    os.killpg(doer.pid, signal.SIGKILL)
    thread.join(timeout=20)
    for manager in managers:
        manager.doctor(fix=True)
    assert_clean(site, *NODES)
    return answers


@pytest.mark.parametrize("kind", ["directory", "ram"])
def test_when_the_doer_is_killed_another_does_it(
    site: Site, managers: list[VolumeManager], kind: str
) -> None:
    first, *others = answers = killed_before_its_commit(site, managers, kind, "node2")
    assert isinstance(first, dict)
    assert all(answer == first for answer in others), answers
    assert verbs(managers[0]) == ["create failed", "create ok"]


def test_the_image_of_a_killed_doer_is_made_by_its_own_node(
    site: Site, managers: list[VolumeManager]
) -> None:
    """What it has begun lies there; the others answer alike, or that they cannot clear it."""
    first, *others = answers = killed_before_its_commit(site, managers, "ext4", "node1")
    assert isinstance(first, dict)
    assert all(a == first or isinstance(a, NotHere) for a in others), answers
    assert [verb for verb in verbs(managers[0]) if verb == "create ok"] == ["create ok"]


def test_an_image_is_removed_by_its_own_node_whoever_asks_first(
    site: Site, managers: list[VolumeManager]
) -> None:
    record = managers[1].create("v", GIVENS["ext4"])["Volume"]
    with pytest.raises(
        NotHere, match=r"^v has its data on node2, where no agent is running; remove it there"
    ):
        managers[0].rm("v", request=JOB)
    assert managers[1].rm("v", request=JOB) == record
    assert managers[2].rm("v", request=JOB) == record
    assert managers[0].rm("v", request=JOB) == record
    assert_clean(site, *NODES)


def test_what_a_killed_doer_left_on_its_own_node_is_finished_there(
    site: Site, managers: list[VolumeManager]
) -> None:
    """An image lives on the node that makes it: another one names the node and touches nothing."""
    arguments = {"policy": "local", "fstype": "ext4", "mb_size": 8}
    doer = site.python(HANGING_COMMIT, JOB.job, arguments, node="node2")
    assert doer.stdout
    assert doer.stdout.readline() == "at it\n"
    os.killpg(doer.pid, signal.SIGKILL)
    doer.wait(timeout=5)
    with pytest.raises(NotHere, match="unfinished create whose data are on node2; run doctor"):
        managers[0].create("v", GIVENS["ext4"], request=JOB)
    assert all(finding["Fixed"] for finding in managers[1].doctor(fix=True))
    assert managers[0].create("v", GIVENS["ext4"])["Created"] is True
    managers[0].rm("v")
    assert_clean(site, *NODES)


def test_who_waits_too_long_says_for_whom(site: Site, managers: list[VolumeManager]) -> None:
    code = """
from libstorage.controllers.local import Local
def hangs(*_): print("at it", flush=True); time.sleep(60)
Local.create = hangs
manager.create("v", Given(policy="local", fstype="ext4", mb_size=8), request=Request(arguments[0]))
"""
    doer = site.python(code, JOB.job, node="node2")
    assert doer.stdout
    assert doer.stdout.readline() == "at it\n"
    with pytest.raises(OperationInProgress, match="create v of this job is done by node2, which"):
        managers[0].create("v", GIVENS["ext4"], request=JOB, timeout=0.4)


def test_invalid_input_is_told_by_each_node_and_leaves_no_request_behind_for_long(
    site: Site, managers: list[VolumeManager]
) -> None:
    answers = creating(managers, Given(policy="local", fstype="zfs"))
    assert len({str(answer) for answer in answers}) == 1
    assert "Unknown fstype 'zfs'" in str(answers[0])
    assert verbs(managers[0]) == []
    for key, value in site.values("requests/").items():
        # As old as another node's clock may make it seem.
        at = time.time() - KEPT - CLOCKS_DIFFER - 1
        site.store.transact([], [Put(key, {**value, "at": at})])
    managers[0].doctor(fix=True)
    assert site.values("requests/") == {}


def test_under_test_no_request_is_claimed(site: Site, managers: list[VolumeManager]) -> None:
    managers[0].create("there", GIVENS["directory"])
    before = site.values()
    managers[0].create("v", GIVENS["ext4"], request=JOB, test=True)
    managers[0].rm("there", request=JOB, test=True)
    assert site.values() == before
