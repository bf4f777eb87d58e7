"""Events on a bus: their tags, and what shares a message."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstorage.bus import BURST, messages, tag
from libstorage.records import JSON


def event(number: int = 0, success: bool = True, **over: Any) -> JSON:
    told = {"Node": "host1", "Volume": "db", "Subject": "volume", "Verb": "create"}
    return {"Id": str(number), "Success": success, **told, **over}


def test_a_tag_says_where_what_and_how_it_ended() -> None:
    assert tag(event()) == "libstorage/host1/db/volume/create/success"
    failed = event(success=False, Subject="snapshot", Verb="snapshot_rm")
    assert tag(failed) == "libstorage/host1/db/snapshot/snapshot_rm/failed"


@pytest.mark.parametrize("count", [0, 1, BURST - 1])
def test_few_travel_alone(count: int) -> None:
    events = [event(n) for n in range(count)]
    assert [m.data for m in messages(events, "me")] == events
    assert {m.tag for m in messages(events, "me")} <= {tag(event())}


def test_many_successes_share_a_message() -> None:
    events = [event(n) for n in range(BURST)]
    [message] = messages(events, "me")
    assert (message.tag, message.data) == ("libstorage/me/batch", {"Events": events})
    assert [m.data for m in messages(events, "me", coalesce=False)] == events


@given(st.lists(st.booleans(), max_size=2 * BURST), st.booleans())
def test_none_is_left_out_and_failures_are_alone_whatever_comes(
    outcomes: list[bool], coalesce: bool
) -> None:
    events = [event(n, success) for n, success in enumerate(outcomes)]
    told = messages(events, "me", coalesce=coalesce)
    unpacked = [e for m in told for e in m.data.get("Events", [m.data])]
    assert unpacked == events
    assert all(e["Success"] for m in told for e in m.data.get("Events", ()))
    assert [m.data for m in told if m.tag.endswith("/failed")] == [
        e for e in events if not e["Success"]
    ]
