"""A limit is what the processes below the named cgroup get: each kind of I/O, at three limits."""

from pathlib import Path
from typing import NamedTuple

import pytest

from guest.conftest import Group, Limited
from guest.loads import BUFFERED, Load
from lab.site import Site
from libstorage.host import throttling
from libstorage.manager import VolumeManager

TIME = 5.0  # seconds of each measurement
BOUND = 0.05
TRIES = 2  # an emulated processor may lag: what is too slow is measured again, too fast never

BYTES = (100_000, 400_000, 1_600_000)
BLOCKS = (4096, 16384, 65536)  # some 25 operations a second
OPERATIONS = (20, 50, 200)  # the kernel counts them by the tenth of a second: tens are exact


class Kind(NamedTuple):
    fstype: str
    load: str
    limit: str
    steps: tuple[int, ...]


KINDS = {
    "direct-read": Kind("ext4", "read", "read_bw", BYTES),
    "direct-write": Kind("xfs", "write", "write_bw", BYTES),
    "read-operations": Kind("xfs", "read", "read_iops", OPERATIONS),
    "write-operations": Kind("ext4", "write", "write_iops", OPERATIONS),
    "buffered-ext4": Kind("ext4", BUFFERED, "write_bw", BYTES),
    "buffered-xfs": Kind("xfs", BUFFERED, "write_bw", BYTES),
}
Rates = dict[tuple[str, int], float]


@pytest.fixture(scope="module")
def rates(site: Site, manager: VolumeManager, limited: Limited, group: Group) -> Rates:
    """What each kind got at each step: all kinds side by side, on a volume each."""
    cgroup = group(f"{throttling.hierarchy().base()}/container")
    points = {
        name: limited(name, kind.fstype, **{kind.limit: kind.steps[0]})["Mountpoint"]
        for name, kind in KINDS.items()
    }
    got: Rates = {}
    for step in range(3):
        for name, kind in KINDS.items():
            manager.qos.edit(name, {kind.limit: kind.steps[step]})
        missing = list(KINDS)
        for _ in range(TRIES):
            loads = {name: begin(site, KINDS[name], step, points[name], cgroup) for name in missing}
            for name, load in loads.items():
                kind = KINDS[name]
                load.wait()
                rate = load.bytes() if kind.steps is BYTES else load.operations()
                got[name, step] = rate
                print(f"RATE {name} {kind.fstype} limit {kind.steps[step]} got {rate:.1f}")
            missing = [n for n in missing if got[n, step] < KINDS[n].steps[step] * (1 - BOUND)]
    return got


def begin(site: Site, kind: Kind, step: int, point: str, cgroup: str) -> Load:
    block = BLOCKS[step] if kind.steps is BYTES else 4096
    if kind.load == BUFFERED:
        block = int(kind.steps[step] * TIME)
    load = Load(kind.load, Path(point), cgroup, block, TIME)
    site.ends(load.process)
    return load


@pytest.mark.parametrize("step", range(3))
@pytest.mark.parametrize("name", KINDS)
def test_a_process_below_the_cgroup_gets_the_limit(name: str, step: int, rates: Rates):
    assert rates[name, step] == pytest.approx(KINDS[name].steps[step], rel=BOUND)
