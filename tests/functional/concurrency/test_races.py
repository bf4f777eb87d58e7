"""Many processes, one volume: one creates, counts are right, nothing is left."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.site import Site, assert_clean
from libstorage.controllers.local import Local
from libstorage.errors import NoSuchSnapshot, OperationInProgress
from libstorage.manager import Given, VolumeManager, keys, presence
from libstorage.manager.attachments import Attachments
from libstorage.manager.owners import Owners
from libstorage.records import User, Volume, now

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


@pytest.mark.parametrize(
    "verb",
    [
        lambda manager: manager.resize("db", 16, timeout=0.3),
        lambda manager: manager.snapshot_create("db@s", timeout=0.3),
    ],
    ids=["resize", "snapshot_create"],
)
def test_an_image_is_not_touched_while_another_is_mounting_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, verb: Callable[[VolumeManager], object]
) -> None:
    """The mount begins between this verb's look at the attachments and its own beginning."""
    manager, other = site.manager(), site.manager()
    manager.create("db", Given(policy="local", fstype="ext4", mb_size=8))
    settled = Attachments.settled

    def mounting(*args: Any, **kwargs: Any) -> Any:
        found = settled(*args, **kwargs)
        monkeypatch.undo()
        entry = site.store.get(keys.volume("db"))
        assert entry is not None
        user = User(engine="salt", id="x", at=now())
        other._mounts._attachments.claim(entry, Volume.from_json(entry.value), user)
        return found

    monkeypatch.setattr(Attachments, "settled", mounting)
    with pytest.raises(OperationInProgress, match="db is attaching by process"):
        verb(manager)
    Owners.working.clear()
    manager.doctor(fix=True)
    assert manager.info("db")[0]["MBSize"] == 8
    assert_clean(site)


def test_a_rollback_to_a_snapshot_that_has_just_gone_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes between this verb's look at it and its own beginning; else it could never end."""
    manager, other = site.manager(), site.manager()
    manager.create("db", Given(policy="local", fstype="ext4", mb_size=8))
    manager.snapshot_create("db@s")
    everywhere = Attachments.everywhere

    def removing(*args: Any) -> Any:
        monkeypatch.undo()
        other.snapshot_rm("db@s")
        return everywhere(*args)

    monkeypatch.setattr(Attachments, "everywhere", removing)
    with pytest.raises(NoSuchSnapshot):
        manager.rollback("db@s")
    assert site.values("operations/") == {}
    assert_clean(site)


def test_an_edit_that_meets_the_end_of_a_volume_leaves_no_copy(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is put when the removal has destroyed the image, and not yet the record."""
    manager, other = site.manager(), site.manager()
    manager.create("db", Given(policy="local", fstype="ext4", mb_size=8))
    put, destroy = Local.put_copy, Local.destroy
    destroyed, go_on = threading.Event(), threading.Event()
    removal = threading.Thread(target=other.rm, args=("db",))

    def half(*args: Any) -> None:
        destroy(*args)
        destroyed.set()
        go_on.wait(10)

    def late(*args: Any) -> None:
        monkeypatch.setattr(Local, "put_copy", put)
        removal.start()
        assert destroyed.wait(10)
        put(*args)

    monkeypatch.setattr(Local, "destroy", half)
    monkeypatch.setattr(Local, "put_copy", late)
    manager.label("db", {"a": "1"})
    go_on.set()
    removal.join()
    assert_clean(site)
