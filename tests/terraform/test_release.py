"""Plain hosts with the other Debian release (`make soak ONLY=releases`)."""

from pathlib import Path

from lab.hosts import Hosts, other
from lab.private import Cluster

USER = "admin"
ROLES = {"a": ["master", "etcd"], "b": ["docker"]}


def test_plain_hosts_become_a_cluster(tmp_path: Path) -> None:
    release, tree = other()
    with Hosts(tmp_path / "hosts") as hosts:
        for name in ROLES:
            hosts.start(name, release=tree)
            hosts[name].close(USER)
            hosts[name].trust(USER)
        cluster = Cluster(tmp_path / "terraform", hosts, ROLES)
        cluster.terraform.variables["ssh"]["user"] = USER
        cluster.terraform.apply()
        assert cluster.salt("*", "test.ping") == dict.fromkeys(ROLES, True)
        assert cluster.salt("*", "grains.get", "oscodename") == dict.fromkeys(ROLES, release)
        for answer in cluster.salt("*", "dsvolume.version").values():
            assert answer["dsvolume"] == "0.1.0"
        assert cluster.terraform.plan() == {}
        cluster.terraform.destroy()
