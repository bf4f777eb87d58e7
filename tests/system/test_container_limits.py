"""Limits of a volume in its containers, from their first I/O with dsvolume-runc, soon without."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.docker import IMAGE
from lab.wrapped import WRAPPED, Host, docker_host, until
from libstorage.host import throttling
from libstorage.host.throttling import NONE, Limits

CLOSE = 0.1
RATE = 1_000_000
PROFILE = {"read_iops": 0, "read_bw": RATE, "write_iops": 0, "write_bw": RATE}
NOW = "read now _ < /proc/uptime; echo $now"
READ = f"{NOW}; dd if=/x/file of=/dev/null bs=4k iflag=direct count={{}}; {NOW}"
WRITE = f"{NOW}; dd if=/dev/zero of=/x/file bs=4k oflag=direct conv=notrunc count={{}}; {NOW}"
BLOCKS = 800
"""3.3 s at that rate: the kernel lets a tenth of a second's worth through ahead."""
IN_TIME = 1.0
LIMITS = throttling.hierarchy()

pytestmark = pytest.mark.skipif(
    LIMITS is None or LIMITS.scope != "container", reason="this host has cgroup v2"
)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with docker_host(tmp_path_factory.mktemp("qos")) as host:
        yield host


@pytest.fixture
def db(host: Host) -> Iterator[str]:
    """A volume with a file of 8 MB, that may be limited by a profile of its name."""
    yield made(host, "db")
    host.tidy()


def made(host: Host, name: str) -> str:
    host.volume(name, "fstype=ext4", "size=32")
    fill = "dd if=/dev/zero of=/x/file bs=1M count=8 conv=fsync"
    host.engine.run("-v", f"{name}:/x", IMAGE, "sh", "-c", fill)
    with host.acting() as qos:
        qos.create(name, PROFILE)
        qos.apply(name, [name])
    return name


def enable(host: Host, name: str) -> None:
    with host.acting() as qos:
        qos.enable([name])


def rate(said: str) -> float:
    """Bytes per second between the two times that were said."""
    began, ended = map(float, said.split())
    return BLOCKS * 4096 / max(ended - began, 0.01)


def in_effect(host: Host, container: str, name: str) -> Limits:
    """The limits of a volume in a container."""
    pid = host.engine("inspect", "--format={{.State.Pid}}", container)
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    [path] = [line.split(":", 2)[2] for line in lines if ":blkio:" in line]
    assert LIMITS and container in path
    return LIMITS.limits(path, host.device(name))


def rows(host: Host, name: str) -> dict[str, Any]:
    """What info tells of limits: whether they were there at the start, by cgroup."""
    info = host.info(name)
    assert info["QoSScope"] == "container"
    return {row["Cgroup"]: row["AtStart"] for row in info["QoSLimits"]}


@pytest.mark.parametrize("command", [READ, WRITE], ids=["read", "write"])
def test_the_first_io_is_limited_with_the_wrapper(host: Host, db: str, command: str) -> None:
    enable(host, db)
    script = command.format(BLOCKS)
    said = host.engine.run(*WRAPPED, "-v", f"{db}:/x", IMAGE, "sh", "-c", script)
    assert rate(said) == pytest.approx(RATE, rel=CLOSE)


def test_info_tells_that_the_wrapper_was_there(host: Host, db: str) -> None:
    enable(host, db)
    one = host.start(*WRAPPED, "-v", f"{db}:/x")
    assert in_effect(host, one, db) == Limits(read_bw=RATE, write_bw=RATE)
    until(lambda: rows(host, db) == {"/": True, f"/docker/{one}": True}, IN_TIME)
    host.engine("restart", "--time=1", one)
    assert in_effect(host, one, db) == Limits(read_bw=RATE, write_bw=RATE)
    until(lambda: rows(host, db) == {"/": True, f"/docker/{one}": True}, IN_TIME)


def test_without_the_wrapper_limits_come_within_a_second(host: Host, db: str) -> None:
    enable(host, db)
    wanted = Limits(read_bw=RATE, write_bw=RATE)
    one = host.start("-v", f"{db}:/x")
    until(lambda: in_effect(host, one, db) == wanted, IN_TIME)
    assert rows(host, db) == {"/": True, f"/docker/{one}": False}
    assert rate(host.engine("exec", one, "sh", "-c", READ.format(BLOCKS))) == pytest.approx(
        RATE, rel=CLOSE
    )
    # Another run of it has another cgroup, of the same name.
    host.engine("restart", "--time=1", one)
    until(lambda: in_effect(host, one, db) == wanted, IN_TIME)


