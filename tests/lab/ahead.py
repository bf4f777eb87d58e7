"""
Faults struck ahead: one pool of workers for all cases of a sweep.

A case is a scenario and an action. First its points are counted, then each is struck; both are jobs
of the pool. It works on the next cases while a test still waits for its own, so that no processor
idles at the end of each case.
"""

import multiprocessing
import queue
import signal
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from lab import faults

Case = tuple[str, str]
"""The name of a scenario, and one of faults.ACTIONS."""
PATIENCE = 240.0
"""Seconds in which some job of all has ended; if none has, a worker has died with its own."""
READY = 4
"""How many jobs wait for each worker before the next case is begun."""

_FORK = multiprocessing.get_context("fork")


@dataclass
class Struck:
    """
    What has become of a case.

    jobs
        Faults that are struck, or were.
    failures
        What went wrong, one text for each.
    """

    jobs: int = 0
    failures: list[str] = field(default_factory=list)
    _open: int = 1  # jobs that have not ended, the counting among them


class Ahead:
    """
    The faults of many cases, in their order.

    rounds
        How often each point is struck; recovered by the next call and by the doctor in turn.
    """

    def __init__(
        self,
        scenarios: Mapping[str, faults.Scenario],
        cases: Iterable[Case],
        *,
        workers: int,
        rounds: int = 1,
    ) -> None:
        self._rounds = rounds
        self._ready = workers * (1 + READY)
        self._next = deque(cases)
        self._found = {case: Struck() for case in self._next}
        self._under_way = 0
        self._over = _FORK.Event()
        self._ended: queue.SimpleQueue[tuple[Case, Any]] = queue.SimpleQueue()
        self._pool = _FORK.Pool(workers, _begin, (scenarios, self._over))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the strikes that are under way end and clean up; the others are not begun."""
        self._over.set()
        until = time.monotonic() + PATIENCE
        try:
            while self._under_way:
                self._take(max(0, until - time.monotonic()))
        finally:
            self._pool.terminate()
            self._pool.join()

    def struck(self, case: Case) -> Struck:
        """Wait until all faults of a case have been struck, and strike those of the next ones."""
        found = self._found[case]
        while found._open:
            while self._next and self._under_way < self._ready:
                self._submit(_count, self._next.popleft())
            self._take(PATIENCE)
        return found

    def _submit(self, function: Any, case: Case, *rest: Any) -> None:
        def ended(result: Any) -> None:
            self._ended.put((case, result))

        self._under_way += 1
        self._pool.apply_async(function, (*case, *rest), callback=ended, error_callback=ended)

    def _take(self, seconds: float) -> None:
        """Note what one job has found: the points of its case, or what went wrong."""
        try:
            case, result = self._ended.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"no fault has ended for {seconds:.0f} s") from None
        self._under_way -= 1
        found = self._found[case]
        if isinstance(result, list):
            self._strike(case, result)
        elif isinstance(result, BaseException):
            found.failures.append(f"{'-'.join(case)}: {result!r}")
        elif result:
            found.failures.append(result)
        found._open -= 1

    def _strike(self, case: Case, points: list[int]) -> None:
        found = self._found[case]
        jobs = [
            (point, faults.WAYS[(point + turn) % 2])
            for turn in range(self._rounds)
            for point in points
        ]
        for job in jobs:
            self._submit(_strike, case, *job)
        found.jobs = len(jobs)
        found._open += len(jobs)


# In a worker: what it was forked with.
_scenarios: Mapping[str, faults.Scenario] = {}
_over: Any = None


def _begin(scenarios: Mapping[str, faults.Scenario], over: Any) -> None:
    global _scenarios, _over
    _scenarios, _over = scenarios, over
    # Ctrl-C is for the one who hands out the work; a strike cut off would leave its mounts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _count(name: str, action: str) -> list[int]:
    return [] if _over.is_set() else faults.points_of(_scenarios[name], action)


def _strike(name: str, action: str, point: int, way: str) -> str:
    return "" if _over.is_set() else faults.strike(_scenarios[name], action, point, way)
