"""
The rates that limits come to on a real device, as shares of what was said.

    with places(manager, 2) as (one, two):
        assert abs(measured(one, ("write_bw", 200_000)) - 1) < CLOSE
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pytest import approx

from lab.cgroups import Cgroup, cgroup
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


class Place:
    """A volume in use by one cgroup, with a profile of its own."""

    def __init__(self, manager: VolumeManager, name: str, group: Cgroup, policy: str) -> None:
        self.manager = manager
        self.name = name
        self.group = group
        manager.create(name, Given(policy=policy, fstype="raw", mb_size=64))
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


@contextmanager
def places(manager: VolumeManager, count: int, policy: str = "local") -> Iterator[list[Place]]:
    """So many volumes, each in use by a cgroup of its own."""
    with ExitStack() as stack:
        groups = [stack.enter_context(cgroup(f"-{n}")) for n in range(count)]
        yield [Place(manager, f"v{n}", group, policy) for n, group in enumerate(groups)]
        for n in range(count):
            manager.unmount(f"v{n}")


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


def assert_each_limit_is_kept(places: list[Place]) -> None:
    """As many places as rates, each limited in its own way; then none is."""
    found = dict(zip(RATES, at_once(places, measured, RATES), strict=True))
    assert {rate: share for rate, share in found.items() if abs(share - 1) > CLOSE} == {}, found
    for place, (what, _) in zip(places, RATES, strict=True):
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


def acts_within_a_second(place: Place, change: str) -> None:
    """An edit, another profile, or no limit any more: the rate shows it within a second."""
    manager = place.manager
    place.limit(write_bw=100_000)
    writer = place.group.start(
        "dd", "if=/dev/zero", f"of={place.device}", "bs=4k", "count=16000", "oflag=direct"
    )
    try:
        assert rate_of(place, 1.0) == approx(100_000, rel=0.15)
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
            assert rate_of(place, 2.0) == approx(1_000_000, rel=CLOSE)
        else:
            assert writer.poll() == 0 or rate_of(place, 1.0) > 1_000_000
    finally:
        writer.kill()
        writer.communicate()


def rate_of(place: Place, seconds: float) -> float:
    """Bytes per second that reach the device meanwhile."""
    before, began = place.sectors_written(), time.monotonic()
    time.sleep(seconds)
    return (place.sectors_written() - before) * SECTOR / (time.monotonic() - began)