def test_all_containers_that_start_at_once_are_limited(host: Host, db: str) -> None:
    enable(host, db)
    options = ("--detach", "--network=none", "-v", f"{db}:/x", IMAGE, "sleep", "600")
    starting = [host.engine.begin("run", *options) for _ in range(4)]
    containers = [one.communicate()[0].strip() for one in starting]
    wanted = Limits(read_bw=RATE, write_bw=RATE)
    until(lambda: all(in_effect(host, one, db) == wanted for one in containers), IN_TIME)
    with host.acting() as qos:
        qos.disable([db])
    assert [in_effect(host, one, db) for one in containers] == [NONE] * 4


@pytest.mark.parametrize("wrapper", [WRAPPED, ()], ids=["wrapper", "none"])
def test_changes_act_on_running_containers(host: Host, db: str, wrapper: tuple[str, ...]) -> None:
    one = host.start(*wrapper, "-v", f"{db}:/x")
    until(lambda: host.places(db) == [one], IN_TIME)
    assert rate(host.engine("exec", one, "sh", "-c", READ.format(BLOCKS))) > 4 * RATE

    def becomes(read: int) -> None:
        until(lambda: in_effect(host, one, db).read_bw == read, IN_TIME)

    with host.acting() as qos:
        qos.enable([db])
        becomes(RATE)
        qos.edit(db, {"read_bw": 2 * RATE})
        becomes(2 * RATE)
        qos.create("other", {**PROFILE, "read_bw": 3 * RATE})
        qos.apply("other", [db])
        becomes(3 * RATE)
        qos.disable([], everywhere=True)
        becomes(0)
        qos.enable([], everywhere=True)
        becomes(3 * RATE)
        qos.disable([db])
        becomes(0)
    assert rate(host.engine("exec", one, "sh", "-c", READ.format(BLOCKS))) > 4 * RATE
    assert host.info(db)["QoSLimits"] is None


def test_a_change_on_another_node_acts_here(host: Host, db: str) -> None:
    one = host.start("-v", f"{db}:/x")
    until(lambda: host.places(db) == [one], IN_TIME)
    other = host.site.manager("node2")
    other.qos.enable([db])
    until(lambda: in_effect(host, one, db) == Limits(read_bw=RATE, write_bw=RATE), IN_TIME)
    other.qos.disable([db])
    until(lambda: in_effect(host, one, db) == NONE, IN_TIME)
    other.close()


def test_the_volumes_limits_go_before_the_containers_own(host: Host, db: str) -> None:
    enable(host, db)
    host.start("-v", f"{db}:/x")
    own = (f"--device-{what}-bps={host.device(db)}:777" for what in ("read", "write"))
    one = host.start(*WRAPPED, *own, "-v", f"{db}:/x")
    assert in_effect(host, one, db) == Limits(read_bw=RATE, write_bw=RATE)


def test_what_has_ended_is_forgotten(host: Host, db: str) -> None:
    enable(host, db)
    host.start("-v", f"{db}:/x")
    for _ in range(5):
        host.engine.run(*WRAPPED, "-v", f"{db}:/x", IMAGE, "true")
    two = host.start("-v", f"{db}:/x")

    def counts() -> tuple[int, int]:
        [attachment] = host.site.values("attachments/").values()
        return len(attachment["Places"]), len(attachment["Limited"])

    # The host's root is limited too.
    until(lambda: two in host.places(db) and counts() == (2, 3))


def test_a_killed_bridge_makes_up_for_what_it_missed(host: Host, db: str) -> None:
    enable(host, db)
    keeper = host.start("-v", f"{db}:/x")
    until(lambda: host.places(db) == [keeper])
    device, was = host.device(db), time.monotonic()
    host.bridge.kill()
    assert LIMITS
    LIMITS.limit(f"/docker/{keeper}", device, NONE)
    host.bridge.start()
    until(lambda: in_effect(host, keeper, db).read_bw == RATE, 10)
    assert time.monotonic() - was < 20
