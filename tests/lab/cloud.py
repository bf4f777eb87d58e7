"""Clusters at clouds that stand-ins play; with them, hosts that are but a name, or real ones."""

import json
import os
from pathlib import Path
from typing import Any

from lab.hosts import keygen
from lab.provider import Provider
from lab.terraform import Terraform

TARGETS = ("digitalocean", "aws")
INSTANCE = {"digitalocean": "digitalocean_droplet", "aws": "aws_instance"}
VOLUME = {"digitalocean": "digitalocean_volume", "aws": "aws_ebs_volume"}
ATTACHMENT = {"digitalocean": "digitalocean_volume_attachment", "aws": "aws_volume_attachment"}
BUCKET = {"digitalocean": "digitalocean_spaces_bucket", "aws": "aws_s3_bucket"}
REGION = {"digitalocean": "fra1", "aws": "eu-central-1"}
NODES: dict[str, Any] = {
    "a": {"roles": ["master", "etcd"]},
    "b": {"roles": ["etcd", "ceph"], "data_disks": {"osd": 100}},
    "c": {"roles": ["etcd", "docker"]},
}
SSH = """#!/bin/bash
# Every host is there, knows nothing, and does as it is told.
words="$*"
config=$2
[[ -z $SSH_IDENTITY ]] || grep -h HostKeyAlias "$config" >>{folder}/seen
[[ $words == *" true" ]] || {{ cat >>{folder}/sent; printf '%s\\n' "$words" >>{folder}/commands; }}
exit 0
"""


class Cloud:
    """
    A root applied to a cloud whose hosts are played by a program ``ssh`` that agrees to all.

    folder
        Where everything is that is left.
    target
        ``digitalocean`` or ``aws``.
    provider
        The stand-in, open.
    """

    def __init__(self, folder: Path, target: str, provider: Provider) -> None:
        self.folder, self.target, self.provider = folder, target, provider
        tools = folder / "bin"
        tools.mkdir(parents=True)
        ssh = tools / "ssh"
        ssh.write_text(SSH.format(folder=folder))
        ssh.chmod(0o755)
        path = f"{tools}:{os.environ['PATH']}"
        self.terraform = Terraform(folder, target, provider.environment | {"PATH": path})
        keygen(folder / "id")
        self.terraform.variables = described(target, folder)

    @property
    def nodes(self) -> dict[str, Any]:
        """The variable ``nodes``, to be changed."""
        nodes: dict[str, Any] = self.terraform.variables["nodes"]
        return nodes

    def volumes(self) -> dict[str, Any]:
        """The data disks by name, as the cloud has them."""
        return {
            str(one.get("name") or one["tags"]["Name"]): one
            for one in self.provider.of(VOLUME[self.target])
        }

    def sent(self) -> str:
        """All that went to hosts, commands and standard input."""
        return "".join(
            path.read_text(errors="replace")
            for path in (self.folder / "sent", self.folder / "commands")
            if path.exists()
        )


def mirror() -> Path | None:
    """A folder of providers that has AWS's real one, where this machine has such a folder."""
    name = "registry.terraform.io/hashicorp/aws"
    places = [Path.home() / ".terraform.d/plugins", Path("/usr/share/terraform/plugins")]
    places += [found.parents[2] for found in Path("/opt").glob(f"*/{name}")]
    return next((place for place in places if (place / name).is_dir()), None)


def described(target: str, folder: Path) -> dict[str, Any]:
    """The variables of a small cluster, its SSH key and known hosts in a folder."""
    return {
        "cluster": "lab",
        "region": REGION[target],
        "ssh": {"key_file": str(folder / "id")},
        "allowed_cidrs": ["198.51.100.0/24"],
        "known_hosts": str(folder / "known_hosts"),
        "nodes": json.loads(json.dumps(NODES)),
    }


def changes(found: dict[str, list[str]], kind: str) -> dict[str, list[str]]:
    """What a plan does to things of one type."""
    return {address: does for address, does in found.items() if address.startswith(f"{kind}.")}
