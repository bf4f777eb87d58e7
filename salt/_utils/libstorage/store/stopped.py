"""
A writer of the embedded store that was stopped: found and ended.

SIGSTOP in the middle of a transaction keeps SQLite's write lock for ever. Who waits for it looks
its holder up in ``/proc/locks``; a holder that was stopped for a whole lease time, all the while
the same process, has lost its lease anyway and is killed. As for any other kill, its transaction
has then not happened.
"""

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path

_GOES = 5.0
"""Seconds that a killed process may take to be gone."""

# Bytes that SQLite locks for writing: in the -shm file the right to append to the write-ahead
# log, in the database the right to close it as its last user.
_WRITE_LOCKS = (("-shm", 120), ("", 0x40000002))


class StoppedWriter:
    """
    Ends a process that holds the write lock and was stopped for a whole lease time.

    Looked at by one waiting writer, again and again; the time begins anew when the holder, its
    start time or its state changes.
    """

    def __init__(self, path: Path, lease: float) -> None:
        self._path = path
        self._lease = lease
        self._holder: tuple[int, str] | None = None
        self._since = 0.0

    def look(self) -> None:
        with suppress(OSError, ValueError):
            holder = _stopped_holder(self._path)
            if holder is None or holder != self._holder:
                self._holder, self._since = holder, time.monotonic()
            elif time.monotonic() - self._since >= self._lease:
                _kill_stopped(*holder)


def _stopped_holder(path: Path) -> tuple[int, str] | None:
    """Pid and start time of the stopped process that holds one of the write locks, if any."""
    files = {}
    for suffix, byte in _WRITE_LOCKS:
        with suppress(FileNotFoundError):
            files[os.stat(f"{path}{suffix}").st_ino] = byte
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] != "POSIX" or fields[3] != "WRITE":
            continue
        pid, inode, start, end = int(fields[4]), int(fields[5].split(":")[2]), fields[6], fields[7]
        byte = files.get(inode, -1)
        if pid <= 0 or not int(start) <= byte or (end != "EOF" and int(end) < byte):
            continue
        started = _stopped_since_start(pid)
        if started is not None and _has_open(pid, path):
            return pid, started
    return None


def _stopped_since_start(pid: int) -> str | None:
    """The start time of a process that is stopped now, else None."""
    with suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[19] if fields[0] in ("T", "t") else None
    return None


def _has_open(pid: int, path: Path) -> bool:
    """Whether a process has this database open; inode numbers alone recur on other devices."""
    wanted = os.stat(path)
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if os.path.samestat(descriptor.stat(), wanted):
                return True
    return False


def _kill_stopped(pid: int, started: str) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        if _stopped_since_start(pid) == started:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            # Its lock is free before it is gone; what it owned is judged by whether it is there.
            select.select([descriptor], [], [], _GOES)
    finally:
        os.close(descriptor)
