"""An engine's mounts and unmounts while the store is away: granted, noted, and told later."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.etcd import Cluster
from lab.scenarios import KINDS
from lab.site import Site, assert_clean
from libstorage.errors import StoreUnavailable, VolumeInUse
from libstorage.manager import Given, VolumeManager
from libstorage.manager.memory import AttachmentMemory

EXT4 = KINDS["ext4"]
DOCKER: dict[str, Any] = {"engine": "docker"}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is away is given up sooner than in ten seconds."""
    monkeypatch.setattr("libstorage.store.etcd_client.LIMIT", 0.8)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An etcd that these tests may stop."""
    with Cluster(tmp_path_factory.mktemp("away") / "etcd") as cluster:
        yield cluster


@pytest.fixture
def site(tmp_path: Path, own: Cluster) -> Iterator[Site]:
    with Site(tmp_path / "site", store=own.store(f"/{tmp_path.name}")) as site:
        yield site
        back(own)


def back(own: Cluster) -> None:
    """The store is there again."""
    member = own.members[0]
    if member.process is None or member.process.poll() is not None:
        member.start()
    own.wait()


@pytest.fixture
def manager(site: Site) -> VolumeManager:
    manager = site.manager()
    manager.create("v", Given(**EXT4))
    return manager


def counts(site: Site) -> dict[str, int]:
    [attachment] = site.values("attachments/").values() or [{"Users": []}]
    return {user["Id"]: user["Count"] for user in attachment["Users"]}


def test_an_engine_waits_for_a_store_that_is_away_once(
    manager: VolumeManager, own: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libstorage.store.etcd_client.LIMIT", 4)
    manager.mount("v", **DOCKER, id="1")
    own.members[0].freeze()
    try:
        with pytest.raises(StoreUnavailable):
            manager.ls()
        began = time.monotonic()
        for number in range(3):
            manager.mount("v", **DOCKER, id=f"more{number}")
            manager.unmount("v", **DOCKER, id=f"more{number}")
        assert time.monotonic() - began < 6 * 0.5 + 1
        with pytest.raises(StoreUnavailable):
            manager.mount("other", **DOCKER, id="1")
    finally:
        own.members[0].thaw()
    own.wait()
    assert manager.mount("v", **DOCKER, id="2")["Changed"]
    for id in "12":
        manager.unmount("v", **DOCKER, id=id)


def test_users_come_and_go_while_the_store_is_away(
    site: Site, manager: VolumeManager, own: Cluster
) -> None:
    point = manager.mount("v", id="a", **DOCKER)["Mountpoint"]
    own.members[0].kill()
    granted = manager.mount("v", id="b", **DOCKER)
    assert (granted["Mountpoint"], granted["Containers"]) == (
        point,
        ["docker:a@node1", "docker:b@node1"],
    )
    manager.mount("v", id="b", **DOCKER)
    assert manager.unmount("v", id="a", **DOCKER)["Containers"] == ["docker:b@node1"]
    assert [str(path) for path in site.mounted()] == [point]
    back(own)
    # Whoever comes next tells the store first.
    manager.mount("v", id="c", **DOCKER)
    assert counts(site) == {"b": 2, "c": 1}
    for id in "bbc":
        manager.unmount("v", id=id, **DOCKER)
    assert_clean(site)


def test_the_last_one_out_is_let_go_of_when_the_store_is_back(
    site: Site, manager: VolumeManager, own: Cluster
) -> None:
    manager.mount("v", id="a", **DOCKER)
    own.members[0].kill()
    gone = manager.unmount("v", id="a", **DOCKER)
    assert (gone["Mountpoint"], gone["Containers"]) == ("", [])
    assert len(site.mounted()) == 1
    back(own)
    kinds = {finding["Kind"]: finding["Says"] for finding in manager.doctor(fix=True)}
    assert kinds["mount"] == "The store does not know yet who used v while it was away."
    assert site.mounted() == []
    assert_clean(site)


def test_nothing_else_is_granted(site: Site, manager: VolumeManager, own: Cluster) -> None:
    manager.create("alone", Given(**EXT4, shared=False))
    manager.create("unused", Given(**EXT4))
    manager.mount("alone", id="a", **DOCKER)
    own.members[0].kill()
    with pytest.raises(VolumeInUse, match="docker:a@node1"):
        manager.mount("alone", id="b", **DOCKER)
    for name, who in (("unused", DOCKER), ("never", DOCKER), ("alone", {})):
        with pytest.raises(StoreUnavailable):
            manager.mount(name, id="b", **who)
    with pytest.raises(StoreUnavailable):
        manager.mount("alone", id="a", test=True, **DOCKER)
    assert not list(site.config.run_dir.glob("offline/*.json"))


def test_what_the_store_has_heard_of_is_not_told_twice(
    site: Site, manager: VolumeManager, own: Cluster
) -> None:
    """The answer to the first change was lost: the store has it, and so has the note."""
    manager.mount("v", id="a", **DOCKER)
    own.members[0].kill()
    manager.mount("v", id="b", **DOCKER)
    back(own)
    [note] = site.config.run_dir.glob("offline/*.json")
    noted = note.read_text()
    manager.doctor(fix=True)
    assert counts(site) == {"a": 1, "b": 1}
    note.write_text(noted)
    manager.doctor(fix=True)
    assert counts(site) == {"a": 1, "b": 1} and not note.exists()


def test_a_reboot_forgets_what_was_noted(site: Site, manager: VolumeManager, own: Cluster) -> None:
    manager.mount("v", id="a", **DOCKER)
    own.members[0].kill()
    manager.mount("v", id="b", **DOCKER)
    site.reboot()
    with pytest.raises(StoreUnavailable):
        site.manager().mount("v", id="c", **DOCKER)
    back(own)
    site.manager().doctor(fix=True)
    assert site.mounted() == [] and site.values("attachments/") == {}


def test_what_a_killed_process_could_not_note_here_is_read_of_the_store(
    manager: VolumeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known(**how: bool) -> list[list[str]]:
        return [[user["Id"] for user in held["Users"]] for held in manager.attachments(**how)]

    for id, before in (("1", []), ("2", [["1"]])):
        with monkeypatch.context() as killed:
            killed.setattr(AttachmentMemory, "follow", lambda *_: None)
            manager.mount("v", **DOCKER, id=id)
        assert known() == before
        assert known(refresh=True) == known() == [[*before[0], id] if before else [id]]


def test_what_is_remembered_stays_while_the_store_is_away(
    manager: VolumeManager, own: Cluster
) -> None:
    manager.mount("v", **DOCKER, id="1")
    own.members[0].freeze()
    try:
        with pytest.raises(StoreUnavailable):
            manager.attachments(refresh=True)
        [held] = manager.attachments()
        assert [user["Id"] for user in held["Users"]] == ["1"]
    finally:
        own.members[0].thaw()
    own.wait()
    manager.unmount("v", **DOCKER, id="1")
