"""Many processes, one volume: one creates, counts are right, nothing is left."""

import json
import time
from pathlib import Path

import pytest

from lab.site import Site, assert_clean
from libstorage.manager import Given, presence

PROCESSES = 8
GATHERING = 2.5
"""Seconds until all processes have started and begin together."""
ROUNDS = 50

CREATE = """
from libstorage.errors import LibstorageError
mb_size, at = arguments
time.sleep(max(0, at - time.time()))
try:
    answer = manager.create("v", Given(policy="local", fstype="ext4", mb_size=mb_size))
    print(json.dumps(["record", answer["Volume"]]))
except LibstorageError as exc:
    print(json.dumps([type(exc).__name__, str(exc)]))
"""

MOUNT_AND_UNMOUNT = """
id, rounds, at = arguments
time.sleep(max(0, at - time.time()))
for _ in range(rounds):
    manager.mount("v", id=id)
    manager.unmount("v", id=id)
print(json.dumps("done"))
"""


def _together(site, code, arguments):
    """Run processes at one moment; their answers."""
    at = time.time() + GATHERING
    processes = [site.python(code, *some, at) for some in arguments]
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        answers.append(json.loads(out))
    return answers


def test_eight_processes_create_one_name_and_one_creates(site):
    answers = _together(site, CREATE, [[16]] * PROCESSES)
    assert [kind for kind, _ in answers] == ["record"] * PROCESSES
    assert all(record == answers[0][1] for _, record in answers)
    events = site.manager().events(filters=["verb=create"])
    assert [event["Success"] for event in events] == [True]
    site.manager().doctor(fix=True)
    assert_clean(site)


def test_eight_sizes_of_one_name_leave_one_and_seven_named_differences(site):
    sizes = [16 + n for n in range(PROCESSES)]
    answers = _together(site, CREATE, [[size] for size in sizes])
    [record] = [answer for kind, answer in answers if kind == "record"]
    errors = [answer for kind, answer in answers if kind == "VolumeExists"]
    made = record["MBSize"]
    assert sorted(errors) == sorted(
        f"Volume exists with other options: size {made}, asked {size}"
        for size in sizes
        if size != made
    )
    site.manager().doctor(fix=True)
    assert_clean(site)


def _mounted_by_eight(site, ids):
    manager = site.manager()
    manager.create("v", Given(policy="local", fstype="ext4", mb_size=16))
    answers = _together(site, MOUNT_AND_UNMOUNT, [[id, ROUNDS] for id in ids])
    assert answers == ["done"] * PROCESSES
    [record] = manager.info("v")
    assert record["Containers"] is None and record["Inuse"] is None
    events = manager.events()
    for verb in ("mount", "unmount"):
        told = [event for event in events if event["Verb"] == verb]
        assert all(event["Success"] for event in told)
    manager.doctor(fix=True)
    assert_clean(site)
    return events


def test_eight_users_come_and_go_fifty_times_and_all_are_counted(site):
    events = _mounted_by_eight(site, [f"u{n}" for n in range(PROCESSES)])
    for verb in ("mount", "unmount"):
        assert len([e for e in events if e["Verb"] == verb]) == PROCESSES * ROUNDS


def test_one_user_shared_by_eight_processes_ends_at_none(site):
    events = _mounted_by_eight(site, ["shared"] * PROCESSES)
    mounts = [e for e in events if e["Verb"] == "mount"]
    unmounts = [e for e in events if e["Verb"] == "unmount"]
    # A set member comes and goes once, however many say so at the same moment.
    assert len(mounts) == len(unmounts) > 0


def test_a_mount_that_another_was_faster_with_joins_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, other = site.manager(), site.manager()
    manager.create("db", Given(policy="local", fstype="ext4", mb_size=8))
    need_free = presence.need_free

    def faster(point: Path) -> None:
        monkeypatch.undo()
        other.mount("db", id="two")
        need_free(point)

    monkeypatch.setattr(presence, "need_free", faster)
    manager.mount("db", id="one")
    assert len(manager.info("db")[0]["Containers"]) == 2
    for id in ("one", "two"):
        manager.unmount("db", id=id)
    assert_clean(site)
