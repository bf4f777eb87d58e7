"""Droplets that are real hosts: cloud-init boots them, Terraform makes a Salt cluster of them."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cloud import described
from lab.hosts import Hosts, baked
from lab.provider import Provider
from lab.provider.clouds import SECRET
from lab.terraform import Terraform


class Droplets:
    """A cloud of real hosts."""

    def __init__(self, folder: Path, hosts: Hosts, layer: Path) -> None:
        self.hosts = hosts
        self._layer = layer
        self._names: dict[str, str] = {}
        self.provider = Provider("digitalocean", self._boot, self._off)
        self._folder = folder

    def cluster(self) -> Terraform:
        """The root on this cloud, with two nodes."""
        terraform = Terraform(self._folder, "digitalocean", self.provider.environment)
        terraform.variables = described("digitalocean", self._folder) | {
            "ssh": {"key_file": str(self.hosts.folder / "id")},
            "archive": {"bucket": "lab-archive"},
            "nodes": {"a": {"roles": ["master", "etcd"]}, "b": {"roles": ["docker"]}},
        }
        return terraform

    def of(self, node: str) -> Any:
        """The host that is a node now."""
        return self.hosts[f"lab-{node}"]

    def _boot(self, values: dict[str, Any]) -> dict[str, Any]:
        name = str(values["name"])
        meta = {"instance-id": values["id"], "local-hostname": name}
        key = (self.hosts.folder / "id.pub").read_text().strip()
        seed = {
            "user-data": values["user_data"],
            "meta-data": json.dumps(meta | {"public-keys": [key]}),
        }
        host = self.hosts.start(name, self._layer, seed)
        self._names[values["id"]] = name
        return {"ipv4_address": host.address, "ipv4_address_private": host.address}

    def _off(self, identity: str) -> None:
        self.hosts.stop(self._names.pop(identity))


@pytest.fixture(scope="module")
def droplets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Droplets]:
    folder = tmp_path_factory.mktemp("d")
    layer = baked()  # among the hosts there is no way out to fetch packages
    with Hosts(folder / "hosts") as hosts:
        droplets = Droplets(folder / "root", hosts, layer)
        with droplets.provider:
            yield droplets


@pytest.fixture(scope="module")
def terraform(droplets: Droplets) -> Terraform:
    """The cluster, applied."""
    terraform = droplets.cluster()
    terraform.apply()
    return terraform


def salt(droplets: Droplets, *words: str) -> Any:
    command = ("/opt/libstorage/bin/salt", "--static", "--out=json", "--timeout=20", "*")
    return json.loads(droplets.of("a").machine(*command, *words))


def test_apply_ends_when_every_droplet_answers(droplets: Droplets, terraform: Terraform) -> None:
    assert salt(droplets, "test.ping") == {"a": True, "b": True}
    assert salt(droplets, "grains.get", "roles") == {"a": ["etcd", "master"], "b": ["docker"]}
    assert terraform.plan() == {}


def test_first_boot_does_what_user_data_says(droplets: Droplets, terraform: Terraform) -> None:
    machine = droplets.of("b").machine
    status = machine.run("cloud-init", "status", "--long").stdout
    assert "status: done" in status, machine("cat", "/var/log/cloud-init.log")[-3000:]
    log = machine("cat", "/var/log/cloud-init.log")
    assert "Traceback" not in log and "deprecated" not in log.lower()
    data = "/var/lib/cloud/instance/user-data.txt"
    assert "Valid" in machine("cloud-init", "schema", "--config-file", data)
    assert machine("hostname") == "b"
    assert machine("sh", "-c", "ls /etc/ssh/ssh_host_*") == (
        "/etc/ssh/ssh_host_ed25519_key\n/etc/ssh/ssh_host_ed25519_key.pub"
    )
    entry = machine("getent", "shadow", "terraform").split(":")
    assert entry[1].startswith("!")
    assert "NOPASSWD" in machine("cat", "/etc/sudoers.d/90-cloud-init-users")


def test_only_the_user_with_the_key_comes_in(droplets: Droplets, terraform: Terraform) -> None:
    host = droplets.of("b")
    options = ("-F", "/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=no")
    key = ("-oUserKnownHostsFile=/dev/null", "-i", str(droplets.hosts.folder / "id"))
    # cloud-init's answer to root comes at once and lingers
    said = subprocess.run(
        ["timeout", "4", "ssh", *options, *key, f"root@{host.address}", "id"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    ).stdout
    assert "Please login as the user" in said and "uid=0" not in said


def test_the_archives_key_is_on_the_master_alone(droplets: Droplets, terraform: Terraform) -> None:
    path = droplets.of("a").machine.path("/etc/salt/archive.json")
    assert json.loads(path.read_text())["secret_key"] == SECRET
    assert path.stat().st_mode & 0o777 == 0o600
    assert not droplets.of("b").machine.path("/etc/salt/archive.json").exists()
    lines = terraform.said.splitlines()
    assert SECRET not in "\n".join(x for x in lines if not x.startswith('{"format_version"'))


def test_a_replaced_droplet_is_a_node_again(droplets: Droplets, terraform: Terraform) -> None:
    known = Path(terraform.variables["known_hosts"])
    before = droplets.of("b")
    assert len(known.read_text().splitlines()) == 2
    terraform(
        "apply",
        "-auto-approve",
        *terraform.given(),
        '-replace=digitalocean_droplet.node["b"]',
        seconds=600,
    )
    assert droplets.of("b") is not before
    assert len(known.read_text().splitlines()) == 3
    assert salt(droplets, "test.ping") == {"a": True, "b": True}


def test_a_host_with_another_key_than_before_gets_nothing(
    droplets: Droplets, terraform: Terraform
) -> None:
    machine = droplets.of("b").machine
    machine("sh", "-c", "rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh")
    terraform.variables["nodes"]["b"]["roles"] = ["docker", "ceph"]
    said = terraform.fails()
    assert "is not the host that" in said and "known_hosts knows as" in said
    assert salt(droplets, "grains.get", "roles")["b"] == ["docker"]
