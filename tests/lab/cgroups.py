"""Cgroups for block I/O of a test's own, and processes in them."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libstorage.host import mounts

_ENTER = 'echo 0 > "$0" && exec "$@"'


@dataclass(frozen=True)
class Cgroup:
    """
    A cgroup.

    path
        As libstorage names it, below the root of the hierarchy.
    folder
        Where it is on this host.
    """

    path: str
    folder: Path

    def start(self, *argv: str) -> "subprocess.Popen[bytes]":
        """Start a command whose processes are in the cgroup."""
        shell = ["sh", "-c", _ENTER, str(self.folder / "cgroup.procs"), *argv]
        return subprocess.Popen(shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *argv: str, limit: float = 60) -> float:
        """Run a command there; returns the seconds that it took."""
        began = time.monotonic()
        process = self.start(*argv)
        said = process.communicate(timeout=limit)[1]
        assert process.returncode == 0, said.decode()
        return time.monotonic() - began


@contextmanager
def cgroup(name: str = "") -> Iterator[Cgroup]:
    """A cgroup that is gone afterwards; its processes must have ended."""
    unique = f"dsvolume-test-{os.getpid()}-{time.monotonic_ns()}{name}"
    folder = root() / unique
    folder.mkdir()
    try:
        yield Cgroup(f"/{unique}", folder)
    finally:
        _remove(folder)


def root() -> Path:
    """Where the hierarchy for block I/O is mounted."""
    for mount in mounts.table():
        if mount.fstype == "cgroup" and "blkio" in mount.super_options:
            return mount.path
    unified = next(mount.path for mount in mounts.table() if mount.fstype == "cgroup2")
    (unified / "cgroup.subtree_control").write_text("+io")
    return unified


def _remove(folder: Path) -> None:
    """The kernel lets go of a cgroup a moment after its last process."""
    until = time.monotonic() + 5
    while True:
        try:
            folder.rmdir()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
