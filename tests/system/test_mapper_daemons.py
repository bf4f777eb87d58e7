"""On a host with systemd, what maps an image lives on when the service ends that mounted it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.ceph import POLICIES, POOL, USER
from lab.machine import ROOT, Machine
from lab.site import NODE, PREAMBLE

CEPH, SITE = "/srv/ceph", "/srv/site"
POINT = f"{SITE}/mounts/v"
DEVICES = """
for number in $(seq 0 63); do mknod dev/loop$number b 7 $number; done
mknod dev/loop-control c 10 237
mknod dev/fuse c 10 229
"""
CLUSTER = f"""
import time
from pathlib import Path
from lab.ceph import Ceph
with Ceph(Path("{CEPH}")):
    Path("/run/ceph-is-up").touch()
    time.sleep(600)
"""
MOUNTS = "manager.mount('v', id='web'); Path('/run/mounted').touch(); time.sleep(600)"
CREATES = "manager.create('v', Given(policy='distributed', fstype='ext4', mb_size=16))"
UNMOUNTS = "manager.unmount('v', id='web')"
SETTINGS = {
    "root": SITE,
    "mount_namespace": "own",
    "policies": {**POLICIES, "distributed": "ds-ceph"},
    "ceph": {"conf": f"{CEPH}/ceph.conf", "client": USER, "pool": POOL, "mapper": "qemu"},
}
PATHS = f"PYTHONPATH={ROOT}/salt/_utils:{ROOT}/tests"


class Host(Machine):
    """A machine that runs a Ceph, and a manager's calls."""

    def begin(self, unit: str, code: str, *arguments: str, done: str) -> None:
        """Run Python as a service; returns when the file ``done`` is there."""
        command = (sys.executable, "-c", code, *arguments)
        self("systemd-run", f"--unit={unit}", "--collect", f"--setenv={PATHS}", *command)
        self("timeout", "50", "sh", "-c", f"until [ -e {done} ]; do sleep 0.1; done")

    def python(self, act: str) -> str:
        return self("env", PATHS, sys.executable, "-c", code(act), *ARGUMENTS)

    def daemons(self) -> list[str]:
        return self.run("pgrep", "-x", "qemu-storage-da").stdout.split()


def code(act: str) -> str:
    return f"from pathlib import Path{PREAMBLE}{act}"


ARGUMENTS = (json.dumps(NODE), json.dumps(SETTINGS))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path / "mapping", more=DEVICES) as machine:
        machine.begin("lab-ceph", CLUSTER, done="/run/ceph-is-up")
        yield machine
        # A loop device is the whole machine's, and would stay.
        machine.run("env", PATHS, sys.executable, "-c", code(UNMOUNTS), *ARGUMENTS)


def test_a_mapper_outlives_the_service_that_started_it(host: Host) -> None:
    host.python(CREATES)
    assert host.daemons() == []
    host.begin("mounter", code(MOUNTS), *ARGUMENTS, done="/run/mounted")
    [daemon] = host.daemons()
    cgroup = host("cat", f"/proc/{daemon}/cgroup")
    assert cgroup.endswith(".scope") and "mounter" not in cgroup
    host("systemctl", "stop", "mounter.service")
    assert host.daemons() == [daemon]
    host("dd", "if=/dev/zero", f"of={POINT}/late", "bs=64k", "count=8", "conv=fsync")
    host.python(UNMOUNTS)
    assert host.daemons() == [] and host.run("mountpoint", POINT).returncode
    assert cgroup.rpartition("/")[2] not in host("systemctl", "list-units", "--type=scope")
