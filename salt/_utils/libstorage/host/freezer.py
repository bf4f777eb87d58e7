"""
The helper process of ``freezing``: holds one filesystem frozen, for a limited time.

It is run as a program, with ``-I -S`` and the standard library only, so that it is there within
15 ms. Whoever dies or stops, the filesystem is thawed:

    parent asks (a byte on standard input)   thaw, say "thawed"
    parent is gone (end of file, or its pid) thaw, say "late" to nobody
    parent is stopped, or slow               thaw when the limit is over, say "late"

A limit of 0 freezes nothing and only thaws. ``failed ERRNO`` tells why either did not work. Only
SIGKILL ends it early, and then the parent sees the end of its output and thaws.

Its descriptors are opened before it freezes: whoever touches a frozen filesystem may wait in the
kernel until it is thawed.
"""

import errno
import fcntl
import os
import re
import select
import signal
import sys
import time
from contextlib import suppress

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878


def main(mountpoint: str, limit: float) -> None:
    until = time.monotonic() + limit
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        folder = _open(mountpoint)
        asked = not limit or _hold(folder, until)
        fcntl.ioctl(folder, FITHAW, 0)
    except OSError as exc:
        _say(f"failed {exc.errno}")
    else:
        _say("thawed" if asked else "late")


def _open(mountpoint: str) -> int:
    """
    A descriptor of what is mounted at exactly this path.

    Raises OSError (ENOENT) where nothing is: the filesystem around it is not to be frozen.
    """
    folder = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    with open(f"/proc/self/fdinfo/{folder}", encoding="ascii") as file:
        id_ = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    with open("/proc/self/mountinfo", "rb") as table:
        paths = [line.split(b" ")[4] for line in table if line.startswith(f"{id_} ".encode())]
    plain = [re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), p) for p in paths]
    if plain != [os.path.realpath(os.fsencode(mountpoint))]:
        raise FileNotFoundError(errno.ENOENT, "Nothing is mounted there")
    return folder


def _hold(folder: int, until: float) -> bool:
    """Freeze, and hold it until that is over; was it the parent's request that ended it?"""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    # A fork of the parent may have kept the other end of the pipe.
    poll.register(os.pidfd_open(os.getppid()), select.POLLIN)
    fcntl.ioctl(folder, FIFREEZE, 0)
    _say("frozen")
    ready = poll.poll(max(0.0, until - time.monotonic()) * 1000)
    return any(fd == 0 and event & select.POLLIN for fd, event in ready) and os.read(0, 1) != b""


def _say(word: str) -> None:
    with suppress(OSError):
        os.write(1, f"{word}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
    os._exit(0)
