"""What hangs with a Ceph that is away holds up nobody else's volumes on the host."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from lab.ceph import Ceph
from lab.site import Site, assert_clean
from libstorage.manager import Given, VolumeManager

PROMPT = 7.0
"""Seconds that a verb on a small volume may take on a busy machine."""
LONGEST = 40
"""Seconds that Ceph stays away, whatever hangs: others on this host may hang with it."""
SIZE = 192  # MB
GROWN = 256  # a btrfs grows to no less
USER = """
import os, sys
device = os.open(sys.argv[1], os.O_RDWR)
print("open", flush=True)
sys.stdin.readline()
os.pread(device, 4096, 8 * 2**20)
"""
GOES_ON = """
import os, signal, sys, time
time.sleep(float(sys.argv[2]))
os.kill(int(sys.argv[1]), signal.SIGCONT)
"""
LIVES = """
from libstorage.errors import MountBusy
took = {}
def timed(what, verb, *words):
    began = time.monotonic()
    try:
        return verb(*words)
    finally:
        took[f"{fstype}: {what}"] = time.monotonic() - began
fstype = "Ceph"
for attempt in ("first", "second"):
    try:
        timed(f"{attempt} unmount of what hangs", manager.unmount, "away")
    except MountBusy as exc:
        assert "gives no answer; is its storage reachable?" in str(exc), exc
    else:
        raise AssertionError("what hangs was let go of")
size, grown = arguments
for fstype in ("ext4", "xfs", "btrfs", "raw"):
    timed("create", manager.create, "v", Given(policy="local", fstype=fstype, mb_size=size))
    point = timed("mount", manager.mount, "v")["Mountpoint"]
    path = point if fstype == "raw" else f"{point}/file"
    with open(path, "r+b" if fstype == "raw" else "wb") as file:
        file.write(b"something")
    timed("snapshot", manager.snapshot_create, "v@s")
    timed("unmount", manager.unmount, "v")
    timed("usage", manager.usage, "v")
    timed("clone", manager.snapshot_clone, "v@s", "w")
    timed("mount of the clone", manager.mount, "w")
    timed("unmount of the clone", manager.unmount, "w")
    timed("resize", manager.resize, "v", grown)
    timed("rollback", manager.rollback, "v@s")
    timed("rm of the clone", manager.rm, "w")
    timed("rm of the snapshot", manager.snapshot_rm, "v@s")
    timed("rm", manager.rm, "v")
print(json.dumps(took))
"""


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """One of our own: it is stopped."""
    with Ceph(tmp_path_factory.mktemp("ceph") / "c") as cluster:
        yield cluster


@contextmanager
def away(ceph: Ceph) -> Iterator[None]:
    """Ceph gives no answer, until the end or for so long."""
    words = (str(ceph._daemons["osd"].pid), str(LONGEST))
    ends = subprocess.Popen([sys.executable, "-c", GOES_ON, *words])
    ceph.signal("osd", signal.SIGSTOP)
    try:
        yield
    finally:
        ceph.signal("osd", signal.SIGCONT)
        ends.kill()
        ends.wait()


@contextmanager
def hung(ceph: Ceph, device: str) -> Iterator[None]:
    """
    Ceph is away, and the device's last user was killed: it is closed for ever, with its lock.

    What he was to read is under way, and the kernel waits for it.
    """
    pipe = subprocess.PIPE
    words = (sys.executable, "-c", USER, device)
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as user:
        assert user.stdin and user.stdout and user.stdout.readline() == "open\n"
        with away(ceph):
            user.stdin.write("\n")
            user.stdin.flush()
            until = time.monotonic() + PROMPT
            while psutil.Process(user.pid).status() != psutil.STATUS_DISK_SLEEP:
                assert time.monotonic() < until, "it does not read"
                time.sleep(0.01)
            user.kill()
            with subprocess.Popen(["dd", f"if={device}", "count=0"], stderr=pipe) as opens:
                with pytest.raises(subprocess.TimeoutExpired):
                    opens.wait(0.5)
                yield
                ceph.signal("osd", signal.SIGCONT)
                opens.communicate(timeout=60)


def test_all_verbs_of_local_images_go_on(ceph: Ceph, site: Site, manager: VolumeManager) -> None:
    for name, fstype in (("away", "raw"), ("dirty", "ext4")):
        manager.create(name, Given(policy="distributed", fstype=fstype, mb_size=16))
    [device] = device_of(site, manager.mount("away")["Mountpoint"])
    file = Path(manager.mount("dirty")["Mountpoint"]) / "file"
    dirties = ["dd", "if=/dev/zero", f"of={file}", "bs=1M", "count=1", "conv=fsync"]
    with hung(ceph, device):
        writes = subprocess.Popen(dirties, stderr=subprocess.DEVNULL)
        lives = site.python(LIVES, SIZE, GROWN)
        try:
            out, err = lives.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            lives.kill()
            pytest.fail("a verb hangs with Ceph")
        assert lives.returncode == 0, err
        assert writes.poll() is None
    slow = {verb: took for verb, took in json.loads(out).items() if took > PROMPT}
    assert not slow
    assert writes.wait(60) == 0 and file.stat().st_size == 2**20
    for name in ("away", "dirty"):
        manager.unmount(name)
        manager.rm(name)
    assert_clean(site)


def device_of(site: Site, point: str) -> list[str]:
    """The loop device that a raw volume shows."""
    number = Path(point).stat().st_rdev
    return [device for device in site.loops() if Path(device).stat().st_rdev == number]
