"""Hosts that let nobody in as root: all is done by a user with sudo, whose shell is plain."""

import json
from collections.abc import Iterator

import pytest

from lab.hosts import Hosts
from lab.private import Cluster

USER = "admin"
ROLES = {"a": ["master", "etcd"], "b": ["docker"]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two hosts with such a user, who may not use sudo yet; nothing is applied."""
    folder = tmp_path_factory.mktemp("sudo")
    with Hosts(folder / "hosts", *ROLES) as hosts:
        for name in ROLES:
            hosts[name].close(USER)
        cluster = Cluster(folder / "terraform", hosts, ROLES)
        cluster.terraform.variables["ssh"]["user"] = USER
        yield cluster


def test_a_user_without_sudo_is_named(cluster: Cluster) -> None:
    said = cluster.terraform.fails()
    for name in ROLES:
        address = cluster.hosts[name].address
        assert f"{name}: {USER} may not use sudo without a password at {address}" in said
        assert not cluster.hosts[name].machine.path("/etc/salt/minion.d").exists()


def test_a_user_with_sudo_makes_the_cluster(cluster: Cluster) -> None:
    for name in ROLES:
        cluster.hosts[name].trust(USER)
    cluster.terraform.apply()
    assert cluster.salt("*", "test.ping") == dict.fromkeys(ROLES, True)
    assert cluster.accepted() == sorted(ROLES)
    for name in ROLES:
        journal = cluster.hosts[name].machine("journalctl", "--unit=ssh", "--output=cat")
        assert f"Accepted publickey for {USER}" in journal
        assert "Accepted publickey for root" not in journal
    assert cluster.terraform.plan() == {}


def test_the_roster_has_that_user(cluster: Cluster) -> None:
    roster = json.loads(cluster.hosts["a"].machine("cat", "/etc/salt/roster"))
    assert roster["b"] == {
        "host": cluster.hosts["b"].address,
        "port": 22,
        "sudo": True,
        "user": USER,
    }


def test_the_cluster_ends(cluster: Cluster) -> None:
    cluster.terraform.destroy()
    for name in ROLES:
        state = cluster.hosts[name].machine.run("systemctl", "is-active", "salt-minion")
        assert state.stdout.strip() == "inactive"
