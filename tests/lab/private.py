"""Four hosts, and the root module ``private`` that makes a Salt cluster of them."""

import json
from pathlib import Path
from typing import Any

from lab.hosts import Host, Hosts
from lab.terraform import Terraform

ROLES = {
    "a": ["master", "etcd"],
    "b": ["etcd", "ceph"],
    "c": ["etcd", "ceph"],
    "d": ["ceph", "docker"],
}


class Cluster:
    """Hosts, and the root ``private`` that is applied to them; the master is ``a``."""

    def __init__(
        self, folder: Path, hosts: Hosts, described: dict[str, list[str]] | None = None
    ) -> None:
        roles = described or ROLES
        self.hosts = hosts
        self.terraform = Terraform(folder, "private")
        self.terraform.variables = {
            "cluster": "lab",
            "ssh": {"key_file": str(hosts.folder / "id")},
            "nodes": {name: node(hosts[name], roles[name]) for name in roles},
        }

    @property
    def nodes(self) -> dict[str, Any]:
        """The variable ``nodes``, to be changed."""
        nodes: dict[str, Any] = self.terraform.variables["nodes"]
        return nodes

    def salt(self, *words: str) -> dict[str, Any]:
        """What the minions answer to a call on the master, by minion."""
        command = ("/opt/libstorage/bin/salt", "--static", "--out=json", "--timeout=20")
        answers: dict[str, Any] = json.loads(self.hosts["a"].machine(*command, *words))
        return answers

    def accepted(self) -> list[str]:
        """The minions whose keys the master accepts; AssertionError where any other key waits."""
        said = json.loads(
            self.hosts["a"].machine("/opt/libstorage/bin/salt-key", "--list-all", "--out=json")
        )
        assert not any(said.get(f"minions_{kind}") for kind in ("pre", "denied", "rejected")), said
        return sorted(said["minions"])


def node(host: Host, roles: list[str]) -> dict[str, Any]:
    """A host as the variable ``nodes`` has it."""
    return {"address": host.address, "host_key": host.host_key, "roles": roles}
