"""Processes of this host: who one is, whether it lives, and how one that must go is ended."""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import psutil

from ..errors import BackendError
from .commands import TOKEN


@dataclass(frozen=True, slots=True)
class Process:
    """
    A process, told apart from a later one with the same pid.

    start
        Clock ticks since boot, from /proc/PID/stat: unlike a time of day, it never moves.
    namespace
        The pid namespace that the pid is meant in.
    """

    pid: int
    start: int
    namespace: str


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process, None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The command's name stands in brackets and may hold anything, brackets too.
            rest = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return rest[0], int(rest[19])


def namespace() -> str:
    """This process's pid namespace."""
    return os.readlink("/proc/self/ns/pid")


def myself() -> Process:
    """This process."""
    return _process(os.getpid())


@lru_cache(maxsize=1)
def _process(pid: int) -> Process:
    """Asked anew in a forked child; what it tells of one process never changes."""
    stat = _stat(pid)
    assert stat, "/proc is mounted"
    return Process(pid, stat[1], namespace())


def of(pid: int) -> Process | None:
    """The process that has a pid now, in this namespace."""
    stat = _stat(pid)
    return None if stat is None else Process(pid, stat[1], namespace())


def visible(process: Process) -> bool:
    """Can its pid be judged from here?"""
    return process.namespace == namespace()


def exists(process: Process) -> bool:
    """Is it still there? A zombie is not: its parent may reap it late."""
    stat = _stat(process.pid)
    return stat is not None and stat[0] not in "ZX" and stat[1] == process.start


def stopped(process: Process) -> bool:
    """Is it stopped by a signal or a tracer?"""
    stat = _stat(process.pid)
    return stat is not None and stat[0] in "Tt" and stat[1] == process.start


def finish(process: Process, patience: float = 5.0) -> None:
    """Ask exactly this process to end, and end it where it has not within so many seconds."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            if exists(process):
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                ended = select.poll()
                ended.register(handle, select.POLLIN)
                ended.poll(patience * 1000)
        finally:
            os.close(handle)
    if exists(process):
        end(process)


def end(process: Process) -> None:
    """End exactly this process, also a stopped one, and wait until it is gone (5 s at most)."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # The pidfd pins the pid: what is checked now is what the signal meets.
        if not exists(process):
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
    _wait_until_gone(lambda: [process.pid] if exists(process) else [])


def carrying(token: str) -> list[int]:
    """The pids of processes that carry an operation's token in their environment."""
    needle = f"{TOKEN}={token}".encode()
    found = []
    for pid in psutil.pids():
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if needle in file.read().split(b"\0"):
                found.append(pid)
    return found


def run_in(container: str) -> bool:
    """
    Does a process of the container live? Asked of the kernel: an engine that is stopping a
    container answers no question about it before its unmounts are answered.

    Every engine names a container's cgroup by its id, wherever it lies: ``/docker/<id>``,
    ``/system.slice/docker-<id>.scope``.
    """
    name = container.encode()
    for pid in psutil.pids():
        # One that has just ended is none.
        with suppress(OSError), open(f"/proc/{pid}/cgroup", "rb") as cgroups:
            if name in cgroups.read():
                return True
    return False


def end_carrying(token: str) -> None:
    """
    End every process that carries the token, until two scans in a row find none.

    Raises BackendError where one cannot be ended (it waits for storage in the kernel).
    """
    if not token:
        return

    def still() -> list[int]:
        found = [pid for pid in carrying(token) if pid != os.getpid()]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found

    _wait_until_gone(still)
    _wait_until_gone(still)


def _wait_until_gone(still: Callable[[], list[int]], limit: float = 5.0) -> None:
    deadline = time.monotonic() + limit
    pause = 0.002
    while left := still():
        if time.monotonic() > deadline:
            stat = _stat(left[0])
            raise BackendError(
                f"Process {left[0]} (state {stat[0] if stat else '?'}) belongs to an operation "
                f"that ended and cannot be killed; when its storage answers again, try again"
            )
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
