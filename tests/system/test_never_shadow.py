"""Whoever dies or hangs around whichever call: no managed name ever becomes a local volume."""

import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.shadow import play

SECONDS = float(os.environ.get("DSVOLUME_SECONDS", "0"))
WORKERS = int(os.environ.get("DSVOLUME_WORKERS", "4"))
PAIRS = 30


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: a socket's path ends after 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="s-"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(3600)
def test_no_fault_makes_a_managed_name_a_local_volume(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("DSVOLUME_SEED") or random.SystemRandom().randrange(10**9))
    with capsys.disabled():
        print(f"\nseed: DSVOLUME_SEED={seed}")
    result = play(short, seed, workers=WORKERS, pairs=PAIRS, seconds=SECONDS)
    for words, count in result.words.most_common():
        print(count, words)
    print(result.summary())
    assert not result.violations, "\n\n".join(result.violations[:8])
    if path := os.environ.get("DSVOLUME_REPORT"):
        Path(path).write_text(json.dumps(result.summary()))
    assert result.outcomes["pair"] >= PAIRS and result.outcomes["done"] > 0
