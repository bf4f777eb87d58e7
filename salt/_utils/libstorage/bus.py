"""
Events as they travel on a message bus: a tag and a record, or many records in one message.

``docs/events.md`` is what those who listen may rely on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from .records import JSON

BURST = 100
"""Fewer events that wait travel one by one."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: what it is called, what it says."""

    tag: str
    data: JSON


def tag(event: JSON) -> str:
    """``libstorage/<node>/<volume>/<subject>/<verb>/<success|failed>`` of an event's record."""
    outcome = "success" if event["Success"] else "failed"
    words = (event[field] for field in ("Node", "Volume", "Subject", "Verb"))
    return "/".join(("libstorage", *words, outcome))


def messages(events: Sequence[JSON], sender: str, *, coalesce: bool = True) -> list[Message]:
    """
    What tells of ``events``, in their order.

    A failure is always a message of its own. Of a burst, that is of BURST events or more, the
    successes between two failures share one: ``libstorage/<sender>/batch``.

    coalesce
        False: all events travel one by one.
    """
    if not coalesce or len(events) < BURST:
        return [Message(tag(event), event) for event in events]
    told = []
    for success, group in groupby(events, key=lambda event: bool(event["Success"])):
        some = list(group)
        if success and len(some) > 1:
            told.append(Message(f"libstorage/{sender}/batch", {"Events": some}))
        else:
            told += [Message(tag(event), event) for event in some]
    return told
