"""Whoever dies, wherever, at work on a volume in Ceph: it is as before or as asked."""

import itertools
import multiprocessing
import os
from typing import Any

import pytest

from lab import faults
from lab.ceph import Ceph
from lab.scenarios.ceph import scenarios

EVERY = int(os.environ.get("DSVOLUME_EVERY", "12"))
"""Of how many points one is struck; 1: all."""
WORKERS = 2
NAMES = [scenario.name for scenario in scenarios({})]


def _named(name: str, settings: dict[str, Any]) -> faults.Scenario:
    [found] = [one for one in scenarios(settings) if one.name == name]
    return found


def _strike(job: tuple[str, dict[str, Any], int, str]) -> str:
    name, settings, point, way = job
    return faults.strike(_named(name, settings), "kill", point, way)


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", NAMES)
def test_a_death_at_any_point_leaves_nothing_half_done(ceph: Ceph, name: str) -> None:
    points = list(faults.points_of(_named(name, ceph.settings()), "kill"))
    struck = points[len(name) % min(EVERY, len(points)) :: EVERY]
    assert struck
    ways = itertools.cycle(faults.WAYS[:2])
    jobs = [(name, ceph.settings(), point, way) for point, way in zip(struck, ways, strict=False)]
    # Not forked: this process has a connection to Ceph, which a child must not use.
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        failures = [failure for failure in pool.imap_unordered(_strike, jobs) if failure]
    faults.report({"kill": len(jobs)})
    assert not failures, f"{len(failures)} of {len(jobs)} faults:\n" + "\n".join(failures[:5])
