"""Whoever dies, wherever: the volume is as before or as asked, and nothing is left over."""

import multiprocessing
import os

import pytest

from lab import faults
from lab.scenarios import scenarios_of

SCENARIOS = scenarios_of(*os.environ.get("DSVOLUME_GROUP", "").split())
WORKERS = int(os.environ.get("DSVOLUME_WORKERS", "8"))
CASES = [(name, action) for name in SCENARIOS for action in faults.ACTIONS]


def _strike(job):
    return faults.strike(SCENARIOS[job[0]], *job[1:])


@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("name", "action"), CASES, ids=[f"{n}-{a}" for n, a in CASES])
def test_fault_at_every_point_leaves_nothing_half_done(name, action):
    rounds = int(os.environ.get("DSVOLUME_ROUNDS", "1"))
    points = faults.points_of(SCENARIOS[name], action)
    if action != "orphan":
        assert points, f"{name} has no point at all"
    jobs = [
        # Each point is recovered by the next call and by the doctor in turn.
        (name, action, point, faults.WAYS[(point + turn) % 2])
        for turn in range(rounds)
        for point in points
    ]
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        failures = [failure for failure in pool.imap_unordered(_strike, jobs) if failure]
    faults.report({action: len(jobs)})
    assert not failures, f"{len(failures)} of {len(jobs)} faults:\n" + "\n".join(failures[:5])
