"""Whoever dies at work on an image that this kernel maps: it is as before or as asked."""

import itertools
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from guest.ceph.conftest import MAPPERS, devices, unmap
from lab import faults
from lab.ceph import Reached
from lab.scenarios.ceph import scenarios

EVERY = int(os.environ.get("DSVOLUME_EVERY", "12"))
"""Of how many points one is struck."""
NAMES = ("ceph-clone", "ceph-mount", "ceph-unmount", "ceph-resize")
"""The verbs that map."""


def _named(name: str, settings: dict[str, Any]) -> faults.Scenario:
    [found] = [one for one in scenarios(settings) if one.name == name]
    return found


def _strike(job: tuple[str, dict[str, Any], int, str]) -> str:
    name, settings, point, way = job
    failure = faults.strike(_named(name, settings), "kill", point, way)
    left = devices()
    return failure or (f"{name}: kill at point {point}, {way}: {left} are left" if left else "")


def _points(name: str, settings: dict[str, Any]) -> list[int]:
    points = list(faults.points_of(_named(name, settings), "kill"))
    for device in devices():  # the one that lived has mounted it
        unmap(Path(device))
    return points


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mapper", MAPPERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_death_leaves_no_device(ceph: Reached, name: str, mapper: str) -> None:
    # Not forked: this process has a connection to Ceph, which a child must not use.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        points = pool.apply(_points, (name, ceph.settings(mapper)))
        struck = points[len(name) % min(EVERY, len(points)) :: EVERY]
        ways = itertools.cycle(faults.WAYS[:2])
        jobs = [
            (name, ceph.settings(mapper), at, way) for at, way in zip(struck, ways, strict=False)
        ]
        failures = [failure for failure in pool.imap_unordered(_strike, jobs) if failure]
    faults.report({"kill": len(jobs)})
    assert jobs and not failures, f"{len(failures)} of {len(jobs)}:\n" + "\n".join(failures[:5])
