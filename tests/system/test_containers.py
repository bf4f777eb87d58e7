"""Containers come and go, the engine and the bridge are killed: the records follow."""

import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.fleet import play

OPERATIONS = int(os.environ.get("DSVOLUME_OPERATIONS", "60"))
FRESH = int(os.environ.get("DSVOLUME_SEED") or random.SystemRandom().randrange(10**9))


def say(text: str) -> None:
    """Progress of a long run, as it goes on."""
    print(text, flush=True)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: a socket's path ends after 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="f-"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, FRESH], ids=["fixed", "fresh"])
def test_records_engine_and_mount_table_agree(
    short: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\nseed: DSVOLUME_SEED={seed}")
        result = play(short, seed, OPERATIONS, say if OPERATIONS > 100 else lambda _: None)
    assert not result.violations, "\n\n".join(result.violations[:5])
    if path := os.environ.get("DSVOLUME_REPORT"):
        Path(path).write_text(json.dumps(result.summary()))
    assert sum(result.operations.values()) == OPERATIONS and sum(result.faults.values()) > 0
