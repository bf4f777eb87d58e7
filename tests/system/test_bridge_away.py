"""The store, the bridge or both are away: no managed name ever becomes a local volume."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from lab.bridge import Bridge
from lab.docker import IMAGE, Engine
from lab.etcd import Cluster
from lab.scenarios import KINDS
from lab.site import Site
from libstorage.manager import Given

EXT4 = ("--opt=policy=local", "--opt=fstype=ext4", "--opt=size=8")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An etcd that these tests may stop."""
    with Cluster(tmp_path_factory.mktemp("away") / "etcd") as cluster:
        yield cluster


@pytest.fixture
def site(tmp_path: Path, cluster: Cluster) -> Iterator[Site]:
    with Site(tmp_path / "site", store=cluster.store(f"/{uuid4().hex}")) as site:
        yield site
        back(cluster)


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("docker") / "engine") as engine:
        yield engine


@pytest.fixture
def bridge(site: Site, engine: Engine, tmp_path: Path) -> Iterator[Bridge]:
    driver = engine.plugins / f"dsvolume{uuid4().hex[:8]}.sock"
    with Bridge(tmp_path / "bridge", site, driver, engine.socket) as bridge:
        yield bridge


def back(cluster: Cluster) -> None:
    """The store is there again."""
    member = cluster.members[0]
    if member.process is None or member.process.poll() is not None:
        member.start()
    cluster.wait()


def drivers(engine: Engine) -> dict[str, str]:
    """The volumes that the engine knows, by name, with their drivers."""
    rows = map(json.loads, engine("volume", "ls", "--format={{json .}}", seconds=120).splitlines())
    return {row["Name"]: row["Driver"] for row in rows}


def test_a_volume_of_a_store_that_is_away(
    engine: Engine, bridge: Bridge, site: Site, cluster: Cluster
) -> None:
    driver = bridge.driver.stem
    engine("volume", "create", "--driver", driver, *EXT4, "known")
    engine.run("-v", "known:/x", IMAGE, "sh", "-c", "echo kept > /x/file")
    site.manager().create("elsewhere", Given(**KINDS["ext4"]))
    cluster.members[0].kill()
    for name in ("known", "elsewhere"):
        failed = engine.client("run", "--rm", "-v", f"{name}:/x", IMAGE, "true", seconds=120)
        assert failed.returncode, failed.stdout
    back(cluster)
    assert engine.run("-v", "known:/x", IMAGE, "cat", "/x/file") == "kept"
    engine.run("-v", "elsewhere:/x", IMAGE, "true")
    assert drivers(engine) == {"known": driver, "elsewhere": driver}


def test_a_container_comes_and_goes_while_the_store_is_away(
    engine: Engine, bridge: Bridge, site: Site, cluster: Cluster
) -> None:
    driver = bridge.driver.stem
    engine("volume", "create", "--driver", driver, *EXT4, "vol")
    first = engine("run", "--detach", "--network=none", "-v", "vol:/x", IMAGE, "sleep", "600")
    cluster.members[0].kill()
    engine("exec", first, "sh", "-c", "echo kept > /x/file")
    # Mounted here: another user may come. Docker asks for the volume first, which is known.
    read = engine.run("-v", "vol:/x", IMAGE, "cat", "/x/file", seconds=200)
    assert read == "kept"
    engine("kill", first)
    assert [path.name for path in site.mounted()] == ["vol"]
    back(cluster)
    assert engine.run("-v", "vol:/x", IMAGE, "cat", "/x/file") == "kept"
    site.manager().doctor(fix=True)
    assert site.values("attachments/") == {} and site.mounted() == []


def test_the_bridge_is_away(engine: Engine, bridge: Bridge, site: Site) -> None:
    driver = bridge.driver.stem
    engine("volume", "create", "--driver", driver, *EXT4, "vol")
    bridge.kill()
    failed = engine.client("run", "--rm", "-v", "vol:/x", IMAGE, "true", seconds=120)
    assert failed.returncode
    bridge.start()
    engine.run("-v", "vol:/x", IMAGE, "true")
    assert drivers(engine) == {"vol": driver}
