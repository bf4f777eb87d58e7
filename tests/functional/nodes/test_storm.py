"""Nodes, processes and the store die, hang and are cut off while all work: nothing is lost."""

import json
import os
import random
from pathlib import Path

import pytest

from lab.storm import storm

SECONDS = float(os.environ.get("DSVOLUME_SECONDS", "25"))


@pytest.mark.timeout(3600)
def test_a_storm_over_three_nodes_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("DSVOLUME_SEED") or random.SystemRandom().randrange(10**9))
    with capsys.disabled():
        print(f"\nseed: DSVOLUME_SEED={seed}")
    result = storm(tmp_path, seed, SECONDS)
    assert not result.violations, result.report()
    if path := os.environ.get("DSVOLUME_REPORT"):
        Path(path).write_text(json.dumps(result.summary()))
    assert sum(result.faults.values()) >= SECONDS / 16 and result.calls > SECONDS
