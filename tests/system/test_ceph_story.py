"""Ceph and two hosts with Docker: the seed's story, and rates before and after."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.ceph import Ceph
from lab.cli import Cli, plugin_of_docker
from lab.docker import IMAGE
from lab.etcd import Cluster
from lab.pair import Host, Pair, tidy
from lab.site import assert_clean
from lab.story import FRONT, Story

TEXT = Path(__file__).with_name("ceph_story.txt")


@pytest.fixture(scope="module")
def pair(
    etcd: Cluster, ceph: Ceph, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Host, Host]]:
    folder = tmp_path_factory.mktemp("pair")
    with Pair(folder, etcd, runtime="dsvolume", **ceph.settings()) as pair:
        yield pair


@pytest.fixture
def hosts(pair: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    yield pair
    tidy(pair)


def on(hosts: tuple[Host, Host]) -> str:
    """Shell functions ``node1`` and ``node2`` that let a command be of that host."""
    return "\n".join(
        f"{host.node}() {{ DOCKER_HOST=unix://{host.engine.socket} "
        f'DSVOLUME_SOCKET={host.bridge.admin} "$@"; }}'
        for host in hosts
    )


def test_the_seeds_story_on_two_hosts(hosts: tuple[Host, Host], ceph: Ceph, tmp_path: Path) -> None:
    one, two = hosts
    config = plugin_of_docker(tmp_path / "docker")
    cli = Cli(one.bridge.admin, DOCKER_CONFIG=str(config))
    story = Story(TEXT, one.site.config.mount_root, two.site.config.mount_root)
    front = f"{FRONT}\n{on(hosts)}\n"
    assert story.told(lambda command: cli.run(["bash", "-c", front + command])) == story.lines
    cli.tidy()
    for host in hosts:
        # The copies of profiles on a node's disk follow with its agent's next look.
        doctor = host.site.manager().doctor
        until(lambda look=doctor: look() == [])
        assert_clean(host.site)
    assert ceph.images(one.site) == []


# -- faults and rates

WRITES = "n=0; while n=$((n+1)); do echo $n >> /x/log; sync /x/log; echo $n; sleep PAUSE; done"
"""A container says a number when the volume has it."""
SECONDS = float(os.environ.get("DSVOLUME_AWAY", "6"))
"""For so long the OSD is stopped; 30 in the soak."""
VOLUMES = int(os.environ.get("DSVOLUME_VOLUMES", "6"))
"""So many under a store that is lost; 100 in the soak."""
PATIENCE = 30 + VOLUMES
"""Seconds, on two cores."""
FREE = 250_000
"""Bytes per second that a volume without limits gives at the least, on a busy machine too."""
KIB = int(os.environ.get("DSVOLUME_KIB", "16"))
"""So much is read at 2,000 B/s; 64 in the soak. Sixteen times that at 50,000 B/s."""


def writing(host: Host, volume: str, pause: float = 0.2) -> str:
    """A container that writes to a volume every so many seconds; its id."""
    options = ("--detach", "--network=none", "-v", f"{volume}:/x")
    return host.engine(
        "run", *options, IMAGE, "sh", "-c", WRITES.replace("PAUSE", str(pause)), seconds=120
    )


def said(host: Host, container: str) -> list[str]:
    return host.engine("logs", container).split()


def until(reached: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def test_an_osd_that_stops_loses_nothing(hosts: tuple[Host, Host], ceph: Ceph) -> None:
    one, two = hosts
    one.create("far", policy="distributed", size=32)
    one.create("near", policy="local", fstype="ext4", size=8)
    far, near = writing(one, "far"), writing(one, "near")
    until(lambda: said(one, far) and said(one, near))
    ceph.signal("osd", signal.SIGSTOP)
    try:
        time.sleep(0.5)
        stood, went, began = len(said(one, far)), len(said(one, near)), time.monotonic()
        number = 0
        while time.monotonic() < began + SECONDS:
            number += 1
            before = time.monotonic()
            assert one.cli("snapshot", "create", "-v=near", f"s{number}").status == 0
            assert one.cli("snapshot", "rm", f"near@s{number}").status == 0
            assert time.monotonic() - before < 3, "other volumes are not affected"
        assert len(said(one, far)) <= stood + 1
        assert len(said(one, near)) > went + SECONDS
    finally:
        ceph.signal("osd", signal.SIGCONT)
    until(lambda: len(said(one, far)) > stood + 10, 60)
    one.engine("kill", far, near)
    until(lambda: one.site.values("attachments/") == {})
    told = said(one, far)
    held = two.engine.run("-v", "far:/x", IMAGE, "cat", "/x/log").split()
    assert held[: len(told)] == told == [str(n + 1) for n in range(len(told))]


@pytest.mark.timeout(1800)
def test_a_lost_store_is_made_anew_and_containers_never_notice(hosts: tuple[Host, Host]) -> None:
    used: dict[str, tuple[Host, str]] = {}
    for number in range(VOLUMES):
        host, name = hosts[number % 2], f"v{number}"
        host.create(name, policy="distributed", size=32)
        used[name] = (host, writing(host, name, max(0.2, VOLUMES / 50)))
    assert hosts[0].cli("snapshot", "create", "-v=v0", "kept").status == 0
    until(lambda: all(said(host, container) for host, container in used.values()), PATIENCE)
    until(lambda: all(row["Containers"] for row in records(hosts[0])), PATIENCE)
    before = [records(host) for host in hosts]

    hosts[0].site.store.delete_range("", "\x7f")
    assert hosts[1].cli("ls").status == 1
    assert hosts[0].cli("doctor", "--rebuild").status == 0
    went = {name: len(said(host, container)) for name, (host, container) in used.items()}
    until(lambda: [records(host) for host in hosts] == before, PATIENCE)
    for name, (host, container) in used.items():
        until(lambda: len(said(host, container)) > went[name] + 5, PATIENCE)  # noqa: B023
        host.engine("kill", container)
    until(lambda: hosts[0].site.values("attachments/") == {}, PATIENCE)
    assert hosts[1].cli("snapshot", "rm", "v0@kept").status == 0
    for name, (host, container) in used.items():
        other = hosts[hosts[0] is host]
        told = said(host, container)
        held = other.engine.run("-v", f"{name}:/x", IMAGE, "cat", "/x/log").split()
        assert held[: len(told)] == told == [str(n + 1) for n in range(len(told))]


def records(host: Host) -> list[dict[str, object]]:
    """All that is told of the volumes; when they were last used goes with the store."""
    names = [row["Name"] for row in host.cli("ls", "--format=json").data()]
    found = host.cli("info", *names, "--format=json").data() if names else []
    return [{**record, "LastAccessTimestamp": ""} for record in found]


def test_rates_before_and_after(hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    one.create("rated", policy="distributed", fstype="ext4", size=32)
    fill = f"dd if=/dev/zero of=/x/file bs=4k count={4 * KIB} conv=fsync"
    one.engine.run("-v", "rated:/x", IMAGE, "sh", "-c", fill)
    assert rate(one, 4 * KIB) > FREE
    for profile, limit, blocks in (("slow", 2_000, KIB // 4), ("seed", 50_000, 4 * KIB)):
        assert two.cli("qos", "create", f"--read-bw={limit}", "--read-iops=0", profile).status == 0
        assert two.cli("qos", "apply", f"-p={profile}", "rated").status == 0
        assert two.cli("qos", "enable", "rated").status == 0
        assert rate(one, blocks) == pytest.approx(limit, rel=0.1)
    assert two.cli("qos", "disable", "rated").status == 0
    assert rate(one, 4 * KIB) > FREE


def rate(host: Host, blocks: int) -> float:
    """Bytes per second at which a container reads so many blocks of 4096 bytes."""
    read = f"ls /x/file; time dd if=/x/file of=/dev/null bs=4k iflag=direct count={blocks}"
    command = ("docker", "run", "--rm", "--network=none", "-v", "rated:/x", IMAGE, "sh", "-c", read)
    spoken = host.cli.run([*command]).err
    minutes, seconds = re.findall(r"real\s+(\d+)m\s*([\d.]+)s", spoken)[0]
    return blocks * 4096 / max(int(minutes) * 60 + float(seconds), 0.001)
