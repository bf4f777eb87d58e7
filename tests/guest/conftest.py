"""
Tests on a kernel with cgroup v2, in a guest: see tests/lab/guest and tests/system/test_guest.py.

On the machine itself nothing of them is collected: they take cgroups, schedulers and loop devices
as theirs.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from guest.loads import CGROUPS, Load
from lab.site import Site
from libstorage.manager import Given, VolumeManager
from libstorage.records import JSON

collect_ignore_glob = [] if os.environ.get("LAB_GUEST") else ["test_*.py"]

Limited = Callable[..., JSON]
Start = Callable[..., Load]
Group = Callable[[str], str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for a module: making things takes its time under emulation."""
    with Site(tmp_path_factory.mktemp("guest") / "site") as made:
        yield made


@pytest.fixture(scope="module")
def manager(site: Site) -> VolumeManager:
    return site.manager()


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    """Makes a cgroup, and says its path in the hierarchy; it is gone after the module."""
    made: list[Path] = []

    def make(path: str) -> str:
        folder = CGROUPS / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        made.append(folder)
        return path

    yield make
    for folder in reversed(made):
        with suppress(OSError):  # its processes may be on their way out
            folder.rmdir()


@pytest.fixture(scope="module")
def limited(site: Site, manager: VolumeManager) -> Limited:
    """
    Makes and mounts a volume with a profile of its own name, and returns what info says of it.

    What is not said is not limited. The volume holds a written file ``data``.
    """

    def make(name: str, fstype: str = "ext4", cgroup: str = "", **limits: int) -> JSON:
        manager.qos.create(name, {**UNLIMITED, **limits})
        size = 64 if fstype == "ext4" else None
        given = Given(policy="local", fstype=fstype, mb_size=size, qos_profile=name, qos_state=True)
        manager.create(name, given)
        point = Path(manager.mount(name, cgroup=cgroup)["Mountpoint"])
        with open(point / "data", "wb") as file:
            file.write(os.urandom(1 << 20) * 8)
            os.fsync(file.fileno())
        return info(manager, name)

    return make


UNLIMITED = {"read_iops": 0, "read_bw": 0, "write_iops": 0, "write_bw": 0}


def info(manager: VolumeManager, name: str) -> dict[str, Any]:
    (view,) = manager.info(name)
    return view


def device(point: str) -> str:
    """``MAJOR:MINOR`` of what is mounted there."""
    mounted = os.stat(point).st_dev
    return f"{os.major(mounted)}:{os.minor(mounted)}"


@pytest.fixture
def start(site: Site) -> Start:
    """Starts a load that ends with the site at the latest."""

    def begin(kind: str, point: str, cgroup: str, block: int, seconds: float) -> Load:
        load = Load(kind, Path(point), cgroup, block, seconds)
        site.ends(load.process)
        return load

    return begin
