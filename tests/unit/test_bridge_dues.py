"""How many mounts an engine's users should have, as its containers are."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dsvolume_bridge.begun import Begun
from dsvolume_bridge.dues import Moment, User, asked_about, due, kept
from dsvolume_bridge.engine import Container

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MOMENT = Moment(NOW, NOW - timedelta(days=60))
RESTARTED = Moment(NOW, NOW - timedelta(seconds=1))
KILLED = replace(MOMENT, killed=NOW - timedelta(seconds=1))


def user(id: str, container: str = "", *, age: float = 10, count: int = 1) -> User:
    return User("v", id, count, container, NOW - timedelta(seconds=age))


def made(state: str = "running", *ids: str, times: int = 1) -> dict[str, Container]:
    return {id: Container(id, state, Counter({"v": times})) for id in ids or ("c",)}


def owed(
    one: User,
    containers: dict[str, Container],
    moment: Moment = MOMENT,
    *,
    busy: tuple[str, ...] = (),
) -> int:
    """What the only user of a volume should have; something is being done to ``busy``."""
    held = kept([one], containers, moment)
    asked = asked_about(one, containers, moment, held)
    return due(
        one,
        containers.get(one.container),
        moment,
        held=one.id in held,
        left_alone=not asked & set(busy),
    )


def test_a_running_containers_mounts_are_kept_whatever_its_age() -> None:
    assert owed(user("1", "c", age=10**6), made()) == 1
    copied = user("1", "c", age=10**6, count=2)
    assert owed(copied, made(), busy=("c",)) == 2
    assert owed(copied, made("paused"), busy=("c",)) == 2
    # The copy is over, and its unmount got lost.
    assert owed(copied, made()) == 1
    # The engine was restarted, and a copy with it.
    assert owed(copied, made(), RESTARTED, busy=("c",)) == 1


@pytest.mark.parametrize(
    ("tied", "state", "moment", "busy", "mounts"),
    [
        ("c", "exited", MOMENT, ("c",), 1),
        ("c", "exited", MOMENT, (), 0),
        ("c", "created", MOMENT, ("c",), 1),
        ("c", "created", MOMENT, (), 0),
        ("c", "created", RESTARTED, ("c",), 0),
        ("gone", "running", MOMENT, (), 0),
        ("", "exited", MOMENT, (), 1),
        ("", "exited", RESTARTED, (), 0),
        ("", "exited", KILLED, ("c",), 1),
        ("", "exited", KILLED, (), 0),
    ],
)
def test_an_id_without_a_running_container(
    tied: str, state: str, moment: Moment, busy: tuple[str, ...], mounts: int
) -> None:
    others = {"c": replace(made(state)["c"], volumes=Counter() if tied == "gone" else {"v": 1})}
    assert owed(user("1", tied), others, moment, busy=busy) == mounts
    if not tied:
        assert owed(user("1", age=200), others, moment) == 0


def test_a_long_copy_from_a_stopped_container_is_a_mount() -> None:
    assert owed(user("1", "c", age=10**4), made("exited"), busy=("c",)) == 1


def test_nobody_asks_about_containers_that_do_not_matter() -> None:
    others = made("exited", "c", "d")
    assert asked_about(user("1", "c", age=1), others, MOMENT, {}) == set()
    assert asked_about(user("1", "c"), others, MOMENT, {}) == {"c"}
    assert asked_about(user("1", "c"), others, MOMENT, {"1": "c"}) == set()
    assert asked_about(user("1"), others, MOMENT, {}) == set()
    assert asked_about(user("1"), others, KILLED, {}) == {"c", "d"}
    assert asked_about(user("1", age=1), others, KILLED, {}) == set()


def test_what_counts_comes_before_who_is_who() -> None:
    """Two started at once, and neither ID could be tied: both are kept, and tied."""
    both = [user("1", age=300), user("2", age=300)]
    held = kept(both, made("running", "a", "b"), MOMENT)
    assert sorted(held) == ["1", "2"] and sorted(held.values()) == ["a", "b"]
    # One of them ends, and the engine has named the ID that was tied to the other.
    left = user(next(id for id in held if held[id] == "a"), "a", age=300)
    containers = made("exited", "a") | made("running", "b")
    assert kept([left], containers, MOMENT) == {left.id: "b"}


def test_an_old_start_does_not_count_beside_a_new_one() -> None:
    ids = [user("old", "c", age=60), user("new", "c", age=30)]
    assert kept(ids, made(), MOMENT) == {"new": "c"}
    twice = kept(ids, made(times=2), MOMENT)
    assert twice == {"new": "c", "old": "c"}
    assert due(ids[0], made()["c"], RESTARTED, held=False, left_alone=False) == 0


def test_a_young_mount_is_nobodys_yet() -> None:
    young = user("1", "gone", age=1)
    assert kept([young], made("running", "a"), MOMENT) == {}
    assert owed(young, made("running", "a")) == 1
    starts = user("1", "b", age=60)
    assert kept([starts], made("running", "a") | made("created", "b"), MOMENT) == {}


def test_a_call_that_was_never_answered_is_no_mount(tmp_path: Path) -> None:
    first = Begun(tmp_path / "begun")
    with first.call("answered"):
        pass
    killed = first.call("1")
    killed.__enter__()
    begun = Begun(tmp_path / "begun")
    assert "1" in begun and "answered" not in begun
    moment = replace(MOMENT, unanswered=begun)
    assert owed(user("1", "c"), made("created"), moment, busy=("c",)) == 0
    assert owed(user("1", "c", count=2), made(), moment, busy=("c",)) == 1
    with begun.call("1"):
        assert "1" not in begun
    begun.close()
    assert list((tmp_path / "begun").iterdir()) == []


def test_a_bridge_that_was_killed_is_known_to_the_next(tmp_path: Path) -> None:
    began = datetime.now(UTC)
    first = Begun(tmp_path)
    assert first.killed < began
    assert Begun(tmp_path).killed >= began
    first.close()
    assert Begun(tmp_path).killed < began


def test_notes_of_ids_that_use_nothing_are_dropped(tmp_path: Path) -> None:
    first = Begun(tmp_path)
    calls = [first.call(id) for id in ("1", "2")]
    for call in calls:
        call.__enter__()
    begun = Begun(tmp_path)
    begun.forget({"2"})
    assert "1" not in begun and "2" in begun
    assert "1" not in Begun(tmp_path) and "2" in Begun(tmp_path)
