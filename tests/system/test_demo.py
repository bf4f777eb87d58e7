"""What the README promises works as written."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_plays_to_its_end_and_leaves_nothing():
    demo = subprocess.run(
        [sys.executable, "tests/lab/demo.py"],
        cwd=ROOT,
        env={**os.environ, "ONLY": ""},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout[-4000:] + demo.stderr[-2000:]
