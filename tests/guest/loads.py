"""
I/O on a volume by a process in a cgroup, and the rates that it got.

Run as a program, this file is that process: it joins the cgroup, works for its time, and says when
each operation was done, by the clock that all processes of the host share.
"""

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
DIRECT = ("read", "write")
"""One operation after the other past the page cache, on the file ``data``."""
BUFFERED = "buffered"
"""A new file of BLOCK bytes is written into the page cache, then out with fsync."""


class Load:
    """A process that does I/O below a directory; its results are there when it has ended."""

    def __init__(self, kind: str, point: Path, cgroup: str, block: int, seconds: float) -> None:
        self.block = block
        arguments = [kind, str(point), cgroup, str(block), str(seconds)]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._times: list[float] = []

    def wait(self) -> "Load":
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        self._times = json.loads(out)
        return self

    def operations(self, since: float = 0.0, until: float = float("inf")) -> float:
        """Operations per second from ``since`` to ``until``, as time.monotonic() has them."""
        times = [t for t in self._times if since <= t <= until]
        assert len(times) > 1, f"{len(times)} operations done"
        return (len(times) - 1) / (times[-1] - times[0])

    def bytes(self, since: float = 0.0, until: float = float("inf")) -> float:
        """Bytes per second, likewise."""
        return self.operations(since, until) * self.block


def main(kind: str, point: str, cgroup: str, block: int, seconds: float) -> list[float]:
    (CGROUPS / cgroup.strip("/") / "cgroup.procs").write_text(str(os.getpid()))
    if kind == BUFFERED:
        return write_and_sync(Path(point, f"new-{os.getpid()}"), block)
    return direct(kind, Path(point, "data"), block, seconds)


def direct(kind: str, file: Path, block: int, seconds: float) -> list[float]:
    handle = os.open(file, os.O_DIRECT | (os.O_RDONLY if kind == "read" else os.O_WRONLY))
    do = os.preadv if kind == "read" else os.pwritev
    buffer, size = mmap.mmap(-1, block), file.stat().st_size  # a mapping lies as O_DIRECT needs it
    times: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        do(handle, [buffer], len(times) * block % size)
        times.append(time.monotonic())
    return times


def write_and_sync(file: Path, amount: int) -> list[float]:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(handle, bytes(amount))
    start = time.monotonic()  # what comes before takes the emulated processor's time
    os.fsync(handle)
    return [start, time.monotonic()]


if __name__ == "__main__":
    KIND, POINT, CGROUP, BLOCK, SECONDS = sys.argv[1:]
    print(json.dumps(main(KIND, POINT, CGROUP, int(BLOCK), float(SECONDS))))
