"""
Every verb over etcd, killed or stopped at its points: the agent, or another node, has it in order
within half a minute, and whoever wakes then writes nothing more.

``DSVOLUME_EVERY`` says how many points there are to one that is struck (6); the soak takes all.
Which is the first is drawn anew in each run: ``DSVOLUME_SEED`` plays it again.
"""

import multiprocessing
import os
import random

import pytest

from lab import faults
from lab.etcd import Cluster
from lab.scenarios import scenarios_of

SCENARIOS = scenarios_of()
EVERY = int(os.environ.get("DSVOLUME_EVERY", "6"))
SEED = int(os.environ.get("DSVOLUME_SEED") or random.SystemRandom().randrange(10**9))
ROUNDS = int(os.environ.get("DSVOLUME_ROUNDS", "1"))
WORKERS = int(os.environ.get("DSVOLUME_WORKERS", "16"))
"""Mostly they wait for leases to lapse."""

BY_AGENT = (
    *("create-ext4", "rm-ext4", "first_mount-ext4", "unmount-ext4", "usage-ext4", "label-ext4"),
    *("join-ext4", "leave-ext4", "snapshot_create-ext4", "snapshot_create_mounted-ext4"),
    *("snapshot_rm-ext4", "rollback-ext4", "clone-ext4", "rm_clone-ext4", "resize-ext4"),
    *("qos_apply-ext4", "qos_enable-ext4", "qos_disable-ext4", "qos_edit-ext4", "qos_create"),
    *("protect-ext4", "rm_into_trash-ext4", "undelete-ext4", "purge-ext4"),
    *("first_mount-ram", "unmount-ram", "rm-ram", "first_mount-secure", "unmount-secure"),
    *("create-directory", "rm-directory"),
)
BY_ANOTHER_NODE = (
    *("create-directory", "rm-directory", "create-ram", "rm-ram", "label-directory"),
    *("rm_into_trash-ram", "undelete-directory", "purge-secure", "qos_create", "qos_rm"),
)
"""What has its data on one node alone is recovered there; everything else by whoever meets it."""
BY_THE_NEXT_CALL = ("create-ext4", "clone-ext4")
CASES = [
    *((name, action, faults.AGENT) for name in BY_AGENT for action in ("kill", "stop")),
    *((name, action, faults.OTHER_NODE) for name in BY_ANOTHER_NODE for action in ("kill", "stop")),
    *((name, "orphan", faults.NEXT_CALL) for name in BY_THE_NEXT_CALL),
]


def _count(name, action, store):
    return faults.points_of(SCENARIOS[name], action, store)


def _strike(job):
    return faults.strike(SCENARIOS[job[0]], *job[1:])


@pytest.mark.timeout(2400)
def test_every_verb_is_recovered_by_agent_or_another_node(
    etcd: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\nseed: DSVOLUME_SEED={SEED}")
    choose = random.Random(SEED)
    store = etcd.store("/set-by-each-site")
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        counted = dict.fromkeys((name, action == "orphan") for name, action, _ in CASES)
        counts = [(name, "orphan" if orphan else "kill", store) for name, orphan in counted]
        points = dict(zip(counted, pool.starmap(_count, counts, chunksize=1), strict=True))
        jobs = [
            (name, action, point, way, store)
            for name, action, way in CASES
            for _ in range(ROUNDS)
            for point in points[name, action == "orphan"][choose.randrange(EVERY) :: EVERY]
        ]
        # Verbs that wait beside verbs that work.
        choose.shuffle(jobs)
        failures = [failure for failure in pool.imap_unordered(_strike, jobs) if failure]
    faults.report({action: sum(job[1] == action for job in jobs) for action in faults.ACTIONS})
    assert len(jobs) > len(CASES)
    assert not failures, f"{len(failures)} of {len(jobs)} faults:\n" + "\n".join(failures[:5])
