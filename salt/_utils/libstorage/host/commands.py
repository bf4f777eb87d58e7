"""
Commands, run for one piece of work: argument lists, time limits, captured errors.

Every child carries the token of its operation in its environment. A child may outlive the process
that started it (kill -9 of the parent); whoever recovers the operation finds it by the token and
ends it before doing anything else.
"""

import os
import select
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CommandFailed, CommandTimeout, ToolMissing

TOKEN = "DSVOLUME_TOKEN"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIMIT = 60.0
"""Seconds that a command may take where its caller does not say otherwise."""

_PACKAGES = {
    "mkfs.xfs": "xfsprogs",
    "xfs_repair": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "btrfs": "btrfs-progs",
    "mkfs.ext2": "e2fsprogs",
    "mkfs.ext3": "e2fsprogs",
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "tune2fs": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "xfs_admin": "xfsprogs",
    "xfs_growfs": "xfsprogs",
    "btrfstune": "btrfs-progs",
    "losetup": "util-linux",
    "qemu-storage-daemon": "qemu-system-common, with qemu-block-extra",
    "rbd": "ceph-common",
    "modprobe": "kmod",
    "fusermount3": "fuse3",
    "blkid": "util-linux",
    "mount": "mount",
    "umount": "mount",
    "cp": "coreutils",
    "du": "coreutils",
    "sync": "coreutils",
}


@dataclass(frozen=True, slots=True)
class Work:
    """
    One piece of work on this host, as controllers and ``host`` receive it.

    token
        The operation's token; empty for work that changes nothing.
    seconds
        How long the whole work may take, counted from now.
    """

    token: str = ""
    seconds: float = 600.0
    begun: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds until this work must have ended."""
        return max(0.0, self.begun + self.seconds - time.monotonic())

    def run(
        self,
        *argv: str,
        limit: float = LIMIT,
        fine: tuple[int, ...] = (0,),
        holding: tuple[int, ...] = (),
        session: bool = False,
        folder: Path | None = None,
    ) -> str:
        """
        Run a command and return what it wrote to standard output.

        limit
            Seconds for this command; never more than the work has left.
        fine
            Exit statuses that are no failure.
        holding
            Open files that it has as well, by the same numbers.
        session
            It leads a session of its own.
        folder
            Where it works; where we do without one.

        Raises ToolMissing, CommandFailed, or CommandTimeout (the command is killed).
        """
        limit = min(limit, self.left())
        if not limit:
            raise CommandTimeout(f"{argv[0]} was not started: the time for this work is over")
        how = {"pass_fds": holding, "start_new_session": session, "cwd": folder}
        return _run(argv, self.token, limit, fine, how)


class _Child(subprocess.Popen[str]):
    """A command whose end is seen at once: subprocess itself looks every few milliseconds."""

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None and self.returncode is None:
            with suppress(OSError):
                handle = os.pidfd_open(self.pid)
                try:
                    poll = select.poll()
                    poll.register(handle, select.POLLIN)
                    poll.poll(timeout * 1000)
                finally:
                    os.close(handle)
                timeout = 0
        return super().wait(timeout)


def _run(
    argv: tuple[str, ...],
    token: str,
    limit: float,
    fine: tuple[int, ...],
    how: dict[str, Any],
) -> str:
    environment = {"PATH": PATH, "LC_ALL": "C", TOKEN: token}
    try:
        child = _Child(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            **how,
        )
    except FileNotFoundError:
        package = _PACKAGES.get(argv[0])
        way_out = f"install the package {package}" if package else "install it"
        raise ToolMissing(f"{argv[0]} is not on this host; {way_out}") from None
    except OSError as exc:
        raise CommandFailed(argv, exc.errno or 1, f"cannot be started: {exc.strerror}") from exc
    try:
        out, err = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise CommandTimeout(_abandon(child, argv, limit)) from None
    if child.returncode not in fine:
        raise CommandFailed(argv, child.returncode, _last_words(err) or _last_words(out))
    return out


def _abandon(child: "subprocess.Popen[str]", argv: tuple[str, ...], limit: float) -> str:
    """Kill a child that took too long; says what became of it."""
    child.kill()
    said = f"{argv[0]} did not end within {limit:.0f} s"
    try:
        child.communicate(timeout=2)
    except subprocess.TimeoutExpired:
        # Stuck in the kernel: it cannot be waited for without blocking others.
        return f"{said} and cannot be killed (process {child.pid}); is its storage reachable?"
    return f"{said} and was ended: {' '.join(argv)}"


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # dmesg(1) is where mount(8) sends its reader; the line before says what happened.
    useful = [line for line in lines if "dmesg(1)" not in line]
    return (useful or lines or [""])[-1][:300]


def find(tool: str) -> bool:
    """Is the command on this host?"""
    return any(os.access(f"{folder}/{tool}", os.X_OK) for folder in PATH.split(":"))


def need(tool: str) -> None:
    """Raise ToolMissing, naming the package, unless the command is on this host."""
    if not find(tool):
        package = _PACKAGES.get(tool, tool)
        raise ToolMissing(f"{tool} is not on this host; install the package {package}")
