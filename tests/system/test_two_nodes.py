"""Two Docker engines as two nodes of one cluster: what one makes, the other knows."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.docker import IMAGE, Failed
from lab.etcd import Cluster
from lab.live import live
from lab.pair import DRIVER, Host, Pair, tidy

PAIRS = 30
PLAIN = {"policy": "local"}
SIZED = {"policy": "local", "fstype": "ext4", "size": 8}


@pytest.fixture(scope="module")
def pair(etcd: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    with Pair(tmp_path_factory.mktemp("pair"), etcd) as pair:
        yield pair


@pytest.fixture
def one(pair: tuple[Host, Host]) -> Iterator[Host]:
    yield pair[0]
    tidy(pair)


@pytest.fixture
def two(pair: tuple[Host, Host], one: Host) -> Host:
    return pair[1]


def until(reached: Callable[[], object], seconds: float = 5) -> None:
    """The records follow the engines within five seconds."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def made(host: Host, volume: str) -> str:
    """A container that uses a volume and was never started; its id."""
    return host.engine("create", "--network=none", "-v", f"{volume}:/x:nocopy", IMAGE, "true")


def started(host: Host, volume: str) -> str:
    """A container that uses a volume, and sleeps; its id."""
    options = ("--detach", "--network=none", "-v", f"{volume}:/x")
    return host.engine("run", *options, IMAGE, "sh", "-c", "trap exit TERM; sleep 600 & wait")


def record(host: Host, volume: str) -> dict[str, object]:
    found: dict[str, object] = host.cli("info", volume, "--format=json").data()[0]
    return found


def referring(host: Host) -> dict[str, list[str]]:
    """The containers that refer to volumes, by volume and node, as the records say."""
    found = host.site.values("references/")
    return {
        key.removeprefix("references/"): value["Engines"]["docker"] for key, value in found.items()
    }


def refused(host: Host, *words: str) -> str:
    """What docker says to a command that fails."""
    with pytest.raises(Failed) as caught:
        host.engine(*words)
    return str(caught.value)


# -- what both see


def test_a_volume_is_seen_from_both(one: Host, two: Host) -> None:
    one.create("pages", **PLAIN)
    for host in (one, two):
        assert host.engine("volume", "ls", "--format={{.Driver}} {{.Name}}") == f"{DRIVER} pages"
        [inspected] = json.loads(host.engine("volume", "inspect", "pages"))
        assert inspected["Status"]["CreatedBy"] == one.node
        assert host.cli("ls").lines[1].split()[:2] == ["pages", one.node]


def test_local_data_are_each_hosts_own(one: Host, two: Host) -> None:
    one.create("pages", **PLAIN)
    for host in (one, two):
        host.engine.run("-v", "pages:/x", IMAGE, "sh", "-c", f"echo {host.node} >> /x/file")
    for host in (one, two):
        assert host.engine.run("-v", "pages:/x", IMAGE, "cat", "/x/file") == host.node


def test_a_sized_local_volume_belongs_to_its_host(one: Host, two: Host) -> None:
    one.create("data", **SIZED)
    said = refused(two, "run", "--rm", "--network=none", "-v", "data:/x", IMAGE, "true")
    assert "data has its data on node1; mount it there, not on node2" in said
    assert two.engine("volume", "ls", "--format={{.Driver}} {{.Name}}") == f"{DRIVER} data"
    one.engine.run("-v", "data:/x", IMAGE, "true")
    # Its removal is done where it is, whoever asks.
    two.engine("volume", "rm", "data")
    assert one.cli("ls", "--format=json").data() == []


# -- who uses it, who refers to it


def test_a_volume_that_is_not_shared_has_one_container_anywhere(one: Host, two: Host) -> None:
    one.create("alone", **PLAIN, shared="false")
    first = started(one, "alone")
    until(lambda: record(one, "alone")["Containers"] == [f"{first}@{one.node}"])
    for host in (one, two):
        said = refused(host, "run", "--rm", "--network=none", "-v", "alone:/x", IMAGE, "true")
        assert f"Volume in use by {first}@{one.node}" in said
    one.engine("rm", "--force", first)
    two.engine.run("-v", "alone:/x", IMAGE, "true")


def test_users_of_both_hosts_are_named_and_hold_it(one: Host, two: Host) -> None:
    one.create("pages", **PLAIN)
    first, second = started(one, "pages"), started(two, "pages")
    users = [f"{first}@{one.node}", f"{second}@{two.node}"]
    until(lambda: record(one, "pages")["Containers"] == users)
    assert record(two, "pages")["Inuse"] == [one.node, two.node]
    assert one.cli("ls").lines[1].split()[-2] == "node1,node2"
    one.engine("rm", "--force", first)
    until(lambda: record(one, "pages")["Containers"] == users[1:])
    assert f"Volume in use by {second}@{two.node}" in refused(one, "volume", "rm", "pages")
    before = str(record(one, "pages")["LastAccessTimestamp"])
    two.engine("rm", "--force", second)
    until(lambda: record(one, "pages")["Containers"] is None)
    assert record(one, "pages")["Inuse"] is None
    assert str(record(one, "pages")["LastAccessTimestamp"]) > before


