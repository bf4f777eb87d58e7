"""The bridge under a real Docker engine."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from lab.bridge import Bridge
from lab.docker import IMAGE, Engine
from lab.site import NODE, Site

DIES = """
import os, signal
from pathlib import Path
from libstorage.manager.memory import AttachmentMemory
follow = AttachmentMemory.follow
def dies(self, name):
    flag = Path({flag!r})
    if flag.exists():
        flag.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    follow(self, name)
AttachmentMemory.follow = dies
"""
"""The store has been written to, and this host has not noted it yet."""
EXT4 = ("--opt=policy=local", "--opt=fstype=ext4", "--opt=size=8")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("docker") / "engine") as engine:
        yield engine


@pytest.fixture
def bridge(site: Site, engine: Engine, tmp_path: Path) -> Iterator[Bridge]:
    driver = engine.plugins / f"dsvolume{uuid4().hex[:8]}.sock"
    with Bridge(tmp_path / "bridge", site, driver, engine.socket) as bridge:
        yield bridge


@pytest.fixture
def name(bridge: Bridge) -> str:
    """The driver's name."""
    return bridge.driver.stem


def until(reached: Callable[[], object], seconds: float = 5) -> None:
    """The store follows the engine within five seconds."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def users(site: Site) -> list[tuple[str, int]]:
    """The containers that the store knows of, with their mounts."""
    found = [a["Users"] for a in site.values("attachments/").values()]
    return sorted((user["Container"], user["Count"]) for rows in found for user in rows)


@pytest.fixture
def volume(engine: Engine, bridge: Bridge, name: str) -> Iterator[str]:
    engine("volume", "create", "--driver", name, *EXT4, "vol")
    yield "vol"
    if left := engine("ps", "--all", "--quiet").split():
        engine("rm", "--force", *left)
    engine.client("volume", "rm", "--force", "vol")


def start(engine: Engine, volume: str, *more: str) -> str:
    """A container that sleeps and uses the volume; its id."""
    options = ("--detach", "--network=none", "--init=false", "-v", f"{volume}:/x", *more)
    return engine("run", *options, IMAGE, "sh", "-c", "trap exit TERM; sleep 600 & wait")


def test_a_container_uses_a_volume(engine: Engine, bridge: Bridge, name: str, site: Site) -> None:
    assert engine("volume", "create", "--driver", name, *EXT4, "vol") == "vol"
    engine.run("-v", "vol:/x", IMAGE, "sh", "-c", "echo kept > /x/file")
    assert engine.run("-v", "vol:/x", IMAGE, "cat", "/x/file") == "kept"
    assert site.mounted() == []
    assert name in engine("volume", "ls")
    engine("volume", "rm", "vol")
    assert site.manager().ls() == []
    assert engine.client("volume", "inspect", "vol").returncode


def test_a_volume_is_known_by_its_containers(engine: Engine, volume: str, site: Site) -> None:
    one, two = start(engine, volume), start(engine, volume)
    until(lambda: users(site) == sorted([(one, 1), (two, 1)]))
    assert site.manager().info("vol")[0]["Containers"] == [f"{one}@{NODE}", f"{two}@{NODE}"]
    engine("kill", one)
    until(lambda: users(site) == [(two, 1)])
    engine("stop", two)
    until(lambda: users(site) == [] and site.mounted() == [])


def test_a_killed_engine_leaves_no_count(engine: Engine, volume: str, site: Site) -> None:
    one = start(engine, volume)
    until(lambda: users(site) == [(one, 1)])
    engine.kill()
    engine.start()
    until(lambda: users(site) == [] and site.mounted() == [], 10)
    engine("start", one)
    until(lambda: users(site) == [(one, 1)])


def test_what_the_bridge_has_not_heard_is_found_out(
    engine: Engine, volume: str, site: Site, bridge: Bridge
) -> None:
    one, two = start(engine, volume), start(engine, volume)
    until(lambda: len(users(site)) == 2)
    bridge.kill()
    engine("kill", one)
    bridge.start()
    until(lambda: users(site) == [(two, 1)])
    assert engine("exec", two, "ls", "/x").split() == ["lost+found"]


def test_the_same_volume_twice_in_one_container(engine: Engine, volume: str, site: Site) -> None:
    one = start(engine, volume, "-v", f"{volume}:/y")
    until(lambda: users(site) == [(one, 1), (one, 1)])
    engine("restart", "--time=1", one)
    until(lambda: users(site) == [(one, 1), (one, 1)])
    engine("rm", "--force", one)
    until(lambda: users(site) == [])


def test_the_bridge_is_the_nodes_agent(bridge: Bridge, site: Site) -> None:
    manager = site.manager("node2")
    until(lambda: [row["Name"] for row in manager.nodes() if row["Alive"]] == [NODE])
    assert bridge.stop() == 0
    assert not [row for row in manager.nodes() if row["Alive"]]


def test_sigterm_lets_what_was_begun_end(
    engine: Engine, bridge: Bridge, volume: str, site: Site
) -> None:
    running = engine.begin("run", "--rm", "--network=none", "-v", f"{volume}:/x", IMAGE, "true")
    until(lambda: site.values("attachments/") != {}, 10)
    assert bridge.stop() == 0
    bridge.start()
    assert running.wait(60) == 0
    until(lambda: site.values("attachments/") == {})


def test_a_mount_that_only_the_store_knows_of_is_found(
    engine: Engine, site: Site, tmp_path: Path
) -> None:
    driver, flag = engine.plugins / f"dsvolume{uuid4().hex[:8]}.sock", tmp_path / "flag"
    dies = DIES.format(flag=str(flag))
    with Bridge(tmp_path / "b", site, driver, engine.socket, held=True, before=dies) as bridge:
        engine("volume", "create", "--driver", driver.stem, *EXT4, "vol")
        flag.touch()
        ended = engine.client("run", "--rm", "--network=none", "-v", "vol:/x", IMAGE, "true")
        assert "restarted in the midst" in ended.stderr and not flag.exists()
        bridge.wait()
        until(lambda: users(site) == [] and site.mounted() == [])
        assert engine.run("-v", "vol:/x", IMAGE, "echo", "done") == "done"
        engine("volume", "rm", "vol")
