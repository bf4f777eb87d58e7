"""Hosts that are there change, come, go and die (`make soak ONLY=terraform`)."""

import json

from lab.private import ROLES, Cluster, node

RUNNING = ("systemctl", "show", "salt-minion", "--property=MainPID", "--value")


def pillar(cluster: Cluster, key: str) -> dict[str, str]:
    """A pillar value as templates see it: Salt masks what pillar.get shows."""
    template = "string={{ pillar.KEY }}".replace("KEY", key)
    return cluster.salt("*", "slsutil.renderer", template, "default_renderer=jinja")


def test_role_change_touches_that_host_alone(cluster: Cluster) -> None:
    others = [name for name in ROLES if name != "d"]
    before = {name: cluster.hosts[name].machine(*RUNNING) for name in others}
    cluster.nodes["d"]["roles"] = ["docker"]
    try:
        changed = set(cluster.terraform.plan())
        served = {"module.bootstrap.terraform_data.served", "module.join.terraform_data.answers"}
        assert changed == {'module.join.terraform_data.grains["d"]', *served}
        cluster.terraform.apply()
        assert cluster.salt("*", "grains.get", "roles")["d"] == ["docker"]
        assert pillar(cluster, "cluster.roles.ceph")["b"] == "['b', 'c']"
        assert {name: cluster.hosts[name].machine(*RUNNING) for name in others} == before
    finally:
        cluster.nodes["d"]["roles"] = ROLES["d"]
        cluster.terraform.apply()


def test_node_that_has_lost_its_code_gets_it_again(cluster: Cluster) -> None:
    """A node is not sent again what it has; that it has it is seen, not believed."""
    sent = json.loads(cluster.hosts["a"].machine("cat", "/srv/libstorage/sent.json"))
    assert sorted(sent) == sorted(ROLES)
    machine = cluster.hosts["b"].machine
    machine("systemctl", "stop", "salt-minion")
    machine("rm", "-r", "/var/cache/salt/minion")
    machine("systemctl", "start", "salt-minion")
    cluster.nodes["d"]["roles"] = ["docker"]
    try:
        cluster.terraform.apply()
        versions = cluster.salt("*", "dsvolume.version")
        assert {name: answer["dsvolume"] for name, answer in versions.items()} == dict.fromkeys(
            ROLES, "0.1.0"
        )
    finally:
        cluster.nodes["d"]["roles"] = ROLES["d"]
        cluster.terraform.apply()


def test_host_with_another_key_gets_nothing(cluster: Cluster) -> None:
    host = cluster.hosts.start("x")
    cluster.nodes["x"] = node(host, []) | {"host_key": cluster.hosts["c"].host_key}
    try:
        said = cluster.terraform.fails()
        assert "x: " in said and "is not the host that host_key names" in said
        assert not host.machine.path("/opt/libstorage").exists()
        assert cluster.accepted() == sorted(ROLES)
    finally:
        cluster.nodes.pop("x")
        cluster.terraform.apply()
        cluster.hosts.stop("x")


def test_failed_host_is_named_mended_and_removed(cluster: Cluster) -> None:
    """A plain host, behind a bastion; it fails, is mended, becomes a node, and leaves again."""
    host = cluster.hosts.start("e")
    ssh = cluster.terraform.variables["ssh"]
    ssh["bastion"] = {
        "address": cluster.hosts["a"].address,
        "host_key": cluster.hosts["a"].host_key,
    }
    cluster.nodes["e"] = node(host, ["docker"])
    broken = host.machine.path("/opt/libstorage")
    broken.write_text("a file where a folder belongs\n")
    try:
        said = cluster.terraform.fails()
        assert "e: install.sh failed" in said
        assert cluster.terraform.plan()['module.bootstrap.terraform_data.host["e"]'] == [
            "delete",
            "create",
        ]
        assert cluster.salt("*", "test.ping") == dict.fromkeys(ROLES, True)
        broken.unlink()
        cluster.terraform.apply()
        assert cluster.salt("*", "test.ping") == dict.fromkeys([*ROLES, "e"], True)
        journal = host.machine("journalctl", "--unit=ssh", "--output=cat")
        assert f"from {cluster.hosts['a'].address}" in journal
        assert "from 10.78.0.1 " not in journal
    finally:
        cluster.nodes.pop("e")
        cluster.terraform.apply()
    assert cluster.accepted() == sorted(ROLES)
    assert host.machine.run("systemctl", "is-active", "salt-minion").stdout.strip() == "inactive"
    assert not host.machine.path("/etc/salt/pki/minion/minion.pem").exists()
    cluster.hosts.stop("e")
    ssh.pop("bastion")
    cluster.terraform.apply()


def test_node_with_volumes_in_use_is_not_removed(cluster: Cluster) -> None:
    cluster.salt("d", "dsvolume.create", "held", "policy=ram", "size=8")
    cluster.salt("d", "dsvolume.mount", "held")
    entry = cluster.nodes.pop("d")
    try:
        said = cluster.terraform.fails()
        assert "d is not removed:" in said and "held" in said
        assert cluster.accepted() == sorted(ROLES)
    finally:
        cluster.nodes["d"] = entry
        cluster.salt("d", "dsvolume.unmount", "held")
        cluster.salt("d", "dsvolume.rm", "held")
        cluster.salt("d", "dsvolume.undrain")
        cluster.terraform.apply()
    assert cluster.terraform.plan() == {}


def test_dead_host_is_replaced(cluster: Cluster) -> None:
    from lab.hosts import baked

    cluster.hosts.stop("d")
    host = cluster.hosts.start("d", baked())
    cluster.nodes["d"] = node(host, ROLES["d"])
    cluster.terraform.apply()
    assert cluster.accepted() == sorted(ROLES)
    assert cluster.salt("*", "test.ping") == dict.fromkeys(ROLES, True)


def test_dead_host_does_not_block_the_end(cluster: Cluster) -> None:
    """The last test of the cluster: it destroys it."""
    cluster.hosts.stop("c")
    said = cluster.terraform.destroy()
    assert "c: leaves without having been drained" in said
    for name in ("a", "b", "d"):
        machine = cluster.hosts[name].machine
        assert machine.run("systemctl", "is-active", "salt-minion").stdout.strip() == "inactive"
    master = cluster.hosts["a"].machine.run("systemctl", "is-active", "salt-master")
    assert master.stdout.strip() == "inactive"
