"""Times and filters of ``docker dsvolume events``."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dsvolume_cli import events
from dsvolume_cli.filters import Filters
from dsvolume_cli.times import local, nanoseconds, written
from dsvolume_cli.words import WrongUsage

SECOND = 10**9
NOW = 1_800_000_000 * SECOND
MOUNT = {
    "Volume": "db",
    "Node": "host1",
    "Subject": "volume",
    "Verb": "mount",
    "Success": True,
    "Data": {"container": "2b1e11bc"},
}
REMOVED = {**MOUNT, "Verb": "rm", "Success": False, "Data": {}}


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def be_in(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield be_in
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1500ms", 1.5),
        ("2d", 172800),
    ],
)
def test_how_long_ago(text: str, seconds: float) -> None:
    assert nanoseconds(text, "since", NOW) == NOW - seconds * SECOND


def test_points_in_time(zone: Callable[[str], None]) -> None:
    zone("EST5EDT,M3.2.0,M11.1.0")
    moment = 1444297636 * SECOND
    for text in (
        "2015-10-08T09:47:16Z",
        "2015-10-08T05:47:16-04:00",
        "2015-10-08T05:47:16",
        "2015-10-08T09:47:16.000000000Z",
        "1444297636",
        "1444297636.0",
    ):
        assert nanoseconds(text, "since", NOW) == moment
    assert nanoseconds("1444297636.000000001", "since", NOW) == moment + 1
    assert nanoseconds("1444297636.5", "since", NOW) == moment + SECOND // 2
    assert nanoseconds("2015-10-08", "since", NOW) == nanoseconds(
        "2015-10-08T04:00:00Z", "since", NOW
    )
    assert written(moment + 1234) == "2015-10-08T09:47:16.000001Z"
    assert local(moment + 1234) == "2015-10-08T05:47:16.000001234-04:00"
    zone("UTC0")
    assert local(moment) == "2015-10-08T09:47:16.000000000Z"


@pytest.mark.parametrize("text", ["", "yesterday", "1h x", "10m-", "99999-01-01", "9" * 12])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(WrongUsage, match='for "--until" flag: it must be a time'):
        nanoseconds(text, "until", NOW)


@pytest.mark.parametrize(
    ("given", "mount", "removed"),
    [
        ([], True, True),
        (["volume=db"], True, True),
        (["volume=D*"], True, True),
        (["volume=x", "volume=db"], True, True),
        (["volume=x"], False, False),
        (["event=mount"], True, False),
        (["event=destroy"], False, True),
        (["event=mount", "event=destroy"], True, True),
        (["verb=rm", "volume=db"], False, True),
        (["success=true"], True, False),
        (["node=host1"], True, True),
        (["container=2b1e"], True, False),
        (["container="], False, False),
        (["type=volume"], True, True),
        (["type=libstorage"], True, True),
        (["type=container"], False, False),
    ],
)
def test_filters(given: list[str], mount: bool, removed: bool) -> None:
    filters = Filters(given)
    assert (filters.match(MOUNT), filters.match(REMOVED)) == (mount, removed)


@pytest.mark.parametrize(
    ("given", "dockers", "ours"),
    [
        (["volume=a", "volume=b"], {"volume": ["a", "b"]}, True),
        (["image=x"], {"image": ["x"]}, False),
        (["verb=rm"], None, True),
        (["type=libstorage"], None, True),
        (["type=libstorage", "type=network"], {"type": ["network"]}, True),
        (["verb=rm", "image=x"], None, False),
    ],
)
def test_a_stream_that_can_have_none_is_not_asked(
    given: list[str], dockers: Any, ours: bool
) -> None:
    filters = Filters(given)
    assert (filters.dockers, filters.any_of_ours) == (dockers, ours)


@pytest.mark.parametrize("text", ["colour=red", "volume", "=x", ""])
def test_what_is_no_filter(text: str) -> None:
    with pytest.raises(WrongUsage, match='for "--filter" flag: it must be KEY=VALUE'):
        Filters([text])


def test_what_happens_until_its_place_is_known_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Committed before the place, hence not heard; told of the past, and once where it is both."""
    committed: list[dict[str, Any]] = []

    def happens(id: str) -> dict[str, Any]:
        committed.append({**MOUNT, "Id": id, "Time": written(time.time_ns())})
        return committed[-1]

    def listen(place: str) -> Iterator[dict[str, Any]]:
        happens("meanwhile")
        yield {"Place": "2@"}
        yield {"Place": "2@", "Event": both}
        yield {"Place": "3@", "Event": happens("after")}
        time.sleep(5)  # it goes on

    def call(function: str, words: list[str], given: dict[str, str]) -> list[dict[str, Any]]:
        return [one for one in committed if one["Time"] <= given["until"]]

    both = happens("both")
    monkeypatch.setattr(events, "listen", listen)
    monkeypatch.setattr(events.bridge, "call", call)
    given = {
        "filter": ["type=libstorage"],
        "since": "10s",
        "until": written(time.time_ns() + SECOND),
    }
    events.watch(given, {}, as_json=True)
    told = [json.loads(line)["Id"] for line in capsys.readouterr().out.splitlines()]
    assert told == ["both", "meanwhile", "after"]
