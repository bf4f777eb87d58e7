"""How a host is reached: nothing goes to one that shows another key, nor to a bastion that does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.hosts import NETWORK, Hosts
from lab.private import node
from lab.terraform import Terraform

NOWHERE = f"{NETWORK}.99"


class Way:
    """A node behind a bastion; its bootstrap fails at once, so that what fails before it shows."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self.bastion, self.node = hosts.start("bastion"), hosts.start("n")
        self.node.machine.path("/opt/libstorage").write_text("a file where a folder belongs\n")
        self.terraform = Terraform(folder, "private")
        self._key = str(hosts.folder / "id")

    def said(self, of_node: dict[str, Any], of_bastion: dict[str, Any]) -> str:
        """What an apply says, where node and bastion are described so."""
        bastion = {"address": self.bastion.address, "host_key": self.bastion.host_key}
        self.terraform.variables = {
            "cluster": "lab",
            "ssh": {"key_file": self._key, "bastion": bastion | of_bastion},
            "nodes": {"n": node(self.node, ["master", "etcd"]) | of_node},
        }
        return self.terraform.fails()

    def came(self) -> tuple[int, int]:
        """How many have come in so far, at the bastion and at the node."""
        journal = ("journalctl", "--unit=ssh", "--output=cat")
        hosts = (self.bastion, self.node)
        inside = [host.machine(*journal).count("Accepted publickey") for host in hosts]
        return inside[0], inside[1]


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    folder = tmp_path_factory.mktemp("way")
    with Hosts(folder / "hosts") as hosts:
        yield Way(folder / "terraform", hosts)


def test_the_bootstrap_goes_through_the_bastion(way: Way) -> None:
    assert "n: install.sh failed with exit status" in way.said({}, {})
    assert all(way.came())
    assert f"{NETWORK}.1 port" not in way.node.machine("journalctl", "--unit=ssh", "--output=cat")


def test_a_bastion_with_another_key_gets_nothing(way: Way) -> None:
    before = way.came()
    said = way.said({}, {"host_key": way.node.host_key})
    names = "is not the host that ssh.bastion.host_key names, and was sent nothing"
    assert f"n: the bastion {way.bastion.address} {names}" in said
    assert "install.sh failed" not in said
    assert way.came() == before


def test_a_host_with_another_key_behind_a_bastion_gets_nothing(way: Way) -> None:
    before = way.came()
    said = way.said({"host_key": way.bastion.host_key}, {})
    names = "is not the host that host_key names, and was sent nothing"
    assert f"n: {way.node.address} {names}" in said
    bastion, inside = way.came()
    assert bastion > before[0] and inside == before[1]


@pytest.mark.parametrize(
    ("of_node", "of_bastion", "sentence"),
    [
        ({}, {"address": NOWHERE}, f"n: the bastion {NOWHERE} cannot be reached by SSH"),
        ({"address": NOWHERE}, {}, f"n: {NOWHERE} cannot be reached by SSH from the bastion "),
    ],
)
def test_who_is_not_there_is_named(
    way: Way, of_node: dict[str, Any], of_bastion: dict[str, Any], sentence: str
) -> None:
    assert sentence in way.said(of_node, of_bastion)
