"""
Storage that is nearly full, told once per crossing.

The key
    ``capacity/<controller>/<node>`` is there while it has been told that this node's storage of a
    controller is near full.

The order
    The key is read, then the storage is asked. Used beyond the limit and no key: one transaction
    compares that there is none, and writes it with the event. Used below the limit by more than
    ``SLACK`` and a key: one transaction at its revision deletes it, with the event of the
    contrary. So whoever races, each crossing is told once; and what hovers at the limit does not
    tell the same again and again.

Why a crash between any two lines is harmless
    Key and event are of one transaction. Before it nothing is said; whoever looks next says it.

Verbs look after their commit, when all is done: what this fails at, they do not.
"""

from collections.abc import Iterator
from contextlib import suppress

from ..errors import LibstorageError
from ..records import JSON, MB, Volume, now
from ..store.contract import Compare, Delete, KeyAbsent, KeyAtRevision, Put, Write
from . import keys
from .context import Context
from .events import Events

NEVER = 100.0
"""The limit with which nothing is ever told."""

SLACK = 2.0
"""Percent below the limit at which there is room again."""


class Capacity:
    """Watches how full the storage of this node's controllers is."""

    def __init__(self, context: Context, events: Events) -> None:
        self._context = context
        self._store = context.store
        self._events = events
        self._limit = context.config.near_full

    def after(self, controller: str, by: JSON) -> None:
        """Look at a controller's storage after a change that may have taken room; never fails."""
        with suppress(LibstorageError, OSError):
            self._look(controller, by)

    def after_on(self, volume: str, by: JSON) -> None:
        """The same for the controller of a volume."""
        with suppress(LibstorageError, OSError):
            entry = self._store.get(keys.volume(volume)) if self._limit < NEVER else None
            if entry is not None:
                self._look(Volume.from_json(entry.value).voltype, by)

    def near_full(self, by: JSON) -> Iterator[tuple[str, str]]:
        """The controllers whose storage here is near full, and a sentence on each."""
        for controller in self._context.controllers.all():
            state = self._look(controller.name, by)
            if state is not None:
                yield (
                    controller.name,
                    f"{state['Percent']} % of the {state['MBSize']} MB of {controller.name} are "
                    f"used, which is near full (from {self._limit:g} %): free space.",
                )

    def _look(self, name: str, by: JSON) -> JSON | None:
        """
        Tell of a crossing, if there is one.

        Returns what is known of storage that is near full, None for other.
        """
        if self._limit >= NEVER:
            return None
        key = keys.capacity(name, self._context.node)
        entry = self._store.get(key, linearizable=True)
        total, available = self._context.controllers.named(name).capacity()
        if total <= 0:
            return None
        percent = 100 * (total - available) / total
        state: JSON = {
            "Controller": name,
            "MBSize": total // MB,
            "Total": total,
            "Available": available,
            # Rounded down: what is shown as 85 has reached it.
            "Percent": int(percent),
        }
        if percent >= self._limit:
            if entry is None:
                told = Put(key, {**state, "At": now()})
                self._tell([KeyAbsent(key)], told, "near_full", by, state)
            return state
        if entry is None or percent >= self._limit - SLACK:
            return None if entry is None else state
        self._tell([KeyAtRevision(key, entry.revision)], Delete(key), "room_again", by, state)
        return None

    def _tell(
        self, compares: list[Compare], write: Write, verb: str, by: JSON, state: JSON
    ) -> None:
        # An empty store is a new one, or one that was lost: a look begins none.
        if self._context.schema() is not None:
            event = self._events.success(state["Controller"], verb, by, **state)
            self._store.transact(compares, [write, event])
