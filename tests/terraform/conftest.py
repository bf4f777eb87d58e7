"""Four hosts that Terraform has made a Salt cluster of, shared by the layer's tests."""

import os
from collections.abc import Iterator

import pytest

from lab.cloud import mirror
from lab.hosts import Hosts
from lab.private import ROLES, Cluster

collect_ignore = [] if os.environ.get("DSVOLUME_TERRAFORM") else ["test_private_changes.py"]
"""A soak's. It comes after test_private.py, as its last test ends their cluster."""
if not os.environ.get("DSVOLUME_RELEASE"):
    collect_ignore.append("test_release.py")
if not mirror():
    collect_ignore.append("test_aws_provider.py")


def pytest_report_header() -> str:
    return "" if mirror() else "no mirror of AWS's provider: without test_aws_provider.py"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The hosts after the first apply; whoever changes them puts them back."""
    folder = tmp_path_factory.mktemp("cluster")
    with Hosts(folder / "hosts", *ROLES) as hosts:
        cluster = Cluster(folder / "terraform", hosts)
        cluster.terraform.apply()
        yield cluster
