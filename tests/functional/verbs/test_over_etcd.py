"""A whole VolumeManager with its records in etcd."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.etcd import Cluster
from lab.site import Site, assert_clean
from libstorage.errors import StoreUnavailable
from libstorage.host import filesystems
from libstorage.manager import Given, VolumeManager
from libstorage.store import etcd_client
from libstorage.store.contract import Delete
from libstorage.store.etcd import EtcdStore

IMAGE = {"policy": "local", "fstype": "ext4", "mb_size": 8}


@pytest.fixture
def site(tmp_path: Path, etcd: Cluster) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with Site(tmp_path / "site", store=etcd.store(f"/site/{tmp_path.name}")) as made:
        yield made


def test_a_volumes_life(site: Site) -> None:
    manager = site.manager()
    assert manager.version()["store"] == "etcd"
    manager.create("db", Given(**IMAGE))
    point = Path(manager.mount("db", id="one")["Mountpoint"])
    (point / "file").write_text("kept")
    manager.mount("db", id="two")
    assert manager.info("db")[0]["Inuse"] == ["node1"]
    manager.unmount("db", id="one")
    manager.unmount("db", id="two")
    assert_clean(site)
    manager.snapshot_create("db@s")
    manager.snapshot_clone("db@s", "copy")
    point = Path(manager.mount("copy", id="one")["Mountpoint"])
    assert (point / "file").read_text() == "kept"
    manager.unmount("copy", id="one")
    manager.rm("copy")
    manager.snapshot_rm("db@s")
    manager.rm("db")
    texts = [event["Text"] for event in manager.events(filters=["volume=db"])]
    assert any("Volume create success" in text for text in texts)
    assert manager.ls() == []
    assert_clean(site)
    assert not (site.root / "store").exists()


def test_many_processes_one_volume(site: Site) -> None:
    code = """
for turn in range(10):
    manager.mount("db", id=arguments[0])
    manager.unmount("db", id=arguments[0])
"""
    site.manager().create("db", Given(**IMAGE))
    processes = [site.python(code, f"user{n}") for n in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
    assert_clean(site)


def test_a_commit_whose_answer_is_lost_is_known_as_made(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = site.manager()
    manager.create("db", Given(**IMAGE))
    true_transact = EtcdStore.transact
    lost: list[bool] = []

    def transact(store: EtcdStore, compares, writes):
        revision = true_transact(store, compares, writes)
        commits = any(isinstance(w, Delete) and w.key.startswith("operations/") for w in writes)
        if commits and len(lost) < 2:
            lost.append(True)
            raise StoreUnavailable("no answer")
        return revision

    monkeypatch.setattr(EtcdStore, "transact", transact)
    manager.snapshot_create("db@s")
    lost.clear()
    manager.usage("db")
    lost.clear()
    manager.create("other", Given(**IMAGE))
    assert lost
    events = [event for event in manager.events() if event["Text"].endswith("create success")]
    assert len(events) == 3
    assert_clean(site)


def test_an_outage_in_the_midst_of_a_create_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """etcd goes away during mkfs and is back before the commit's patience ends."""
    with (
        Cluster(tmp_path / "etcd") as cluster,
        Site(tmp_path / "site", store=cluster.store("/a")) as site,
    ):
        member, true_make = cluster.members[0], filesystems.make

        def make(*args, **kwargs):
            true_make(*args, **kwargs)
            member.kill()
            member.start()

        monkeypatch.setattr(filesystems, "make", make)
        manager = site.manager()
        manager.create("db", Given(**IMAGE))
        cluster.wait()
        assert_clean(site)
        member.kill()
        monkeypatch.setattr(etcd_client, "LIMIT", 2.0)
        for act in (lambda: manager.mount("db"), lambda: manager.create("no", Given(**IMAGE))):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="start etcd"):
                act()
            assert time.monotonic() - began < 4
        member.start()
        cluster.wait()
        manager.mount("db")
        manager.unmount("db")
        manager.rm("db")
        assert_clean(site)


def test_the_configurations_password_is_in_no_repr(site: Site) -> None:
    secret = "do-not-tell-" + "anybody"
    config = site.configured(store={"kind": "etcd", "user": "u", "password": secret})
    assert secret not in repr(config)
    with pytest.raises(Exception) as failure:
        VolumeManager(config).ls()
    assert secret not in repr(failure.value)
    assert json.dumps(config.store)
