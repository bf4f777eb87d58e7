"""
What takes a kernel that this machine's need not be: the tests of tests/guest pass in a guest
(tests/lab/guest), with this checkout and its .venv.
"""

import os
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 420
HOURS = 3 * 3600
GUEST = ROOT / "tests/lab/guest"

JOB = f"""
cd {shlex.quote(str(ROOT))} || exit
modprobe -a loop ext4 xfs bfq || exit
export LAB_GUEST=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 VARIABLES
exec {shlex.quote(sys.executable)} -m pytest TESTS -p pytest_timeout -p no:cacheprovider \\
    --basetemp=/run/tests --junit-xml=/run/lab/report.xml --durations=5 -rA --tb=short
"""
NETWORK = """
modprobe virtio_net && ip address add 10.0.0.2/30 dev eth0 && ip link set eth0 up || exit
"""
CEPH = "tests/guest/ceph"
ALONE = ("setpriv", "--pdeathsig", "TERM", "unshare", "--net", sys.executable)
"""In a network of its own, and ended with this process."""


@pytest.mark.timeout(SECONDS + 60)
def test_limits_hold_under_cgroup_v2(tmp_path: Path):
    write_job(tmp_path, f"tests/guest --ignore={CEPH}")
    assert ran(GUEST / "run.sh", tmp_path) == 34  # fewer have proved nothing


@pytest.mark.timeout(SECONDS + 60)
def test_volumes_in_ceph_are_mapped_by_the_kernel_and_by_nbd(tmp_path: Path):
    write_job(tmp_path, f"{CEPH}/test_mappers.py", NETWORK)
    assert ran_beside_ceph(tmp_path) == 11


if every := os.environ.get("DSVOLUME_EVERY_IN_GUEST"):  # a soak's: it takes an hour or more

    @pytest.mark.timeout(HOURS + 60)
    def test_a_death_at_any_point_leaves_no_device_of_the_kernel(tmp_path: Path):
        told = f"DSVOLUME_EVERY={every} DSVOLUME_REPORT=/run/lab/faults.txt"
        write_job(tmp_path, f"{CEPH}/test_mapper_sweep.py", NETWORK, told)
        assert ran_beside_ceph(tmp_path, HOURS) == 8
        if report := os.environ.get("DSVOLUME_REPORT"):
            Path(report).write_text((tmp_path / "faults.txt").read_text())


def write_job(folder: Path, tests: str, network: str = "", variables: str = "") -> None:
    """What a guest does: the tests at these paths."""
    job = JOB.replace("TESTS", tests).replace("VARIABLES", variables)
    (folder / "job").write_text(network + job)


def ran_beside_ceph(folder: Path, seconds: int = SECONDS) -> int:
    subprocess.run([GUEST / "build.sh"], check=True)  # it may need the network that is here
    return ran(*ALONE, GUEST / "with_ceph.py", folder, seconds=seconds)


def ran(*command: str | Path, seconds: int = SECONDS) -> int:
    """Let a guest do its job, in the last-named folder; how many tests passed, which is all."""
    if os.geteuid() != 0:
        pytest.skip("the guest reads this machine's root file system as root")
    run = subprocess.run(
        [*command, str(seconds)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}/tests:{ROOT}/salt/_utils"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0
    suites = list(ET.parse(Path(command[-1], "report.xml")).iter("testsuite"))
    assert sum(int(suite.get("skipped", 0)) for suite in suites) == 0
    return sum(int(suite.get("tests", 0)) for suite in suites)
