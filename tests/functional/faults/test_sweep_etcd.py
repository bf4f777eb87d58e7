"""The faults of a few verbs with the records in etcd."""

import multiprocessing

import pytest

from lab import faults
from lab.etcd import Cluster
from lab.scenarios import scenarios_of

SCENARIOS = scenarios_of()
CASES = (
    ("create-ext4", "kill"),
    ("create-ext4", "orphan"),
    ("rm-ext4", "stop"),
    ("first_mount-ext4", "kill"),
    ("unmount-ram", "stop"),
    ("clone-ext4", "kill"),
    ("label-directory", "stop"),
)


def _strike(job):
    return faults.strike(SCENARIOS[job[0]], *job[1:])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "action"), CASES, ids=[f"{n}-{a}" for n, a in CASES])
def test_fault_at_every_point_leaves_nothing_half_done(name: str, action: str, etcd: Cluster):
    store = etcd.store("/set-by-each-site")
    points = faults.points_of(SCENARIOS[name], action, store)
    assert points, f"{name} has no point at all"
    jobs = [(name, action, point, point % 2 == 0, store) for point in points]
    with multiprocessing.get_context("fork").Pool(8) as pool:
        failures = [failure for failure in pool.imap_unordered(_strike, jobs) if failure]
    assert not failures, f"{len(failures)} of {len(jobs)} faults:\n" + "\n".join(failures[:5])
