"""``docker dsvolume events`` as it goes on."""

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lab.cli import Cli

SECONDS = 30.0


class Live:
    """A command that goes on; its lines as they come."""

    def __init__(self, cli: Cli, *words: str) -> None:
        self.process = subprocess.Popen(
            [*cli.front, "events", *words],
            env=cli.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.come: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.come.put(line.rstrip("\n"))
        self.come.put(None)

    def until(self, text: str) -> list[str]:
        """All lines so far, the one with the text the last of them."""
        end = time.monotonic() + SECONDS
        while not (self.lines and text in self.lines[-1]):
            line = self.come.get(timeout=max(end - time.monotonic(), 0.001))
            assert line is not None, (
                self.lines,
                self.process.stderr and self.process.stderr.read(),
            )
            self.lines.append(line)
        return self.lines

    def error(self) -> str:
        """What it has said on stderr, once it has ended."""
        assert self.process.stderr
        return self.process.stderr.read()


@contextmanager
def live(cli: Cli, *words: str) -> Iterator[Live]:
    """From this moment on, however long the command takes to begin."""
    since = f"{time.time_ns() // 10**9}.{time.time_ns() % 10**9:09}"
    watching = Live(cli, f"--since={since}", *words)
    try:
        yield watching
    finally:
        with suppress(ProcessLookupError):
            os.killpg(watching.process.pid, signal.SIGKILL)
        watching.process.wait(20)
