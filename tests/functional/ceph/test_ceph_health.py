"""How full Ceph's pool is, and how Ceph is: told, and heeded; with a real ceph-mgr that counts."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.ceph import POOL, Ceph
from lab.ceph import SIZE as OSD_SIZE
from lab.site import Site
from libstorage.errors import NoSpace
from libstorage.manager import Given, VolumeManager
from libstorage.records import JSON, MB

LIMIT = 80  # percent
SIZE = 64  # MB of the volume that is written to
QUOTA = 50  # MB
AT_ONCE = 5.0
"""Seconds; what waits for room does so for ever, and what gives up for Ceph after 20."""


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """One of our own: it is filled, and made unwell."""
    with Ceph(tmp_path_factory.mktemp("ceph") / "c") as cluster:
        cluster.start("mgr")
        cluster("health", "mute", "MGR_MODULE_ERROR", "--sticky")
        until(lambda: cluster("health")["status"] == "HEALTH_OK", 60)
        yield cluster


@pytest.fixture
def site(tmp_path: Path, ceph: Ceph) -> Iterator[Site]:
    settings = {**ceph.settings(), "capacity": {"near_full": LIMIT}}
    # The host's own disk and memory are no part of this.
    settings["policies"] = {"distributed": "ds-ceph"}
    with Site(tmp_path / "site", **settings) as made:
        yield made
    set_quota(ceph, 0)
    for image in ceph.images(made):
        ceph.rbd("rm", "--no-progress", f"{POOL}/{made.config.ceph['namespace']}/{image}")
    until(lambda: stored(ceph) < MB and "full" not in flags(ceph))


def until(reached: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def set_quota(ceph: Ceph, mb: int) -> None:
    ceph("osd", "pool", "set-quota", POOL, "max_bytes", str(mb * MB))


def stored(ceph: Ceph) -> int:
    """Bytes in the pool, as far as they are counted."""
    [pool] = ceph("df")["pools"]
    return int(pool["stats"]["stored"])


def flags(ceph: Ceph) -> list[str]:
    [pool] = ceph("osd", "pool", "ls", "detail")
    return str(pool["flags_names"]).split(",")


def wish(size: int = SIZE) -> Given:
    return Given(policy="distributed", fstype="raw", mb_size=size)


def write(manager: VolumeManager, ceph: Ceph, mb: int) -> None:
    """Write so much into the volume ``v``, and wait until it is counted."""
    device = manager.mount("v")["Mountpoint"]
    words = ("if=/dev/urandom", f"of={device}", "bs=1M", f"count={mb}", "oflag=direct")
    subprocess.run(["dd", *words], check=True, capture_output=True, timeout=60)
    manager.unmount("v")
    until(lambda: stored(ceph) >= mb * MB)


def told(manager: VolumeManager, verb: str = "near_full") -> list[JSON]:
    return manager.events(filters=[f"verb={verb}"])


def kinds(manager: VolumeManager) -> list[str]:
    return [finding["Kind"] for finding in manager.doctor()]


def test_the_capacity_is_the_pool_s_for_what_volumes_hold(
    ceph: Ceph, site: Site, manager: VolumeManager
) -> None:
    manager.create("v", wish())
    write(manager, ceph, 20)
    controller = manager._context.controllers.named("ds-ceph")
    # What is left is told later than what is stored.
    until(lambda: controller.capacity()[1] < 0.95 * OSD_SIZE - 15 * MB)
    total, available = controller.capacity()
    assert total - available == pytest.approx(20 * MB, abs=MB)
    # 5 % of its disk are beyond what Ceph counts as full.
    assert total == pytest.approx(0.95 * OSD_SIZE, rel=0.02)
    set_quota(ceph, QUOTA)
    total, available = controller.capacity()
    assert total == QUOTA * MB and available == pytest.approx(30 * MB, abs=MB)
    [row] = manager.capacity()
    assert (row["Controller"], row["On"], row["Err"]) == ("ds-ceph", "pool volumes", "")
    assert (row["Total"], row["Promised"]) == (QUOTA * MB, SIZE * MB)
    assert row["Available"] == pytest.approx(30 * MB, abs=MB)
    assert (row["Health"], row["Checks"]) == ("HEALTH_OK", [])
    with pytest.raises(NoSpace, match="has 50 MB in all, asked 51"):
        manager.create("large", wish(QUOTA + 1))


def test_a_pool_near_full_is_told_once_whoever_looks(
    ceph: Ceph, site: Site, manager: VolumeManager, other: VolumeManager
) -> None:
    manager.create("v", wish())
    set_quota(ceph, QUOTA)
    write(manager, ceph, 42)
    for one in (manager, other, manager):
        assert "capacity" in kinds(one)
    [event] = told(manager)
    assert event["Text"] == "Storage near full: 84 % of 50 MB used on pool volumes"
    assert event["Volume"] == "ds-ceph" and event["Data"]["On"] == "pool volumes"
    assert list(site.values("capacity/")) == ["capacity/ds-ceph/@pool volumes"]
    set_quota(ceph, 10 * QUOTA)
    assert kinds(other) == [] == kinds(manager)
    assert len(told(manager, "room_again")) == len(told(manager)) == 1


def test_the_agent_sees_what_is_written_into_volumes(
    ceph: Ceph, site: Site, manager: VolumeManager
) -> None:
    manager.create("v", wish())
    set_quota(ceph, QUOTA)
    site.python("manager.agent().run()")
    write(manager, ceph, 42)
    until(lambda: told(manager))
    set_quota(ceph, 0)
    until(lambda: told(manager, "room_again"))
    assert len(told(manager)) == 1


def by_quota(ceph: Ceph) -> None:
    set_quota(ceph, QUOTA)


def by_an_osd(ceph: Ceph) -> None:
    set_ratios(ceph, 0.008, 0.009, 0.01)


def set_ratios(ceph: Ceph, *ratios: float) -> None:
    """From which shares an OSD is near full, takes no more of others, and is full."""
    for kind, ratio in zip(("nearfull", "backfillfull", "full"), ratios, strict=True):
        ceph("osd", f"set-{kind}-ratio", str(ratio))


@pytest.mark.parametrize(
    ("fill", "says"), [(by_quota, "its quota is reached"), (by_an_osd, "an OSD is")]
)
def test_a_full_pool_refuses_at_once_and_lets_go(
    ceph: Ceph, site: Site, manager: VolumeManager, fill: Callable[[Ceph], None], says: str
) -> None:
    manager.create("v", wish())
    manager.create("w", wish(8))
    write(manager, ceph, 60)
    fill(ceph)
    try:
        until(lambda: "full" in flags(ceph))
        began = time.monotonic()
        for verb in (
            lambda: manager.create("new", wish(8)),
            lambda: manager.resize("v", SIZE + 1),
        ):
            with pytest.raises(NoSpace, match=f"full: {says}"):
                verb()
        with pytest.raises(NoSpace, match="is full"):
            manager.snapshot_create("w@s")
        assert {"capacity", "health"} <= set(kinds(manager))
        assert sorted(record["Name"] for record in manager.ls()) == ["v", "w"]
        manager.rm("v")  # what frees room goes on
        assert time.monotonic() - began < 5 * AT_ONCE
    finally:
        set_ratios(ceph, 0.85, 0.9, 0.95)
    until(lambda: "full" not in flags(ceph))
    manager.create("new", wish(8))


def test_the_doctor_says_what_ceph_says_of_itself(
    ceph: Ceph, site: Site, manager: VolumeManager
) -> None:
    assert manager.doctor() == []
    ceph("osd", "set", "noout")
    try:
        [finding] = manager.doctor(fix=True)
        assert (finding["Kind"], finding["Name"], finding["Fixed"]) == ("health", "ds-ceph", None)
        expected = "The storage of ds-ceph says HEALTH_WARN: noout flag(s) set (OSDMAP_FLAGS)."
        assert finding["Says"] == expected
        [row] = manager.capacity()
        assert row["Health"] == "HEALTH_WARN"
        assert row["Checks"] == ["noout flag(s) set (OSDMAP_FLAGS)"]
        ceph("health", "mute", "OSDMAP_FLAGS")
        assert manager.doctor() == []
    finally:
        ceph("osd", "unset", "noout")
