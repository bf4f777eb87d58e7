"""
The story of four hosts that Terraform makes a Salt cluster of.

Each round has hosts of its own, with Salt installed and nothing of it started, in a network that
this process is in for as long.
"""

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Step, Story
from benchmarks.place import Place
from lab.hosts import Hosts, baked
from lab.private import ROLES, Cluster

ROUNDS = 3  # of a minute
SSH = ("ssh", "-F", "/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=no")
ALONE = ("/opt/libstorage/bin/salt-call", "--local", "test.ping")


def stories(place: Place) -> list[Story]:
    """All of them."""
    names = ("cluster.private_apply", "cluster.private_apply_noop")
    return [Story(names, lambda: _applies(place.root.parent), most=ROUNDS)]


def _applies(folder: Path) -> Callable[[int], Iterator[Step]]:
    """The first apply, up to an answer of every node; and one that has nothing to do."""
    baked()

    def round_(number: int) -> Iterator[Step]:
        at = folder / f"cluster{number}"
        with Hosts(at / "hosts", *ROLES) as hosts:
            terraform = Cluster(at / "terraform", hosts).terraform
            yield Step("cluster.private_apply", terraform.apply, partial(_alone, hosts))
            yield Step(
                "cluster.private_apply_noop", terraform.apply, partial(terraform, "validate")
            )

    return round_


def _alone(hosts: Hosts) -> None:
    """Salt starts once on every host at a time, asked over SSH, without a master."""
    known = ("-oUserKnownHostsFile=/dev/null", "-i", str(hosts.folder / "id"))
    children = [
        subprocess.Popen(
            [*SSH, *known, f"root@{hosts[name].address}", *ALONE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name in ROLES
    ]
    for child in children:
        said, _ = child.communicate(timeout=120)
        assert child.returncode == 0 and "True" in said, said
