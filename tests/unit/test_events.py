"""Events: points in time, and the words that operators know."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstorage.config import load
from libstorage.errors import InvalidInput
from libstorage.manager.context import Context
from libstorage.manager.events import Events, instant
from libstorage.records import JSON
from libstorage.store import open_store


def seconds_ago(text: str | None) -> float:
    assert text is not None
    return (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()


@pytest.mark.parametrize(
    ("age", "seconds"), [("0s", 0), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("7d", 604800)]
)
def test_an_age_is_meant_from_now(age: str, seconds: float) -> None:
    assert seconds_ago(instant(age, "since")) == pytest.approx(seconds, abs=2)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31T12:00:00.5+02:00", "2026-01-31T10:00:00.500000Z"),
        ("2015-10-08T05:47:16.675882847-04:00", "2015-10-08T09:47:16.675882Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        ("1767225600", "2026-01-01T00:00:00.000000Z"),
        (1767225600.25, "2026-01-01T00:00:00.250000Z"),
    ],
)
def test_a_time_is_brought_to_utc(value: object, moment: str) -> None:
    assert instant(value, "since") == moment


@pytest.mark.parametrize("value", [None, ""])
def test_no_time_is_no_bound(value: object) -> None:
    assert instant(value, "since") is None


@pytest.mark.parametrize(
    "value",
    [
        "rubbish",
        "10y",
        "-5m",
        "2026-13-01",
        "9" * 400,
        "9" * 30 + "d",
        "now; rm",
        "0001-01-01T00:00:00+09:00",
    ],
)
def test_rubbish_is_refused_in_one_sentence_that_names_the_argument(value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        instant(value, "until")
    text = str(caught.value)
    assert text.startswith("until must be a time such as ")
    assert "\n" not in text
    assert len(text) < 200


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.integers(-14, 14))
def test_any_zone_means_the_same_moment(moment: datetime, zone: int) -> None:
    sign = "-" if zone < 0 else "+"
    there = (moment + timedelta(hours=zone)).isoformat(timespec="microseconds")
    here = moment.isoformat(timespec="microseconds")
    assert instant(f"{there}{sign}{abs(zone):02d}:00", "since") == f"{here}Z"


@pytest.fixture
def events(tmp_path: Path) -> Events:
    config = load("node1", {"root": str(tmp_path)})
    return Events(Context(config, open_store(config, dict)))


@pytest.mark.parametrize(
    ("verb", "data", "text"),
    [
        ("create", {}, "Volume create success"),
        ("rm", {}, "Volume destroy success"),
        ("undelete", {"was": "db"}, "Volume undelete success"),
        ("purge", {}, "Volume purge success"),
        ("mount", {}, "Mount success"),
        ("unmount", {"container": "2b1e11bc"}, "Unmount[db] container 2b1e11bc success"),
    ],
)
def test_a_success_reads_as_operators_know_it(
    events: Events, verb: str, data: JSON, text: str
) -> None:
    event = events.success("db", verb, {"door": "cli"}, **data).value
    assert event["Text"] == text
    assert event["Success"] is True
    assert (event["Node"], event["Volume"], event["Verb"]) == ("node1", "db", verb)
    assert event["By"] == {"door": "cli"}


def test_storage_that_is_near_full_is_news_and_no_success(events: Events) -> None:
    data = {"Controller": "ds-local", "Percent": 87, "MBSize": 102400, "On": "node1"}
    event = events.success("ds-local", "near_full", {"door": "doctor"}, **data).value
    assert event["Text"] == "Storage near full: 87 % of 102400 MB used on node1"
    assert (event["Subject"], event["Volume"], event["Success"]) == ("storage", "ds-local", True)
    event = events.success("ds-local", "room_again", {}, **data).value
    assert event["Text"] == "Storage has room again: 87 % of 102400 MB used on node1"


@pytest.mark.parametrize(
    ("verb", "reason", "text"),
    [
        ("rm", "Volume has snapshots: a, b", "Volume destroy failed Volume has snapshots: a, b"),
        ("create", "no room", "Volume create failed no room"),
        ("unmount", "/m/db is held", "Unmount[db] failed /m/db is held"),
        ("mount", "", "Mount failed for no known reason"),
    ],
)
def test_a_failure_says_why(events: Events, verb: str, reason: str, text: str) -> None:
    event = events.failure("db", verb, {}, reason).value
    assert event["Text"] == text
    assert event["Success"] is False


def test_keys_of_events_sort_by_time(events: Events) -> None:
    keys = [events.success("db", "mount", {}).key for _ in range(50)]
    assert keys == sorted(keys) or len(set(keys)) == len(keys)
    assert [key.partition("Z-")[0] for key in keys] == sorted(k.partition("Z-")[0] for k in keys)


@pytest.mark.parametrize("text", ["volume", "colour=red", "=x", ""])
def test_a_wrong_filter_names_those_there_are(events: Events, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"Not an event filter: .*volume, verb, node, success"):
        events.list(filters=[text])
