"""
A host of its own with systemd as its first process, in namespaces of this one.

    with Machine(folder) as machine:
        machine("systemctl", "is-system-running", "--wait")

Its files are this host's, and what it writes goes into memory, but for the checkout, which it only
reads. It has Docker's units, started by nobody, and no network. With its first process all of it is
gone.
"""

import json
import os
import shlex
import subprocess
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Self

from libstorage.host import mounts

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
MASKED = (
    # What would reach through the namespaces, or find no hardware to wait for.
    *("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udev-settle.service"),
    *("systemd-udevd-control.socket", "systemd-udevd-kernel.socket", "systemd-sysctl.service"),
    *("systemd-modules-load.service", "systemd-binfmt.service", "systemd-random-seed.service"),
    *("systemd-networkd.service", "systemd-networkd.socket", "systemd-timesyncd.service"),
    *("systemd-logind.service", "systemd-remount-fs.service", "systemd-tmpfiles-clean.timer"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount"),
    *("sys-fs-fuse-connections.mount", "dev-hugepages.mount", "dev-mqueue.mount", "tmp.mount"),
    *("proc-sys-fs-binfmt_misc.automount", "getty.target", "console-getty.service"),
    "systemd-journald-audit.socket",
)
ENGINE = {
    "bridge": "none",
    "iptables": False,
    "ip6tables": False,
    "ip-forward": False,
    "storage-driver": "overlay2",
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
}
"""The engine's own configuration, as an operator may have written it."""
NUMBERS = count()
"""Of the machines of this process: several may have the same name."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
INIT = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=2g machine {layers}
mkdir {layers}/up {layers}/work {layers}/root
mount -t overlay -o lowerdir={tree},upperdir={layers}/up,workdir={layers}/work machine {layers}/root
cd {layers}/root
mkdir -p ./{checkout}
mount --bind {checkout} ./{checkout}
mount -o remount,bind,ro ./{checkout}
mount -t proc proc proc
mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
for name in {devices}; do : > dev/$name; mount --bind /dev/$name dev/$name; done
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mkdir -p var/lib/docker var/lib/containerd
mount -t tmpfs docker var/lib/docker
mount -t tmpfs containerd var/lib/containerd
rm -rf etc/systemd/system etc/docker etc/salt var/lib/dsvolume var/log/journal
mkdir -p etc/systemd/system etc/docker etc/tmpfiles.d
ln -sf /dev/null etc/tmpfiles.d/tmp.conf  # which empties /tmp
for unit in {masked}; do ln -s /dev/null etc/systemd/system/$unit; done
echo '{engine}' > etc/docker/daemon.json
hostname {name}
echo {name} > etc/hostname
tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
ip link set lo up
{more}
mkdir .outside
pivot_root . .outside
umount --lazy /.outside
rmdir /.outside
exec env -i container=machine PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=console --show-status=no
"""


class Machine:
    """
    One such host.

    folder
        A directory of its own, which it hides behind its memory.
    name
        Its host name.
    more
        Shell commands that prepare its root, their working directory, before it starts.
    tree
        The system that its files are of, if not this host's.
    """

    def __init__(
        self, folder: Path, name: str = "machine", more: str = "", tree: Path = Path("/")
    ) -> None:
        self.folder = folder
        self.name = name
        self._more = more
        self._tree = tree
        self._holder: subprocess.Popen[bytes] | None = None
        self._cgroup = _hierarchy() / f"machine-{os.getpid()}-{next(NUMBERS)}-{folder.name}"

    def __enter__(self) -> Self:
        (self.folder / "layers").mkdir(parents=True)
        init = self.folder / "init"
        init.write_text(
            INIT.format(
                layers=shlex.quote(str(self.folder / "layers")),
                name=self.name,
                more=self._more,
                tree=shlex.quote(str(self._tree)),
                checkout=shlex.quote(str(ROOT)),
                devices=" ".join(DEVICES),
                masked=" ".join(MASKED),
                engine=json.dumps(ENGINE),
            )
        )
        self._cgroup.mkdir()
        # Two first processes in one cgroup would take each other's services for their own.
        enter = f'echo $$ > "{self._cgroup}/cgroup.procs" && exec "$@"'
        apart = ("unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")
        with open(self.folder / "log", "wb") as log:
            self._holder = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig=KILL", "sh", "-c", enter, "sh"),
                    *(*apart, "--fork", "--kill-child", "sh", str(init)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._holder
        self._holder.kill()
        self._holder.wait(20)
        until = time.monotonic() + 20
        while self._cgroup.exists():
            _remove(self._cgroup)
            assert time.monotonic() < until, f"{self._cgroup} does not go"
            time.sleep(0.01)

    def _wait(self) -> None:
        """Until its systemd takes commands."""
        assert self._holder
        until = time.monotonic() + START_SECONDS
        while self.run("systemctl", "is-system-running", "--wait").stdout.strip() not in (
            "running",
            "degraded",
        ):
            assert self._holder.poll() is None and time.monotonic() < until, self.log[-3000:]
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Its first process, as this host numbers it."""
        assert self._holder
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        return int(children.read_text().split()[0])

    def run(
        self, *words: str, seconds: float = 60, given: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command there, however it ends."""
        try:
            inside = ("nsenter", f"--target={self.pid}", "--all", "--root", "--wd")
        except (OSError, IndexError):
            return subprocess.CompletedProcess(words, 1, "", "it has no first process yet")
        return subprocess.run(
            [*inside, *words],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def __call__(self, *words: str, seconds: float = 60, given: str = "") -> str:
        """What a command says there; AssertionError where it fails."""
        done = self.run(*words, seconds=seconds, given=given)
        assert done.returncode == 0, (words, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout.strip()

    def path(self, path: str) -> Path:
        """One of its files, as this host reaches it."""
        return Path(f"/proc/{self.pid}/root{path}")


def _hierarchy() -> Path:
    """Where this host has its cgroups of version 2."""
    return next(mount.path for mount in mounts.table() if mount.fstype == "cgroup2")


def _remove(cgroup: Path) -> None:
    for folder, _, _ in os.walk(cgroup, topdown=False):
        with suppress(OSError):  # its processes are just ending
            os.rmdir(folder)
