"""Wrong input is refused while Terraform plans, with one sentence that says what to do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.terraform import Terraform

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000000"
A = {"address": "10.0.0.1", "host_key": KEY, "roles": ["master", "etcd"]}
B = {"address": "10.0.0.2", "host_key": KEY, "roles": []}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    yield Terraform(tmp_path_factory.mktemp("root"), "private")


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        ({"a": {**A, "roles": []}}, "exactly one node with the role master; here 0 have it"),
        ({"a": A, "b": {**B, "roles": ["master"]}}, "role master; here 2 have it"),
        ({"a": A, "b": {**B, "roles": ["etcd"]}}, "give it to 1, 3 or 5 nodes"),
        ({"a": A, "b": {**B, "roles": ["mon"]}}, "There is no such role: mon (b)"),
        ({"a": A, "b": {**B, "roles": ["ceph", "ceph"]}}, "A role is listed twice for b"),
        ({"a": A, "B_1": B}, "A node's name is not valid: B_1"),
        ({"a": A, "b": {**B, "address": "10.0.0.1"}}, "the same address: a (10.0.0.1), b"),
        ({"a": A, "b": {**B, "address": "-oProxyCommand=x"}}, "nor a host name: b"),
        ({"a": A, "b": {**B, "host_key": ""}}, "host_key is no public SSH host key for b"),
        ({"a": A, "b": {**B, "port": 70000}}, "whole number from 1 to 65535; see b"),
        ({}, "exactly one node with the role master; here 0 have it"),
    ],
)
def test_wrong_nodes_are_refused(root: Terraform, nodes: dict[str, Any], sentence: str) -> None:
    root.variables = {"cluster": "lab", "nodes": nodes}
    assert sentence in root.refused()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"cluster": "My Cluster"}, 'The cluster name "My Cluster" is not valid'),
        ({"ssh": {"key_file": "/nowhere/key"}}, "There is no file /nowhere/key"),
        ({"ssh": {"user": "-l root"}}, "An SSH user's name"),
        ({"ssh": {"bastion": {"address": "x", "host_key": "y"}}}, "ssh.bastion.host_key"),
        ({"pillar": "/nowhere"}, "There is no /nowhere/top.sls"),
    ],
)
def test_wrong_settings_are_refused(root: Terraform, given: dict[str, Any], sentence: str) -> None:
    root.variables = {"cluster": "lab", "nodes": {"a": A}, **given}
    assert sentence in root.refused()


def test_right_input_is_planned(root: Terraform) -> None:
    root.variables = {"cluster": "lab", "nodes": {"a": A, "b": B}}
    assert all(actions == ["create"] for actions in root.plan().values())


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_examples_are_planned(root: Terraform, size: str) -> None:
    example = Path(__file__).parents[2] / f"terraform/private/examples/{size}.tfvars"
    said = root("plan", "-input=false", f"-state={root.state}", f"-var-file={example}")
    assert "0 to change, 0 to destroy" in said


def test_files_are_formatted_and_valid(root: Terraform) -> None:
    root("fmt", "-check", "-recursive", "..")
    root("validate")


def test_terraforms_own_tests_pass(root: Terraform) -> None:
    assert "0 failed" in root("test")
