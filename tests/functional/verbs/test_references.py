"""Which containers refer to a volume, as their nodes' engines say."""

import threading
from collections.abc import Callable

import pytest

from lab.site import Site
from libstorage.errors import InvalidInput, VolumeInUse
from libstorage.manager import VolumeManager
from libstorage.records import JSON
from libstorage.store.contract import Put

Create = Callable[..., JSON]


def known(site: Site) -> dict[str, dict[str, list[str]]]:
    """The engines with their containers, by volume and node."""
    found = site.values("references/")
    return {key.removeprefix("references/"): value["Engines"] for key, value in found.items()}


def test_what_an_engine_says_is_written_once(site: Site, manager: VolumeManager) -> None:
    assert manager.refer({"a": ["2", "1"], "b": ["1"], "c": []}, engine="docker") == ["a", "b"]
    assert known(site) == {"a/node1": {"docker": ["1", "2"]}, "b/node1": {"docker": ["1"]}}
    before = site.store.revision()
    assert manager.refer({"a": ["1", "2"], "b": ["1"]}, engine="docker", whole=True) == []
    assert site.store.revision() == before
    assert manager.refer({"a": []}, engine="docker") == ["a"]
    assert manager.refer({}, engine="docker", whole=True) == ["b"]
    assert known(site) == {}


def test_engines_and_nodes_speak_for_themselves(site: Site, manager: VolumeManager) -> None:
    other = site.manager("node2")
    manager.refer({"v": ["1"]}, engine="docker")
    manager.refer({"v": ["2"]}, engine="podman")
    other.refer({"v": ["3"]}, engine="docker")
    assert manager.refer({}, engine="docker", whole=True) == ["v"]
    assert known(site) == {"v/node1": {"podman": ["2"]}, "v/node2": {"docker": ["3"]}}


def test_two_engines_at_the_same_time_lose_nothing(site: Site, manager: VolumeManager) -> None:
    names = [f"v{number}" for number in range(100)]
    engines = ("docker", "podman")
    threads = [
        threading.Thread(
            target=manager.refer,
            args=({name: [engine] for name in names},),
            kwargs={"engine": engine},
        )
        for engine in engines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    both = {engine: [engine] for engine in engines}
    assert known(site) == {f"{name}/node1": both for name in names}


def test_a_fenced_node_refers_to_nothing(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v")
    other = site.manager("node2")
    other.refer({"v": ["c"], "w": ["c"]}, engine="docker")
    other.close()
    with pytest.raises(VolumeInUse, match="c@node2"):
        manager.rm("v")
    manager.cluster.fence("node2", confirmed=True)
    assert known(site) == {}
    assert site.manager("node2").refer({"v": ["c"]}, engine="docker") == []
    assert known(site) == {}
    manager.rm("v")


def test_what_a_fence_has_left_is_mended(site: Site, manager: VolumeManager) -> None:
    manager.refer({"v": ["d"]}, engine="docker")
    site.manager("node2").refer({"v": ["c"]}, engine="docker")
    site.store.transact([], [Put("fenced/node2", {"Node": "node2", "At": "", "Claims": []})])
    found = [row["Says"] for row in manager.doctor(fix=True) if row["Name"] == "node2"]
    assert found == ["node2 is fenced, and still has volumes attached or referred to."]
    assert known(site) == {"v/node1": {"docker": ["d"]}}


def test_a_forgotten_node_refers_to_nothing(site: Site, manager: VolumeManager) -> None:
    other = site.manager("node2")
    other.refer({"v": ["c"]}, engine="docker")
    other.close()
    manager.refer({"v": ["d"]}, engine="docker")
    manager.cluster.forget("node2")
    assert known(site) == {"v/node1": {"docker": ["d"]}}


@pytest.mark.parametrize(
    ("containers", "engine"), [({"../v": ["c"]}, "docker"), ({"v": ["/"]}, "docker"), ({}, "")]
)
def test_only_names_are_written(
    site: Site, manager: VolumeManager, containers: dict[str, list[str]], engine: str
) -> None:
    with site.nothing_changes(), pytest.raises(InvalidInput):
        manager.refer(containers, engine=engine)
