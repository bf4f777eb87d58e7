"""The store's password: kept by Salt's sdb or in a file, and to be seen nowhere else."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import configure, salt_call
from cluster import Salt, started

from lab.etcd import Cluster
from lab.site import Site
from libstorage.config import load
from libstorage.manager import VolumeManager

NODE = "keeper"
MASTER = "secrets"
WRONG = "marker-of-a-wrong-password"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An etcd that asks for a password, which is the marker that is looked for."""
    with Cluster(tmp_path_factory.mktemp("guarded") / "one", auth=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, guarded: Cluster) -> Iterator[Site]:
    store = guarded.store("/secrets")
    del store["password"]
    with Site(tmp_path_factory.mktemp("secrets") / "site", store=store) as site:
        yield site


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, guarded: Cluster) -> Path:
    """The file that the sdb driver reads."""
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump({"etcd": {"password": guarded.password, "wrong": WRONG}}))
    return file


KEPT = "sdb://keys/etcd:password"


def pillar(folder: Path, password: str) -> dict[str, Any]:
    """``pillar_roots`` of a pillar that says this of the password."""
    folder.mkdir()
    (folder / "top.sls").write_text("base: {'*': [dsvolume]}\n")
    (folder / "dsvolume.sls").write_text(f"dsvolume: {{store: {{password: '{password}'}}}}\n")
    return {"base": [str(folder)]}


@pytest.fixture(scope="module")
def salt_(
    salt_factories: Any, site: Site, keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Salt]:
    """
    A master and a minion with an agent, which log all that Salt can log.

    The minion has the URI from pillar: dsvolume looks it up. What stands in a daemon's own
    configuration, as here the master's, Salt looks up when the daemon starts.
    """
    common = {"keys": {"driver": "yaml", "files": [str(keys)]}, "log_level_logfile": "trace"}
    settings = site.settings(MASTER)
    own = {
        NODE: {**common, "engines": [{"dsvolume_agent": {}}]},
        MASTER: {
            **common,
            "dsvolume": {**settings, "store": {**settings["store"], "password": KEPT}},
            "pillar_roots": pillar(tmp_path_factory.mktemp("pillar") / "base", KEPT),
        },
    }
    with started(salt_factories, site, (NODE,), name=MASTER, own=own) as salt:
        salt.run("saltutil.sync_all")
        salt.minions[NODE].terminate()
        salt.minions[NODE].start()  # with the engine
        yield salt


