"""Stores to test, and other processes that use them."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import libstorage
from lab.etcd import Cluster
from libstorage.store.contract import Store
from libstorage.store.embedded import EmbeddedStore
from libstorage.store.etcd import EtcdStore
from libstorage.store.etcd_settings import EtcdSettings

LEASE = 0.6  # seconds; long enough for a machine that is busy with other tests

PREAMBLE = """
import os, sys, time
from pathlib import Path
from libstorage.store.contract import Delete, KeyAbsent, KeyAtRevision, PrefixEmpty, Put
from libstorage.store.embedded import EmbeddedStore
path, arguments = Path(sys.argv[1]), sys.argv[2:]
store = EmbeddedStore(path, describe=lambda: {"pid": os.getpid()}, lease=%s)
"""

ETCD_PREAMBLE = """
import json, os, sys, time
from libstorage.store.contract import Delete, KeyAbsent, KeyAtRevision, PrefixEmpty, Put
from libstorage.store.etcd import EtcdStore
from libstorage.store.etcd_settings import EtcdSettings
settings, arguments = EtcdSettings.read(json.loads(sys.argv[1])), sys.argv[2:]
store = EtcdStore(settings, describe=lambda: {"pid": os.getpid()}, lease=1)
"""


def describe() -> dict[str, Any]:
    return {"node": "here", "pid": os.getpid()}


@pytest.fixture
def lease() -> float:
    """Seconds that the leases of these tests run."""
    return LEASE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.db"


@pytest.fixture
def make_embedded(path: Path) -> Iterator[Callable[..., EmbeddedStore]]:
    """Makes stores on the same database; all are closed in the end."""
    made: list[EmbeddedStore] = []

    def make(**options: Any) -> EmbeddedStore:
        options.setdefault("lease", LEASE)
        store = EmbeddedStore(options.pop("path", path), describe=describe, **options)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def make_etcd(etcd: Cluster) -> Iterator[Callable[..., EtcdStore]]:
    """Makes stores on one cluster, below a prefix of this test's own; all are closed in the end."""
    made: list[EtcdStore] = []
    prefix = f"/{uuid.uuid4().hex}"

    def make(cluster: Cluster = etcd, **over: Any) -> EtcdStore:
        settings = EtcdSettings.read(cluster.store(prefix, **over))
        store = EtcdStore(settings, describe=describe, lease=1)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture(params=["embedded", "etcd"])
def make_store(request: pytest.FixtureRequest) -> Callable[[], Store]:
    """Makes stores of each kind; what one writes the others of the same test see."""
    maker: Callable[[], Store] = request.getfixturevalue(f"make_{request.param}")
    return maker


@pytest.fixture
def store(make_store: Callable[[], Store]) -> Store:
    return make_store()


@pytest.fixture
def run(path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """
    Starts Python processes that have the embedded store as ``store``; none outlives the test.

    Each may print lines, to be read from ``stdout``.
    """
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object, lease: float = LEASE) -> "subprocess.Popen[str]":
        started.append(_python(PREAMBLE % lease + code, path, *arguments))
        return started[-1]

    yield start
    _end(started)


@pytest.fixture
def run_etcd() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """The same with the etcd store of the settings that are given (``dsvolume:store``)."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, settings: dict[str, Any], *arguments: object) -> "subprocess.Popen[str]":
        started.append(_python(ETCD_PREAMBLE + code, json.dumps(settings), *arguments))
        return started[-1]

    yield start
    _end(started)


def _python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(libstorage.__file__).parent.parent)},
    )


def _end(started: "list[subprocess.Popen[str]]") -> None:
    for process in started:
        process.kill()
        process.communicate()
