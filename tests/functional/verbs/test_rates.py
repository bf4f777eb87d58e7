"""What a limit makes of a real device's rates, measured; within 5 % of what was said."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.cgroups import Cgroup, cgroup
from lab.site import Site
from libstorage.manager import Given, VolumeManager

CLOSE = 0.05
SECONDS = 5.0
BLOCK = 4096
SECTOR = 512
OPEN = {"read_iops": 0, "read_bw": 0, "write_iops": 0, "write_bw": 0}

RATES = [
    *(("read_bw", rate) for rate in (50_000, 200_000, 1_000_000)),
    *(("write_bw", rate) for rate in (50_000, 200_000, 1_000_000)),
    *(("read_iops", rate) for rate in (50, 100, 400)),
    *(("write_iops", rate) for rate in (50, 100, 400)),
]
"""The kernel counts in slices of 0.1 s: operations are exact in tens only."""

BUFFERED = [200_000, 500_000, 2_000_000]


class Place:
    """A volume in use by one cgroup, with a profile of its own."""

    def __init__(self, manager: VolumeManager, name: str, group: Cgroup) -> None:
        self.manager = manager
        self.name = name
        self.group = group
        manager.create(name, Given(policy="local", fstype="raw", mb_size=64))
        self.device = manager.mount(name, cgroup=group.path)["Mountpoint"]
        manager.qos.create(name, OPEN)
        manager.qos.apply(name, [name])
        manager.qos.enable([name])

    def limit(self, **limits: int) -> None:
        self.manager.qos.edit(self.name, limits)

    def direct(self, what: str, count: int) -> float:
        """Seconds that so many blocks take, read or written past the page cache."""
        ends = ["if=/dev/zero", f"of={self.device}", "oflag=direct", "conv=notrunc"]
        if what.startswith("read"):
            ends = [f"if={self.device}", "of=/dev/null", "iflag=direct"]
        return self.group.run("dd", f"bs={BLOCK}", f"count={count}", *ends)

    def sectors_written(self) -> int:
        number = Path(self.device).stat().st_rdev
        stat = Path(f"/sys/dev/block/{number >> 8}:{number & 255}/stat").read_text().split()
        return int(stat[6])


@pytest.fixture
def places(site: Site) -> Any:
    """Makes so many volumes, each in use by a cgroup of its own."""
    with ExitStack() as stack:
        manager = site.manager()

        def make(count: int) -> list[Place]:
            groups = [stack.enter_context(cgroup(f"-{n}")) for n in range(count)]
            return [Place(manager, f"v{n}", group) for n, group in enumerate(groups)]

        yield make
        for record in manager.ls():
            manager.unmount(record["Name"])


Places = Callable[[int], list[Place]]


def at_once(places: list[Place], measure: Callable[..., float], rates: list[Any]) -> list[float]:
    """All measured side by side; what is off then once more, when the others are silent."""
    with ThreadPoolExecutor(len(rates)) as pool:
        found = list(pool.map(measure, places, rates))
    for n, rate in enumerate(rates):
        if abs(found[n] - 1) > CLOSE:
            found[n] = measure(places[n], rate)
    return [round(share, 3) for share in found]


def measured(place: Place, rate: tuple[str, int]) -> float:
    """The rate that a limit comes to, as a share of it."""
    what, limit = rate
    place.limit(**{what: limit})
    unit = 1 if what.endswith("iops") else BLOCK
    count = max(int(limit * SECONDS / unit), 20)
    return count * unit / place.direct(what, count) / limit


def test_direct_reads_and_writes_keep_to_each_limit(places: Places) -> None:
    volumes = places(len(RATES))
    found = dict(zip(RATES, at_once(volumes, measured, RATES), strict=True))
    assert {rate: share for rate, share in found.items() if abs(share - 1) > CLOSE} == {}, found
    for place, (what, _) in zip(volumes, RATES, strict=True):
        place.manager.qos.disable([place.name])
        assert BLOCK * 2000 / place.direct(what, 2000) > 4_000_000


def written_buffered(place: Place, limit: int) -> float:
    """The device's rate while a buffered write is brought to it, as a share of its limit."""
    place.limit(write_bw=limit)
    before = place.sectors_written()
    seconds = place.group.run(
        "dd",
        "if=/dev/zero",
        f"of={place.device}",
        "bs=64k",
        f"count={max(int(limit * SECONDS / 65536), 1)}",
        "conv=notrunc,fsync",
    )
    return (place.sectors_written() - before) * SECTOR / seconds / limit


def test_buffered_writes_reach_the_device_at_the_limit(places: Places) -> None:
    found = at_once(places(len(BUFFERED)), written_buffered, BUFFERED)
    assert [share for share in found if abs(share - 1) > CLOSE] == [], found


@pytest.mark.parametrize("change", ["edit", "apply", "disable", "switch"])
def test_a_change_acts_within_a_second(places: Places, change: str) -> None:
    [place] = places(1)
    manager = place.manager
    place.limit(write_bw=100_000)
    writer = place.group.start(
        "dd", "if=/dev/zero", f"of={place.device}", "bs=4k", "count=16000", "oflag=direct"
    )
    try:
        assert rate_of(place, 1.0) == pytest.approx(100_000, rel=0.15)
        if change == "edit":
            place.limit(write_bw=1_000_000)
        elif change == "apply":
            manager.qos.create("other", {**OPEN, "write_bw": 1_000_000})
            manager.qos.apply("other", [place.name])
        elif change == "disable":
            manager.qos.disable([place.name])
        else:
            manager.qos.disable([], everywhere=True)
        time.sleep(0.9)
        if change in ("edit", "apply"):
            assert rate_of(place, 2.0) == pytest.approx(1_000_000, rel=CLOSE)
        else:
            writer.wait(5)
    finally:
        writer.kill()
        writer.communicate()


def rate_of(place: Place, seconds: float) -> float:
    """Bytes per second that reach the device meanwhile."""
    before, began = place.sectors_written(), time.monotonic()
    time.sleep(seconds)
    return (place.sectors_written() - before) * SECTOR / (time.monotonic() - began)
