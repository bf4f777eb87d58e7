"""Podman with the same bridge: it counts by itself, with one id for all of its containers."""

from collections.abc import Iterator

import pytest

from lab.bridge import Bridge
from lab.docker import IMAGE, Failed
from lab.podman import Podman
from lab.scenarios import KINDS
from lab.site import Site, assert_clean
from libstorage.manager import Given

EXT4 = KINDS["ext4"]


@pytest.fixture
def bridge(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    folder = tmp_path_factory.mktemp("bridge")
    with Bridge(folder, site, folder / "driver.sock", folder / "none.sock") as bridge:
        yield bridge
        bridge.stop()


@pytest.fixture
def podman(bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with Podman(tmp_path_factory.mktemp("pod") / "man", bridge.podman) as podman:
        yield podman


def users(site: Site) -> list[tuple[str, int]]:
    """The engines that use what is attached, with their counts."""
    found = [a["Users"] for a in site.values("attachments/").values()]
    return [(user["Engine"], user["Count"]) for rows in found for user in rows]


def test_containers_of_podman_use_a_volume(podman: Podman, site: Site) -> None:
    podman("volume", "create", "--driver=dsvolume", "--opt=policy=local", "--opt=fstype=ext4", "db")
    assert site.manager().info("db")[0]["Fstype"] == "ext4"
    podman.run("--rm", "-v", "db:/x", IMAGE, "sh", "-c", "echo kept > /x/file")
    assert podman.run("--rm", "-v", "db:/x", IMAGE, "cat", "/x/file") == "kept"
    assert users(site) == []
    first, second = (
        podman.run("--detach", "-v", "db:/x", IMAGE, "sleep", "1000") for _ in range(2)
    )
    assert users(site) == [("podman", 1)]
    with pytest.raises(Failed):
        podman("volume", "rm", "db")
    podman("rm", "--force", "--time=0", first)
    assert users(site) == [("podman", 1)]
    assert podman("exec", second, "cat", "/x/file") == "kept"
    podman("rm", "--force", "--time=0", second)
    assert users(site) == []
    podman("volume", "rm", "db")
    assert site.manager().ls() == []
    assert_clean(site)


def test_podman_takes_a_volume_that_is_there(podman: Podman, site: Site) -> None:
    """It asks no driver for a name that it has not been told of."""
    manager = site.manager()
    manager.create("declared", Given(**EXT4))
    podman("volume", "create", "--driver=dsvolume", "declared")
    podman.run("--rm", "-v", "declared:/x", IMAGE, "touch", "/x/file")
    assert "dsvolume" in podman("volume", "ls", "--format={{.Driver}}", "--filter=name=declared")
    manager.rm("declared")
    with pytest.raises(Failed, match="No such volume: declared"):
        podman.run("--rm", "-v", "declared:/x", IMAGE, "true")


def test_a_bridge_that_is_killed_between_loses_no_count(
    podman: Podman, bridge: Bridge, site: Site
) -> None:
    site.manager().create("db", Given(**EXT4))
    podman("volume", "create", "--driver=dsvolume", "db")
    container = podman.run("--detach", "-v", "db:/x", IMAGE, "sleep", "1000")
    bridge.kill()
    bridge.start()
    other = podman.run("--detach", "-v", "db:/x", IMAGE, "sleep", "1000")
    assert users(site) == [("podman", 1)]
    for one in (container, other):
        podman("rm", "--force", "--time=0", one)
    assert users(site) == []
