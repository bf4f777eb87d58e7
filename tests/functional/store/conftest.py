"""Stores to test, and other processes that use them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import libstorage
from libstorage.store.contract import Store
from libstorage.store.embedded import EmbeddedStore

LEASE = 0.6  # seconds; long enough for a machine that is busy with other tests

PREAMBLE = """
import os, sys, time
from pathlib import Path
from libstorage.store.contract import Delete, KeyAbsent, KeyAtRevision, PrefixEmpty, Put
from libstorage.store.embedded import EmbeddedStore
path, arguments = Path(sys.argv[1]), sys.argv[2:]
store = EmbeddedStore(path, describe=lambda: {"pid": os.getpid()}, lease=%s)
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


@pytest.fixture(params=["embedded"])
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
    Starts Python processes that have the store as ``store``; none outlives the test.

    Each may print lines, to be read from ``stdout``.
    """
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object, lease: float = LEASE) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE % lease + code, path, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(libstorage.__file__).parent.parent)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
