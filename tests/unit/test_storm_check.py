"""The check of a storm sees what must not be, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.storm.calls import Call, check
from lab.storm.ledger import Ledger
from libstorage.store.contract import Change

JSON = dict[str, Any]
ID = "00000000-0000-0000-0000-000000000001"


def volume(revision: int, **labels: str) -> JSON:
    return {"Name": "v", "Id": ID, "Revision": revision, "Labels": labels, "Fstype": "ext4"} | {
        "Shared": True,
        "Node": "n1",
    }


def event(verb: str, call: str, volume: str = "v") -> JSON:
    return {"Verb": verb, "Volume": volume, "Success": True, "Subject": "volume", "Text": verb} | {
        "By": {"call": call}
    }


def operation(token: str, call: str, id: str = ID) -> JSON:
    return {"Verb": "create", "Token": token, "By": {"call": call}, "Arguments": {"Id": id}}


CREATED: list[dict[str, JSON | None]] = [
    {"operations/v": operation("t", "w.1.1")},
    {"operations/v": None, "volumes/v": volume(1), "events/1": event("create", "w.1.1")},
]
LABELLED: dict[str, JSON | None] = {
    "volumes/v": volume(2, w="1000002"),
    "events/2": event("label", "w.1.2"),
}

WRONG: dict[str, tuple[list[dict[str, JSON | None]], str]] = {
    "a lost update": (
        [LABELLED, {"volumes/v": volume(3, x="1"), "events/3": event("label", "x.1.1")}],
        "labels of v",
    ),
    "a Revision twice": (
        [LABELLED, {"volumes/v": volume(2, w="3"), "events/3": event("label", "w.1.3")}],
        "went from Revision 2 to 2",
    ),
    "a change without event": ([{"volumes/v": volume(2, w="1")}], "changed with 0 events"),
    "an event without change": ([{"events/2": event("label", "w.1.2")}], "without a change"),
    "a commit in another's operation": (
        [
            {"operations/v": operation("u", "w.1.3")},
            {"operations/v": None, "events/2": event("rollback", "x.1.1")},
        ],
        "was committed in the operation of w.1.3",
    ),
    "an owner that wakes": (
        [
            {"operations/v": operation("u", "w.1.3")},
            {"operations/v": operation("taken", "w.1.3")},
            {"operations/v": operation("u", "w.1.3")},
        ],
        "a superseded owner wrote",
    ),
    "two operations on an Id": (
        [{"operations/v": operation("u", "a")}, {"operations/w": operation("x", "b")}],
        "several operations on the Id",
    ),
    "two nodes": (
        [
            {"attachments/v/n1": {"Status": "attached"}},
            {"attachments/v/n2": {"Status": "attached"}},
        ],
        "attached on several nodes",
    ),
    "a removal of what is attached": (
        [
            {"attachments/v/n1": {"Status": "attached"}, "operations/v": operation("u", "w.1.3")},
            {"operations/v": None, "volumes/v": None, "events/2": event("rm", "w.1.3")},
        ],
        "went while it was attached",
    ),
}


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., Ledger]:
    """The ledger of some transactions, after the creation of a volume."""

    def tell(transactions: list[dict[str, JSON | None]]) -> Ledger:
        ledger = Ledger(tmp_path / "history")
        for revision, changes in enumerate([*CREATED, *transactions], 1):
            ledger.take([Change(key, value, revision) for key, value in changes.items()])
        return ledger

    return tell


def call(id: str, verb: str, answer: JSON | None = None, error: str = "") -> Call:
    pick = {"name": "v", "other": "w", "snapshot": "s", "slot": "w", "number": 1000002}
    return Call(id, verb, pick, 1.0, 2.0, answer, error)


def test_what_is_right_is_no_violation(told: Callable[..., Ledger]) -> None:
    ledger = told([LABELLED])
    assert ledger.violations == []
    labelled = {"Id": ID, "Revision": 2, "Labels": {"w": "1000002"}}
    made = [call("w.1.1", "create", {"Id": ID, "Created": True}), call("w.1.2", "label", labelled)]
    assert check(made, ledger, {ID}) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_must_not_be_is_seen(told: Callable[..., Ledger], name: str) -> None:
    transactions, words = WRONG[name]
    found = told(transactions).violations
    assert any(words in wrong for wrong in found), found


@pytest.mark.parametrize(
    ("made", "there", "words"),
    [
        (call("w.1.9", "create", {"Id": "x", "Created": True}), {ID}, "never seen in the store"),
        (call("w.1.1", "create", {"Id": ID, "Created": True}), set(), "and not there"),
        (call("w.1.1", "create", error="VolumeExists"), {ID}, "events of one call: 1, not 0 to 0"),
        (call("w.1.7", "rollback", {"Name": "s"}), {ID}, "events of one call: 0, not 1 to 1"),
        (call("w.1.7", "info", error="Damaged"), {ID}, "no fault excuses this answer"),
    ],
    ids=["lost", "gone", "refused, and done", "acknowledged, and not done", "damaged"],
)
def test_what_a_call_was_told_is_compared(
    told: Callable[..., Ledger], made: Call, there: set[str], words: str
) -> None:
    assert any(words in wrong for wrong in check([made], told([]), there))


def test_an_answer_older_than_one_before_it_is_seen(told: Callable[..., Ledger]) -> None:
    newer = call("w.1.2", "info", {"Id": ID, "Revision": 2})
    older = call("x.1.1", "info", {"Id": ID, "Revision": 1})
    older.began, older.ended = 3.0, 4.0
    assert any("older than one" in wrong for wrong in check([newer, older], told([]), {ID}))
