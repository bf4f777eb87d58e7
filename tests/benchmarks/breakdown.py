"""
Where our time goes: how often a verb does what costs, and how long that takes.

The times are exclusive (what runs within another part is not that part's), so that a line adds up
to the verb's time, up to what medians of parts differ from the median of the whole. SQLite's own
flush to the disk is within ``transactions``.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.measure import WARM_UP, Story
from libstorage.host import commands, loops, mounts, node, processes
from libstorage.store.embedded import EmbeddedStore
from libstorage.store.sqlite import Database

PARTS: tuple[tuple[str, Any, str], ...] = (
    ("transactions", EmbeddedStore, "transact"),
    ("store reads", Database, "read"),
    ("commands", commands, "_run"),
    ("fsyncs", os, "fsync"),
    ("mount table", mounts, "table"),
    ("mount table", mounts, "at"),
    ("loop devices", loops, "behind"),
    ("process, boot id", processes, "myself"),
    ("process, boot id", node, "read_boot_id"),
)
LABELS = tuple(dict.fromkeys(label for label, _, _ in PARTS))

Parts = dict[str, tuple[int, float]]


class Meter:
    """Counts calls and their exclusive time while it is on."""

    def __init__(self) -> None:
        self._within: list[tuple[str, float]] = [("", 0.0)]
        self._found: Parts = {}

    def _wrapped(self, label: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            again = self._within[-1][0] == label
            self._within.append((label, 0.0))
            start = time.perf_counter()
            try:
                return real(*arguments, **named)
            finally:
                took = time.perf_counter() - start
                count, own = self._found.get(label, (0, 0.0))
                own += took - self._within.pop()[1]
                self._found[label] = (count if again else count + 1, own)
                outer, inner = self._within[-1]
                self._within[-1] = (outer, inner + took)

        return call

    @contextmanager
    def on(self) -> Iterator[None]:
        with ExitStack() as stack:
            for label, owner, name in PARTS:
                real = getattr(owner, name)
                stack.enter_context(patch.object(owner, name, self._wrapped(label, real)))
            yield

    def measure(self, act: Callable[[], object]) -> Parts:
        """The parts of one call; ``python`` is what no part covers, ``all`` the whole."""
        self._found = {}
        start = time.perf_counter()
        act()
        took = time.perf_counter() - start
        covered = sum(seconds for _, seconds in self._found.values())
        return {**self._found, "python": (1, took - covered), "all": (1, took)}


def show(stories: Sequence[Story], only: str, samples: int) -> None:
    """Print the medians of so many rounds in which the floors only keep pace."""
    found: dict[str, list[Parts]] = defaultdict(list)
    meter = Meter()
    with meter.on():
        for story in stories:
            if story.most:  # what takes so long is not done in this process
                continue
            steps_of = story.begin()
            for number in range(WARM_UP + samples):
                # Numbers on from the table's: names of volumes are used once.
                for step in steps_of(100_000 + number):
                    step.floor()
                    parts = meter.measure(step.ours)
                    if step.name.startswith(only) and step.name and number >= WARM_UP:
                        found[step.name].append(parts)
    print("\nwhere our time goes, microseconds (how often)")
    columns = (*LABELS, "python", "all")
    print(f"{'name':<32}" + "".join(f"{column:>18}" for column in columns))
    for name, rounds in found.items():
        print(f"{name:<32}" + "".join(f"{_cell(column, rounds):>18}" for column in columns))


def _cell(column: str, rounds: Sequence[Parts]) -> str:
    cells = [parts.get(column, (0, 0.0)) for parts in rounds]
    count, took = median(count for count, _ in cells), median(seconds for _, seconds in cells)
    often = f" ({count:g})" if column in LABELS else ""
    return f"{took * 1e6:.0f}{often}" if count else "-"
