"""
Limits on a kernel with cgroup v2, which this machine's need not have: the tests of tests/guest pass
in a guest (tests/lab/guest), with this checkout and its .venv.
"""

import os
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = 34  # a guest that ran fewer has proved nothing
SECONDS = 270

JOB = f"""
cd {shlex.quote(str(ROOT))} || exit
modprobe -a loop ext4 xfs bfq || exit
export LAB_GUEST=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
exec {shlex.quote(sys.executable)} -m pytest tests/guest -p pytest_timeout -p no:cacheprovider \\
    --basetemp=/run/tests --junit-xml=/run/lab/report.xml --durations=5 -rA --tb=short
"""


@pytest.mark.timeout(SECONDS + 60)
def test_limits_hold_under_cgroup_v2(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("the guest reads this machine's root file system as root")
    (tmp_path / "job").write_text(JOB)
    run = subprocess.run(
        [ROOT / "tests/lab/guest/run.sh", tmp_path, str(SECONDS)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0
    suites = list(ET.parse(tmp_path / "report.xml").iter("testsuite"))
    ran = {kind: sum(int(s.get(kind, 0)) for s in suites) for kind in ("tests", "skipped")}
    assert ran == {"tests": TESTS, "skipped": 0}
