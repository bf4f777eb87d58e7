"""What all layers share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from lab.ceph import Ceph
from lab.etcd import Cluster
from lab.site import Site

settings.register_profile("lab", deadline=None)
settings.load_profile("lab")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A root of its own with managers and processes; all of it is gone after the test."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with Site(tmp_path / "site") as made:
        yield made


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real etcd of one member that stays well; whoever uses it takes a prefix of his own."""
    # No test cuts this one's power: what it has written need not reach the disk.
    with Cluster(tmp_path_factory.mktemp("etcd") / "one", unsafe_no_fsync="true") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A real Ceph that stays well; whoever uses it takes a namespace of his own."""
    with Ceph(tmp_path_factory.mktemp("ceph") / "one") as cluster:
        yield cluster