@contextmanager
def watched(marker: bytes) -> Iterator[list[str]]:
    """Looks at the arguments of all processes, over and over; collects where a marker is."""
    found: list[str] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    if marker in path.read_bytes():
                        found.append(str(path))
            stop.wait(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def holding(marker: str, *folders: Path) -> list[Path]:
    """The files that hold a marker."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            with suppress(OSError):
                if path.is_file() and marker.encode() in path.read_bytes():
                    found.append(path)
    return found


def test_a_password_that_sdb_keeps_is_used_and_seen_nowhere(
    salt_: Salt, site: Site, guarded: Cluster
) -> None:
    end = time.monotonic() + 60
    while not any(node["Alive"] for node in salt_("dsvolume.nodes")[NODE]):
        assert time.monotonic() < end, "the agent did not come: it has no password"
    with watched(guarded.password.encode()) as found:
        said = [
            salt_("dsvolume.create", "v", "policy=local", "fstype=ext4", "size=8"),
            salt_("dsvolume.mount", "v"),
            salt_("dsvolume.snapshot_create", "v@s"),
            salt_("dsvolume.rm", "v"),  # refused
            salt_("state.apply", "examples.cluster"),
            salt_("dsvolume.doctor"),
            salt_("dsvolume.nodes"),
            salt_("dsvolume.version"),
            salt_("dsvolume.unmount", "v"),
            salt_.run("dsvolume.ls"),
            salt_.run("dsvolume.history", "v"),
            salt_.run("dsvolume.doctor"),
        ]
    assert said[0][NODE]["Name"] == "v" and "Volume has snapshots" in said[3][NODE]
    states = said[4][NODE].values()
    assert all(state["result"] for state in states)
    assert [node["Alive"] for node in said[6][NODE]] == [True]
    assert [volume["Name"] for volume in said[9]["Volumes"]] == [
        "cluster-cache",
        "cluster-pages",
        "v",
    ]
    assert found == []
    assert guarded.password not in json.dumps(said)
    with opened(site, guarded) as manager:
        stored = json.dumps([manager._store.get(e.key).value for e in manager._store.list("")])
        assert "Volume create success" in stored and guarded.password not in stored
        assert guarded.password not in repr(manager.config)
    roots = [Path(d.config["root_dir"]) for d in (salt_.master, salt_.minions[NODE])]
    assert all(holding("dsvolume.snapshot_create", root) for root in roots)  # the logs are there
    assert holding(guarded.password, *roots, site.root) == []


@contextmanager
def opened(site: Site, guarded: Cluster) -> Iterator[VolumeManager]:
    """A manager to look with."""
    password = {"store": {"password": guarded.password}}
    config = load("looker", site.settings("looker"), password)
    manager = VolumeManager(config)
    try:
        yield manager
    finally:
        manager.close()


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("sdb://keys/etcd:wrong", "refused user dsvolume: wrong password, or no such user"),
        ("sdb://keys/etcd:none", "sdb://keys/etcd:none stands for no text"),
        ("sdb://nothing/etcd", "sdb://nothing/etcd cannot be had (SaltInvocationError)"),
        ("sdb://keys", "sdb://keys cannot be had (SaltInvocationError)"),
        (WRONG, "refused user dsvolume: wrong password, or no such user"),
    ],
)
def test_what_is_wrong_with_it_is_told_without_it(
    site: Site, keys: Path, tmp_path: Path, password: str, says: str
) -> None:
    folder = minion(site, keys, tmp_path, password)
    answer = salt_call("dsvolume.ls", "--log-level=trace", config=folder)
    assert answer.status != 0 and says in answer.err + answer.out
    assert "Traceback" in answer.err  # the log tells where an error comes from, too
    assert WRONG not in answer.err + answer.out


def minion(site: Site, keys: Path, tmp_path: Path, password: str = "", **store: Any) -> Path:
    """A masterless minion on the same store, which has its password from pillar, if any."""
    settings = site.settings(NODE)
    settings["store"] = {**settings["store"], **store}
    folder = configure(tmp_path / "minion", NODE, settings)
    config = yaml.safe_load((folder / "minion").read_text())
    config |= {"keys": {"driver": "yaml", "files": [str(keys)]}, "pillar_roots": {"base": []}}
    if password:
        config["pillar_roots"] = pillar(tmp_path / "pillar", password)
    (folder / "minion").write_text(yaml.safe_dump(config))
    return folder


def test_a_password_in_a_file_is_used_if_the_file_is_private(
    site: Site, keys: Path, tmp_path: Path, guarded: Cluster
) -> None:
    secret = tmp_path / "password"
    secret.write_text(f"{guarded.password}\n")
    folder = minion(site, keys, tmp_path, password_file=str(secret))
    for mode in (0o640, 0o604):
        secret.chmod(mode)
        answer = salt_call("dsvolume.ls", "--log-level=trace", config=folder)
        says = f"{secret} holds a secret and others may read it: chmod 600"
        assert answer.status != 0 and says in answer.err
        assert guarded.password not in answer.err + answer.out
    secret.chmod(0o600)
    with watched(guarded.password.encode()) as found:
        answer = salt_call("dsvolume.ls", "--out=json", "--log-level=trace", config=folder)
    assert answer.status == 0 and found == []
    assert guarded.password not in answer.err + answer.out
