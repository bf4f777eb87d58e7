"""A whole VolumeManager with its records in etcd."""

import json
import os
import random
import signal
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


MANY_VERBS = """
from libstorage.errors import LibstorageError
name, seconds = arguments
refusals = {"NoSuchSnapshot", "NoSuchVolume", "Unsupported", "VolumeExists", "VolumeInUse"}
done, until = 0, time.time() + seconds
def attempt(verb, *given, **options):
    global done
    try:
        verb(*given, **options)
        done += 1
    except LibstorageError as exc:
        if type(exc).__name__ not in refusals:
            raise
while time.time() < until:
    attempt(manager.create, name, Given(policy="local", fstype="ext4", mb_size=8))
    attempt(manager.mount, name, id="a")
    attempt(manager.snapshot_create, f"{name}@s")
    attempt(manager.unmount, name, id="a")
    attempt(manager.snapshot_rm, f"{name}@s")
    attempt(manager.resize, name, 16)
    attempt(manager.label, name, {"a": str(done)})
    attempt(manager.rm, name)
print(done)
"""


@pytest.mark.parametrize("seed", [1, random.randrange(10**6)], ids=["fixed", "fresh"])
def test_verbs_see_only_a_volumes_own_refusals_while_members_die(tmp_path: Path, seed: int) -> None:
    """Four processes on three volumes; one volume is shared by two."""
    print(f"seed: {seed}")
    choose = random.Random(seed)
    with (
        Cluster(tmp_path / "etcd", 3) as cluster,
        Site(tmp_path / "site", store=cluster.store("/a"), lease=5) as site,
    ):
        processes = [site.python(MANY_VERBS, f"v{number % 3}", 12) for number in range(4)]
        until = time.monotonic() + 11
        while time.monotonic() < until:
            member = choose.choice([*cluster.members, cluster.leader()])
            if choose.random() < 0.4:
                member.freeze()
                time.sleep(choose.uniform(0.2, 3))
                member.thaw()
            else:
                member.kill(choose.choice([signal.SIGKILL, signal.SIGTERM]))
                time.sleep(choose.uniform(0, 1))
                member.start()
            cluster.wait()
        for process in processes:
            said, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
            assert int(said) > 20
        manager = site.manager()
        for record in manager.ls():
            for snapshot in manager.snapshot_ls(record["Name"]):
                manager.snapshot_rm(f"{record['Name']}@{snapshot['Name']}")
            manager.rm(record["Name"])
        manager.doctor(fix=True)
        assert_clean(site)
