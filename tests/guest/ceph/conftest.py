"""Managers in the guest, whose kernel has ``rbd`` and ``nbd``, on the real Ceph beside it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.ceph import POOL, Reached
from lab.site import Site

collect_ignore_glob = [] if os.environ.get("LAB_GUEST") else ["test_*.py"]

LEASE = 4.0
"""Seconds; an emulated processor may be late."""
CONF = Path("/run/lab/ceph/ceph.conf")
PREFIX = {"krbd": "/dev/rbd", "rbd-nbd": "/dev/nbd"}
MAPPERS = tuple(PREFIX)

Sited = Callable[[str], Site]
Strange = Callable[[Site, str], AbstractContextManager[Any]]


@pytest.fixture(scope="session")
def ceph() -> Reached:
    return Reached(CONF)


@pytest.fixture
def sited(ceph: Reached, tmp_path: Path) -> Iterator[Sited]:
    """Makes the site of a mapper; nothing stays mapped in the end."""
    made: list[Site] = []

    def make(mapper: str) -> Site:
        site = Site(tmp_path / mapper, lease=LEASE, timeout=60, **ceph.settings(mapper))
        made.append(site.__enter__())
        return site

    yield make
    for site in made:
        site.close()
    left = devices()
    for device in left:  # else all that follow fail, too
        unmap(Path(device))
    assert left == []


@pytest.fixture
def stranger(ceph: Reached) -> Strange:
    """Has an image open to write, and knows nothing of us."""

    @contextmanager
    def begin(site: Site, id: str) -> Iterator[Any]:
        import rados
        import rbd

        with (
            rados.Rados(conffile=str(ceph.conf), name="client.admin") as cluster,
            cluster.open_ioctx(POOL) as pool,
        ):
            pool.set_namespace(site.config.ceph["namespace"])
            with rbd.Image(pool, id) as image:
                yield image

    return begin


def devices() -> list[str]:
    """The devices that images of Ceph have on this host."""
    found = [f"/dev/rbd{entry.name}" for entry in Path("/sys/bus/rbd/devices").iterdir()]
    return found + [f"/dev/{pid.parent.name}" for pid in Path("/sys/block").glob("nbd*/pid")]


def unmap(device: Path) -> None:
    """Take a device away that a test has left."""
    if device.name.startswith("rbd"):
        number = device.name.removeprefix("rbd")
        Path("/sys/bus/rbd/remove_single_major").write_text(f"{number} force")
    else:
        subprocess.run(["rbd-nbd", "--conf", CONF, "unmap", device], check=True)
