"""Managers on a real Ceph, each test's volumes in a namespace of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.ceph import Ceph
from lab.site import Site
from libstorage.controllers import ceph as ceph_controller
from libstorage.host import loops
from libstorage.manager import VolumeManager


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceph forgets a dead client sooner in the lab, too."""
    monkeypatch.setattr(ceph_controller, "CLIENT_SECONDS", 6.0)


@pytest.fixture
def site(tmp_path: Path, ceph: Ceph) -> Iterator[Site]:
    with Site(tmp_path / "site", **ceph.settings()) as site:
        yield site
    left = loops.behind().values()
    # One whose file was unmounted first shows as the root.
    assert not [file for file in left if file.is_relative_to(tmp_path) or file == Path("/")]


@pytest.fixture
def manager(site: Site) -> VolumeManager:
    return site.manager()


@pytest.fixture
def other(site: Site) -> VolumeManager:
    """The manager of another node."""
    return site.manager("node2")