def test_a_stopped_container_on_the_other_host_keeps_a_volume(one: Host, two: Host) -> None:
    one.create("pages", **PLAIN)
    container = made(two, "pages")
    until(lambda: referring(one) == {"pages/node2": [container]})
    assert record(one, "pages")["Containers"] is None, "it refers to it, and does not use it"
    holds = f"Volume in use by {container}@{two.node}; remove the containers"
    assert holds in refused(one, "volume", "rm", "pages")
    said = one.cli("rm", "pages")
    assert said.status == 1 and holds in said.err
    two.engine("rm", container)
    # At once: the removal waits for what the other host is about to tell.
    one.engine("volume", "rm", "pages")


def test_force_removes_what_is_only_referred_to(one: Host, two: Host) -> None:
    one.create("pages", **PLAIN)
    container = made(two, "pages")
    until(lambda: referring(one) != {})
    assert one.cli("rm", "--force", "pages").status == 0
    # Who refers to it is told so, and gets no empty volume in its place.
    assert "get pages: no such volume" in refused(two, "start", container)
    assert two.engine("volume", "ls", "--quiet") == ""
    two.engine("rm", container)
    until(lambda: referring(one) == {})


def test_a_volume_is_removed_that_the_other_engine_remembers(one: Host, two: Host) -> None:
    one.create("pages", **PLAIN)
    two.engine.run("-v", "pages:/x", IMAGE, "true")
    one.engine("volume", "rm", "pages")
    assert "no such volume" in refused(two, "volume", "inspect", "pages").lower()
    assert two.engine("volume", "ls", "--quiet") == ""


def test_events_of_both_hosts_are_heard_on_each(one: Host, two: Host) -> None:
    ours = ("--filter=type=libstorage", "--filter=volume=pages")
    with live(one.cli, *ours) as here, live(two.cli, "--filter=node=node1") as there:
        one.create("pages", **PLAIN)
        two.engine.run("-v", "pages:/x", IMAGE, "true")
        texts = [line.partition("libstorage) ")[2] for line in here.until("Unmount[pages]")]
        assert texts[0] == "Volume create success" and "Mount success" in texts
        assert "Volume create success" in there.until("pages: (from libstorage)")[-1]


# -- what must not be in the way


def test_a_container_goes_with_its_own_volume(one: Host) -> None:
    """Nothing of ours is late: the volume's removal follows the container's at once."""
    anonymous = f"--mount=type=volume,volume-driver={DRIVER},dst=/x,volume-opt=policy=local"
    container = one.engine("create", "--network=none", anonymous, IMAGE, "true")
    until(lambda: len(referring(one)) == 1)
    one.engine("rm", "--volumes", container)
    assert one.cli("ls", "--format=json").data() == []
    one.engine.run(anonymous, IMAGE, "true")
    assert one.cli("ls", "--format=json").data() == []


def test_the_command_line_knows_at_once_that_a_container_has_gone(one: Host) -> None:
    for _ in range(5):
        one.create("pages", **PLAIN)
        container = made(one, "pages")
        until(lambda: referring(one) == {"pages/node1": [container]})  # noqa: B023
        one.engine("rm", container)
        said = one.cli("rm", "pages")
        assert said.status == 0, said


def test_what_happened_while_the_bridge_was_away_is_told(one: Host, two: Host) -> None:
    one.create("pages", **PLAIN)
    one.create("data", **PLAIN)
    gone = made(two, "pages")
    until(lambda: referring(one) == {"pages/node2": [gone]})
    two.bridge.kill()
    two.engine("rm", gone)
    two.bridge.start()
    until(lambda: referring(one) == {})
    new = made(two, "data")
    two.bridge.kill()
    two.bridge.start()
    until(lambda: referring(one) == {"data/node2": [new]})


def test_an_engine_that_is_killed_keeps_what_it_has(one: Host, two: Host) -> None:
    one.create("pages", **PLAIN)
    container = made(two, "pages")
    until(lambda: referring(one) == {"pages/node2": [container]})
    two.engine.kill()
    two.engine.start()
    assert f"{container}@{two.node}" in refused(one, "volume", "rm", "pages")
    two.engine("rm", container)
    until(lambda: referring(one) == {})


def test_a_burst_of_containers_is_few_writes(one: Host) -> None:
    one.create("pages", **PLAIN)
    before, began = one.site.store.revision(), time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: made(one, "pages"), range(20)))
        until(lambda: referring(one) == {"pages/node1": sorted(found)})
        list(pool.map(lambda id: one.engine("rm", id), found))
    until(lambda: referring(one) == {})
    told = [
        change
        for change in one.site.store.watch("references/", before + 1, timeout=0.5)
        if change.key == "references/pages/node1"
    ]
    assert 2 <= len(told) <= (time.monotonic() - began) / 0.2 + 2
    # Nothing changes: nothing is written.
    before = one.site.store.revision()
    assert not list(one.site.store.watch("references/", before + 1, timeout=2.5))


def test_made_here_and_used_there_without_a_pause(one: Host, two: Host) -> None:
    """No name becomes a local volume of the other engine's."""

    def both(number: int) -> None:
        maker, user = (one, two) if number % 2 else (two, one)
        name = f"new{number}"
        maker.create(name, **PLAIN)
        user.engine.run("-v", f"{name}:/x", IMAGE, "touch", f"/x/{number}")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(both, range(PAIRS)))
    for host in (one, two):
        rows = host.engine("volume", "ls", "--format={{.Driver}} {{.Name}}").splitlines()
        assert sorted(rows) == sorted(f"{DRIVER} new{number}" for number in range(PAIRS))
    for number in range(PAIRS):
        assert record(one, f"new{number}")["LastAccessTimestamp"] != "0001-01-01T00:00:00Z"
