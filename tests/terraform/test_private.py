"""Hosts that are there already become a Salt cluster, and stay one as they come, change and go."""

import time

from lab.private import ROLES, Cluster

RUNNING = ("systemctl", "show", "salt-minion", "--property=MainPID", "--value")


def pillar(cluster: Cluster, key: str) -> dict[str, str]:
    """A pillar value as templates see it: Salt masks what pillar.get shows."""
    template = "string={{ pillar.KEY }}".replace("KEY", key)
    return cluster.salt("*", "slsutil.renderer", template, "default_renderer=jinja")


def test_apply_ends_when_every_node_answers(cluster: Cluster) -> None:
    assert cluster.salt("*", "test.ping") == dict.fromkeys(ROLES, True)
    versions = cluster.salt("*", "dsvolume.version")
    assert {name: answer["dsvolume"] for name, answer in versions.items()} == dict.fromkeys(
        ROLES, "0.1.0"
    )


def test_roles_are_grains_and_the_inventory_is_pillar(cluster: Cluster) -> None:
    grains = cluster.salt("*", "grains.get", "roles")
    assert grains == {name: sorted(roles) for name, roles in ROLES.items()}
    assert pillar(cluster, "cluster.roles.etcd") == dict.fromkeys(ROLES, "['a', 'b', 'c']")
    assert pillar(cluster, "dsvolume.policies.local") == dict.fromkeys(ROLES, "ds-local")


def test_only_the_nodes_keys_are_accepted_and_none_by_itself(cluster: Cluster) -> None:
    assert cluster.accepted() == sorted(ROLES)
    told = cluster.hosts["a"].machine("cat", "/etc/salt/master.d/libstorage.conf")
    assert "auto_accept: False" in told and "open_mode: False" in told


def test_second_apply_changes_nothing(cluster: Cluster) -> None:
    assert cluster.terraform.plan() == {}
    before = {name: cluster.hosts[name].machine(*RUNNING) for name in ROLES}
    start = time.monotonic()
    assert "0 added, 0 changed, 0 destroyed" in cluster.terraform.apply()
    assert time.monotonic() - start < 10
    assert {name: cluster.hosts[name].machine(*RUNNING) for name in ROLES} == before


def test_no_private_key_is_in_plan_state_or_output(cluster: Cluster) -> None:
    terraform = cluster.terraform
    terraform("plan", *terraform.given(), f"-out={terraform.folder / 'whole'}")
    shown = terraform("show", "-json", str(terraform.folder / "whole"))
    seen = terraform.said + terraform.state.read_text() + shown
    keys = [(cluster.hosts.folder / "id").read_text()]
    for name in ROLES:
        path = cluster.hosts[name].machine.path("/etc/salt/pki/minion/minion.pem")
        assert path.stat().st_mode & 0o077 == 0
        keys.append(path.read_text())
    keys.append(cluster.hosts["a"].machine("cat", "/etc/salt/pki/master/master.pem"))
    for key in keys:
        for line in key.splitlines()[1:-1]:
            assert line not in seen
    assert "PRIVATE KEY" not in seen
