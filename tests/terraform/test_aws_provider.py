"""The root for AWS with AWS's real provider; collected where a mirror of that is on the machine."""

import json

import pytest

from lab.cloud import mirror
from lab.machine import ROOT
from lab.terraform import Terraform


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    folder = tmp_path_factory.mktemp("real")
    config = folder / "terraform.rc"
    place = f'filesystem_mirror {{\n path = "{mirror()}"\n}}'
    config.write_text(f"provider_installation {{\n{place}\n}}\n")
    return Terraform(folder / "root", "aws", {"TF_CLI_CONFIG_FILE": str(config)})


def test_the_real_provider_finds_nothing_wrong(root: Terraform) -> None:
    root("validate")
    assert "3 passed, 0 failed" in root("test")


def test_what_the_schema_of_the_stand_in_says_is_true(root: Terraform) -> None:
    """Each attribute that the stand-in has, the real provider has, with the same type and flags."""
    ours = json.loads((ROOT / "tests/lab/provider/aws.json").read_text())
    theirs = json.loads(root("providers", "schema", "-json"))["provider_schemas"][ours["address"]]
    for part, there in (("resources", "resource_schemas"), ("data", "data_source_schemas")):
        for kind, described in ours[part].items():
            real = theirs[there][kind]["block"]["attributes"]
            for name, attribute in described["block"]["attributes"].items():
                for key, value in attribute.items():
                    assert real[name].get(key) == value, (kind, name, key)
