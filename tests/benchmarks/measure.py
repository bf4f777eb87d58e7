"""
How a verb is measured beside its floor.

A story is a row of steps that belong together (a volume is created, mounted, unmounted, removed).
In each round every step is done by us and by hand, one right after the other, and the two take
turns in coming first, so that what disturbs the machine meets both alike.
"""

import gc
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

WARM_UP = 2  # rounds that nobody counts


@dataclass(frozen=True, slots=True)
class Step:
    """
    A verb and its floor; one without a name only prepares or ends and is not timed.

    aside
        Seconds of what ours has just done that are not counted.
    """

    name: str
    ours: Callable[[], object]
    floor: Callable[[], object]
    aside: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True, slots=True)
class Story:
    """
    Steps that follow each other.

    names
        All that its steps are called.
    begin
        Prepares what all rounds share and returns a round: its number -> the steps.
    most
        So many rounds at most, none to warm up, where one takes a minute; 0 for no limit.
    """

    names: tuple[str, ...]
    begin: Callable[[], Callable[[int], Iterator[Step]]]
    most: int = 0


@dataclass(frozen=True, slots=True)
class Took:
    """What a step that measures itself answers."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Figure:
    """
    Medians of a verb.

    ratio
        That of the ratios within each round.
    p95_ms
        What 95 of a hundred of ours do not exceed.
    """

    name: str
    floor_ms: float
    ours_ms: float
    ratio: float
    samples: int
    p95_ms: float

    @classmethod
    def of(cls, name: str, pairs: Sequence[tuple[float, float]]) -> "Figure":
        """From (floor, ours) in seconds."""
        return cls(
            name=name,
            floor_ms=round(median(floor for floor, _ in pairs) * 1000, 3),
            ours_ms=round(median(ours for _, ours in pairs) * 1000, 3),
            ratio=round(median(ours / floor for floor, ours in pairs), 2),
            samples=len(pairs),
            p95_ms=round(_p95([ours for _, ours in pairs]) * 1000, 3),
        )


def _p95(found: Sequence[float]) -> float:
    return sorted(found)[math.ceil(0.95 * len(found)) - 1]


def figures(story: Story, rounds: int) -> list[Figure]:
    """Run a story so many times."""
    steps_of = story.begin()
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    warm_up, rounds = (0, min(rounds, story.most)) if story.most else (WARM_UP, rounds)
    for number in range(warm_up + rounds):
        gc.collect()
        for step in steps_of(number):
            if number % 2:
                ours, floor = _timed(step.ours), _timed(step.floor)
            else:
                floor, ours = _timed(step.floor), _timed(step.ours)
            ours -= step.aside()
            if step.name and number >= warm_up:
                pairs[step.name].append((floor, ours))
    return [Figure.of(name, found) for name, found in pairs.items()]


def _timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes; letting go of its answer is not its own."""
    start = time.perf_counter()
    answer = call()
    took = time.perf_counter() - start
    if isinstance(answer, Took):
        return answer.seconds
    del answer
    return took
