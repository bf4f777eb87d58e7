"""Wrong input for a cloud is refused while Terraform plans; the examples are planned."""

from collections.abc import Iterator
from typing import Any

import pytest

from lab.cloud import TARGETS, described
from lab.hosts import keygen
from lab.machine import ROOT
from lab.provider import Provider
from lab.terraform import Terraform

A = {"roles": ["master", "etcd"]}


@pytest.fixture(scope="module", params=TARGETS)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A root, and variables that are right."""
    folder = tmp_path_factory.mktemp(request.param)
    keygen(folder / "id")
    with Provider(request.param) as provider:
        yield (
            Terraform(folder / "root", request.param, provider.environment),
            described(request.param, folder),
        )


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        ({"a": {"roles": []}}, "exactly one node with the role master; here 0 have it"),
        ({"a": A, "b": {"roles": ["master"]}}, "role master; here 2 have it"),
        ({"a": A, "b": {"roles": ["etcd"]}}, "give it to 1, 3 or 5 nodes"),
        ({"a": A, "b": {"roles": ["mon"]}}, "There is no such role: mon (b)"),
        ({"a": A, "B_1": {}}, "A node's name is not valid: B_1"),
        ({"a": A, "b": {"size": "large one"}}, "large one (b)"),
        ({"a": A, "b": {"data_disks": {"x": 9}}}, "from 10 to 16384; see b/x (9)"),
        ({"a": A, "b": {"data_disks": {"x": 10.5}}}, "from 10 to 16384; see b/x (10.5)"),
        ({"a": A, "b": {"data_disks": {"x-y": 10}}}, "A data disk's name is not valid: x-y (b)"),
        ({"a": {**A, "instance": False}}, "exactly one node with the role master; here 0 have it"),
    ],
)
def test_wrong_nodes_are_refused(root: Any, nodes: dict[str, Any], sentence: str) -> None:
    terraform, variables = root
    terraform.variables = variables | {"nodes": nodes}
    assert sentence in terraform.refused()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"cluster": "My Cluster"}, 'The cluster name "My Cluster" is not valid'),
        ({"region": "the moon"}, 'There is no region "the moon"'),
        ({"allowed_cidrs": []}, "allowed_cidrs is empty"),
        ({"allowed_cidrs": ["0.0.0.0/0"]}, "allowed_cidrs is open to the world: 0.0.0.0/0"),
        ({"allowed_cidrs": ["::/0"]}, "allowed_cidrs is open to the world: ::/0"),
        ({"allowed_cidrs": ["192.0.2.1/24"]}, "what is no network: 192.0.2.1/24"),
        ({"allowed_cidrs": ["anywhere"]}, "what is no network: anywhere"),
        ({"allowed_cidrs": ["192.0.2.0/24", "192.0.2.8/29"]}, "Networks overlap in allowed_cidrs"),
        ({"allowed_cidrs": ["192.0.2.0/24", "192.0.2.0/24"]}, "Networks overlap in allowed_cidrs"),
        ({"allowed_cidrs": ["10.0.0.0/8"]}, "or with the cluster's own"),
        ({"network": "10.42.0.0"}, "network is no IPv4 network"),
        ({"network": "10.42.0.1/20"}, "network is no IPv4 network"),
        ({"network": "8.8.0.0/20"}, "must be a private range"),
        ({"network": "10.0.0.0/8"}, "a length from /16 to /26"),
        ({"ssh": {"key_file": "/nowhere/key"}}, "There is no file /nowhere/key"),
        ({"ssh": {}}, "There is no public SSH key"),
        ({"ssh": {"public_key": "ssh-ed25519 AAAA", "user": "root"}}, "and not root"),
        (
            {"archive": {"bucket": "A", "pgp_key": "keybase:lab"}},
            "archive.bucket is no bucket's name",
        ),
        ({"host_keys": {"a": "mine"}}, "host_keys has what is no public SSH host key"),
        ({"image": "the newest"}, 'There is no image "the newest"'),
        ({"pillar": "/nowhere"}, "There is no /nowhere/top.sls"),
    ],
)
def test_wrong_settings_are_refused(root: Any, given: dict[str, Any], sentence: str) -> None:
    terraform, variables = root
    terraform.variables = variables | given
    assert sentence in terraform.refused()


def test_two_families_of_addresses_are_planned(root: Any) -> None:
    terraform, variables = root
    cidrs = ["192.0.2.0/25", "192.0.2.128/25", "2001:db8::/32", "2001:db9::1/128"]
    terraform.variables = variables | {"allowed_cidrs": cidrs}
    assert all(does == ["create"] for does in terraform.plan().values())


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_examples_are_planned(root: Any, size: str) -> None:
    terraform, variables = root
    terraform.variables = {"ssh": variables["ssh"]}
    example = ROOT / f"terraform/{terraform.root}/examples/{size}.tfvars"
    key = terraform.folder / "ssh.tfvars.json"
    key.write_text(f'{{"ssh": {{"key_file": "{variables["ssh"]["key_file"]}"}}}}')
    words = (f"-var-file={example}", f"-var-file={key}", f"-state={terraform.state}")
    assert "0 to change, 0 to destroy" in terraform("plan", "-input=false", *words)


def test_files_are_valid_and_terraforms_own_tests_pass(root: Any) -> None:
    terraform, _ = root
    terraform("validate")
    said = terraform("test")
    assert "0 failed" in said and "Success! 0 passed" not in said
