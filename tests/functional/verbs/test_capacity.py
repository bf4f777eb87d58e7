"""Storage that is near full is told once per crossing, whoever looks; on disks really filled."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.site import Site, assert_clean
from libstorage.controllers.local import Local
from libstorage.errors import BackendError
from libstorage.host import memory
from libstorage.manager import Given, VolumeManager
from libstorage.records import JSON, MB

SIZE = 96  # MB of the disk
LIMIT = 80  # percent
PROCESSES = 12
GATHERING = 4.0
"""Seconds until all processes have started and begin together."""


class Disk:
    """A small filesystem of its own, filled to a share by a file that stands for others' data."""

    def __init__(self, point: Path) -> None:
        self.point = point
        self._ballast = point / "ballast"

    def used(self) -> float:
        """Percent."""
        found = os.statvfs(self.point)
        return 100 * (1 - found.f_bavail / found.f_blocks)

    def fill(self, percent: float) -> None:
        """Make it as full as said, as near as blocks let it."""
        self._ballast.unlink(missing_ok=True)
        found = os.statvfs(self.point)
        free = found.f_blocks * (1 - percent / 100)
        size = int((found.f_bavail - free) * found.f_frsize)
        with open(self._ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        assert abs(self.used() - percent) < 0.5

    def empty(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    image, point = tmp_path / "disk", tmp_path / "point"
    point.mkdir()
    with open(image, "wb") as file:
        file.truncate(SIZE * MB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    try:
        yield Disk(point)
    finally:
        subprocess.run(["umount", point], check=True)


@pytest.fixture
def site(disk: Disk) -> Iterator[Site]:
    """On that disk, and telling."""
    with Site(disk.point / "site", capacity={"near_full": LIMIT}) as made:
        yield made


def told(manager: VolumeManager, verb: str = "near_full") -> list[JSON]:
    return manager.events(filters=[f"verb={verb}"])


def keys(site: Site) -> list[str]:
    return list(site.values("capacity/"))


Act = Callable[[VolumeManager, int], object]

VERBS: dict[str, Act] = {
    "create": lambda m, n: m.create(f"new{n}", Given(policy="local")),
    "resize": lambda m, n: m.resize("db", 4 + n),
    "snapshot_create": lambda m, n: m.snapshot_create(f"db@s{n}"),
    "clone": lambda m, n: m.snapshot_clone("db@s", f"clone{n}"),
    "doctor": lambda m, n: m.doctor(),
}


@pytest.fixture
def db(manager: VolumeManager) -> str:
    """A volume of 4 MB with the snapshot ``s``."""
    manager.create("db", Given(policy="local", fstype="ext2", mb_size=4))
    manager.snapshot_create("db@s")
    return "db"


@pytest.mark.parametrize("verb", VERBS)
def test_each_crossing_is_told_once(
    site: Site, manager: VolumeManager, disk: Disk, db: str, verb: str
) -> None:
    numbers = iter(range(1, 100))

    def act() -> None:
        VERBS[verb](manager, next(numbers))

    act()
    assert told(manager) == [] and keys(site) == []
    disk.fill(88)
    for _ in range(3):
        act()
    assert len(told(manager)) == 1
    assert keys(site) == ["capacity/ds-local/node1"]
    disk.empty()
    for _ in range(2):
        act()
    assert len(told(manager)) == len(told(manager, "room_again")) == 1 and keys(site) == []
    disk.fill(88)
    for _ in range(2):
        act()
    assert len(told(manager)) == 2 and len(told(manager, "room_again")) == 1
    disk.empty()
    assert_clean(site)


def test_the_event_reads_as_operators_know_it_and_carries_bytes(
    manager: VolumeManager, disk: Disk
) -> None:
    manager.create("before", Given(policy="local"))
    disk.fill(88)
    manager.create("after", Given(policy="local"), by={"door": "cli"})
    [event] = told(manager)
    found = os.statvfs(disk.point)
    total = found.f_blocks * found.f_frsize
    percent = event["Data"]["Percent"]
    assert 87 <= percent <= 89
    assert event["Text"] == f"Storage near full: {percent} % of {total // MB} MB used on node1"
    assert event["Volume"] == event["Data"]["Controller"] == "ds-local"
    assert (event["Subject"], event["Success"]) == ("storage", True)
    assert event["By"] == {"door": "cli"}
    assert event["Data"]["Total"] == total
    assert event["Data"]["Available"] == pytest.approx(total * 0.12, abs=MB)


def test_a_verb_that_takes_the_room_itself_tells(
    manager: VolumeManager, disk: Disk, site: Site
) -> None:
    record = manager.create("big", Given(policy="local", fstype="raw", mb_size=8))["Volume"]
    site.image(record).write_bytes(os.urandom(8 * MB))
    disk.fill(LIMIT - 4)
    manager.create("small", Given(policy="local"))
    assert told(manager) == []
    manager.snapshot_create("big@copy")
    [event] = told(manager)
    assert event["Data"]["Percent"] >= LIMIT
    manager.snapshot_clone("big@copy", "one_more")
    assert len(told(manager)) == 1


def test_what_hovers_at_the_limit_is_told_once(
    site: Site, manager: VolumeManager, disk: Disk
) -> None:
    manager.create("v", Given(policy="local"))
    for percent in (LIMIT + 1, LIMIT - 1, LIMIT + 1, LIMIT - 1):
        disk.fill(percent)
        [finding] = manager.doctor()
        assert finding["Kind"] == "capacity"
    assert len(told(manager)) == 1 and told(manager, "room_again") == []
    disk.fill(LIMIT - 3)
    assert manager.doctor() == []
    assert len(told(manager, "room_again")) == 1


def test_twelve_processes_cross_together_and_one_tells(
    site: Site, manager: VolumeManager, disk: Disk
) -> None:
    manager.create("before", Given(policy="local"))
    disk.fill(88)
    code = """
name, at = arguments
time.sleep(max(0, at - time.time()))
print(json.dumps(manager.create(name, Given(policy="local"))["Created"]))
"""
    at = time.time() + GATHERING
    processes = [site.python(code, f"v{n}", at) for n in range(PROCESSES)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert json.loads(out) is True, err
    assert len(told(manager)) == 1
    assert len(manager.ls()) == PROCESSES + 1


def test_the_doctor_says_it_for_as_long_as_it_is_so(
    site: Site, manager: VolumeManager, disk: Disk
) -> None:
    manager.create("v", Given(policy="local"))
    disk.fill(88)
    for fix in (False, True, False):
        [finding] = manager.doctor(fix=fix)
        assert (finding["Kind"], finding["Name"]) == ("capacity", "ds-local")
        assert finding["Fixed"] is None
        assert "near full (from 80 %)" in finding["Says"]
    [event] = told(manager)
    assert event["By"] == {"door": "doctor"}
    disk.empty()
    assert manager.doctor() == []


def test_the_capacity_of_each_controller_is_told(
    manager: VolumeManager, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.create("v", Given(policy="local", fstype="ext4", mb_size=16))
    manager.create("w", Given(policy="ram", mb_size=4))
    local, ram = manager.capacity()
    found = os.statvfs(disk.point)
    assert (local["Controller"], local["On"], local["Promised"]) == ("ds-local", "node1", 16 * MB)
    assert local["Total"] == found.f_blocks * found.f_frsize
    assert local["Available"] == pytest.approx(found.f_bavail * found.f_frsize, abs=MB)
    assert (ram["Controller"], ram["Promised"]) == ("ds-ram", 4 * MB)

    def capacity(self: Local) -> tuple[int, int]:
        raise BackendError("it does not answer")

    monkeypatch.setattr(Local, "capacity", capacity)
    local, again = manager.capacity()
    assert (local["Total"], local["Err"]) == (0, "it does not answer")
    assert again["Total"] == ram["Total"] and not again["Err"]


def test_the_doctor_begins_no_store(site: Site, manager: VolumeManager, disk: Disk) -> None:
    disk.fill(88)
    assert [finding["Kind"] for finding in manager.doctor()] == ["capacity"]
    assert not (site.root / "store").exists()


def test_a_hundred_is_never_told(site: Site, disk: Disk) -> None:
    manager = site.manager(capacity={"near_full": 100})
    disk.fill(97)
    manager.create("v", Given(policy="local"))
    assert manager.doctor() == [] and told(manager) == [] and keys(site) == []


def test_nothing_is_told_by_a_test_or_by_what_changes_nothing(
    site: Site, manager: VolumeManager, disk: Disk, db: str
) -> None:
    manager.snapshot_clone("db@s", "again")
    disk.fill(88)
    with site.nothing_changes():
        manager.create("db", Given(policy="local"))
        manager.create("new", Given(policy="local"), test=True)
        manager.resize("db", 4)
        manager.resize("db", 5, test=True)
        manager.snapshot_create("db@t", test=True)
        manager.snapshot_clone("db@s", "again")
        manager.snapshot_clone("db@s", "new", test=True)
    assert told(manager) == []


@pytest.mark.parametrize("error", [BackendError("it does not answer"), OSError(5, "broken")])
def test_a_storage_that_cannot_be_asked_fails_no_verb(
    manager: VolumeManager, db: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def capacity(self: Local) -> tuple[int, int]:
        raise error

    monkeypatch.setattr(Local, "capacity", capacity)
    for verb in ("create", "resize", "snapshot_create", "clone"):
        VERBS[verb](manager, 1)
    assert told(manager) == []


def test_memory_is_watched_like_a_disk(
    site: Site, manager: VolumeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def available(share: float) -> Callable[[], tuple[int, int]]:
        return lambda: (1000 * MB, int(share * 1000 * MB))

    def create(name: str) -> Any:
        return manager.create(name, Given(policy="ram", mb_size=1))

    monkeypatch.setattr(memory, "available", available(0.5))
    create("calm")
    monkeypatch.setattr(memory, "available", available(0.1))
    create("one")
    create("two")
    [event] = told(manager)
    assert event["Text"] == "Storage near full: 90 % of 1000 MB used on node1"
    assert event["Volume"] == "ds-ram" and keys(site) == ["capacity/ds-ram/node1"]
    assert [(f["Kind"], f["Name"]) for f in manager.doctor()] == [("capacity", "ds-ram")]
    monkeypatch.setattr(memory, "available", available(0.5))
    create("three")
    assert len(told(manager, "room_again")) == 1
    # Each node and controller counts for itself.
    monkeypatch.setattr(memory, "available", available(0.1))
    site.manager("node2").create("four", Given(policy="ram", mb_size=1))
    assert keys(site) == ["capacity/ds-ram/node2"]
