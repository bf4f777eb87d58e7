"""
The store's events as they are committed, for listeners that keep their place by themselves.

A place is ``<revision>@<cluster>``: whoever asks from there gets what was committed at that
revision and after it. An event's place is its own, so its transaction is told again to who comes
back there: he knows by their Ids what he has had. Nothing is written, not even where events are
missing: who listens is told so by an event of his own.
"""

import re
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from ..errors import Compacted, InvalidInput
from ..records import JSON
from . import keys
from .context import Context
from .events import Events

CHECK = 15.0
"""Seconds between looks whether the store is still the same."""
IDLE = 1.0
"""Seconds without an event after which that is told."""
BY: JSON = {"door": "events"}

_PLACE = re.compile(r"(\d{1,19})@([0-9a-f-]{0,64})")


@dataclass(frozen=True, slots=True)
class News:
    """
    An event, or that there was none for a while.

    revision, cluster
        The place from which to go on.
    """

    revision: int
    cluster: str
    event: JSON | None = None

    @property
    def place(self) -> str:
        return f"{self.revision}@{self.cluster}"


def read_place(text: str) -> News:
    """The place that a text names. Raises InvalidInput."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise InvalidInput(f"Not a place among the events: {text[:60]!r}")
    return News(int(found[1]), found[2])


class Following:
    """Reads them."""

    def __init__(self, context: Context, events: Events) -> None:
        self._context = context
        self._store = context.store
        self._events = events

    def since(self, place: str = "") -> Iterator[News]:
        """
        What is committed from a place on (``""``: from now), in order, for ever.

        First comes the place itself, and whenever there was nothing for a while how far it is.
        Raises InvalidInput for what is no place; StoreUnavailable.
        """
        cluster = self._context.schema() or ""
        begin, gap = self._read(place, cluster)
        yield News(begin, cluster, gap)
        checked = time.monotonic()
        while True:
            try:
                for change in self._store.watch(keys.EVENTS, begin, timeout=IDLE):
                    seen = change.revision
                    if change.value is not None:
                        yield News(seen, cluster, change.value)
                    # Its other changes come with it, and before the watch ends.
                    begin = seen + 1
            except Compacted:
                begin = yield from self._list(begin, cluster)
            yield News(begin, cluster)
            if time.monotonic() - checked > CHECK:
                checked, now = time.monotonic(), self._context.schema() or ""
                if (cluster and now != cluster) or self._store.revision() < begin - 1:
                    begin = self._store.revision() + 1
                    yield News(begin, now, self._gap("the store is another one, or was restored"))
                cluster = now

    def _read(self, place: str, cluster: str) -> tuple[int, JSON | None]:
        """The revision to begin with, and the gap before it, if there is one."""
        head = self._store.revision()
        if not place:
            return head + 1, None
        asked = read_place(place)
        if (asked.cluster and asked.cluster != cluster) or asked.revision > head + 1:
            return head + 1, self._gap("the store is another one than before, or was restored")
        return asked.revision, None

    def _list(self, begin: int, cluster: str) -> Generator[News, None, int]:
        """What no watch tells any more; returns the revision to watch from."""
        head = self._store.revision()
        forgotten = self._store.get(keys.FORGOTTEN)
        if forgotten is not None and int(forgotten.value["Revision"]) >= begin:
            yield News(begin, cluster, self._gap("some were deleted before they were read"))
        # Without their values, of which there may be more than memory.
        found = sorted(
            (entry.revision, entry.key)
            for entry in self._store.list(keys.EVENTS)
            if begin <= entry.revision <= head
        )
        for revision, key in found:
            entry = self._store.get(key)
            if entry is not None:
                yield News(revision, cluster, entry.value)
        return head + 1

    def _gap(self, says: str) -> JSON:
        """An event for this listener alone."""
        return self._events.failure("libstorage", "gap", BY, says, Says=says).value
