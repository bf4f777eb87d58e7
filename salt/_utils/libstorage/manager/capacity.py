"""
Storage that is nearly full, told once per crossing.

The key
    ``capacity/<controller>/<node>`` is there while it has been told that this node's storage of a
    controller is near full; ``capacity/<controller>/@<storage>`` of storage that all nodes share.

The order
    The key is read, then the storage is asked. Used beyond the limit and no key: one transaction
    compares that there is none, and writes it with the event. Used below the limit by more than
    ``SLACK`` and a key: one transaction at its revision deletes it, with the event of the
    contrary. So whoever races, each crossing is told once; and what hovers at the limit does not
    tell the same again and again.

Why a crash between any two lines is harmless
    Key and event are of one transaction. Before it nothing is said; whoever looks next says it.

Verbs look after their commit, when all is done: what this fails at, they do not. What is written
into volumes takes room without any verb: the agents look, too, now and then.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from ..controllers.contract import Common, Controller
from ..errors import LibstorageError
from ..records import JSON, MB, Trashed, Volume, now
from ..store.contract import Compare, Delete, KeyAbsent, KeyAtRevision, Put, Write
from . import keys
from .context import Context
from .events import Events

NEVER = 100.0
"""The limit with which nothing is ever told."""

SLACK = 2.0
"""Percent below the limit at which there is room again."""


LEASES = 2
"""After so many times a lease an agent looks again."""


class Capacity:
    """Watches how full the storage of this node's controllers is."""

    def __init__(self, context: Context, events: Events) -> None:
        self._context = context
        self._store = context.store
        self._events = events
        self._limit = context.config.near_full
        self._looked = 0.0

    def due(self) -> bool:
        """Is it time that an agent looks again?"""
        due = time.monotonic() - self._looked > LEASES * self._context.config.lease
        if due:
            self._looked = time.monotonic()
        return due

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

    def ls(self) -> list[JSON]:
        """
        How full the storage of each of this node's controllers is, and how it says that it is.

        Storage that cannot be asked says why in ``Err``.
        """
        promised = self._promised()
        return [self._row(one, promised[one.name]) for one in self._context.controllers.all()]

    def _row(self, controller: Controller, promised: int) -> JSON:
        name = controller.name
        common = controller if isinstance(controller, Common) else None
        row: JSON = {
            "Controller": name,
            "On": common.storage() if common else self._context.node,
            "Total": 0,
            "Available": 0,
            "Promised": promised,
            "Health": "",
            "Checks": [],
            "Err": "",
        }
        try:
            row["Total"], row["Available"] = controller.capacity()
            if common:
                health = common.health()
                row |= {"Health": health.status, "Checks": list(health.checks)}
        except (LibstorageError, OSError) as exc:
            row["Err"] = str(exc)
        return row

    def _promised(self) -> Counter[str]:
        """The bytes that volumes may come to take here, by controller, in the trash too."""
        volumes = [Volume.from_json(value) for value in self._store.values(keys.VOLUMES)]
        volumes += [Trashed.from_json(value).volume for value in self._store.values(keys.TRASH)]
        promised: Counter[str] = Counter()
        for volume in volumes:
            if volume.node in ("", self._context.node):
                promised[volume.voltype] += volume.mb_size * MB
        return promised

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
        controller = self._context.controllers.named(name)
        where = on = self._context.node
        if isinstance(controller, Common):
            on = controller.storage()
            where = f"@{on}"
        key = keys.capacity(name, where)
        entry = self._store.get(key, linearizable=True)
        total, available = controller.capacity()
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
            "On": on,
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
