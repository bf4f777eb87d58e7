"""The nodes of a storm: each with a root, a network and processes of its own."""

import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lab.site import Site
from libstorage.config import Config
from libstorage.manager import VolumeManager

TESTS = Path(__file__).resolve().parents[2]

AGENT = """
with open(arguments[0], "a", buffering=1) as log:
    manager.agent().run(lambda text: print(f"{time.monotonic():.3f} {text}", file=log))
"""
WORKER = """
sys.path.insert(0, arguments[0])
from lab.storm import worker
worker.main(manager, *arguments[1:])
"""


class Running:
    """
    A process that is started anew whenever it has ended.

    start
        Starts its n-th life.
    wanted
        Is it to be there?
    """

    def __init__(self, name: str, start: Callable[[int], "subprocess.Popen[str]"]) -> None:
        self.name = name
        self.wanted = True
        self.lives = 0
        self.process: subprocess.Popen[str] | None = None
        self._start = start

    def signal(self, number: int) -> None:
        """Send it a signal, where it is there."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def kill(self) -> None:
        """End it for good."""
        self.wanted = False
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(20)

    def keep(self) -> str:
        """Start it where it has ended; what it said, where it was not ended by a SIGKILL."""
        said = ""
        if self.process is not None and self.process.poll() not in (None, -signal.SIGKILL):
            code = self.process.returncode
            said = f"{self.name} ended with {code}: {self.process.communicate()[1][-3000:]}"
        ended = self.process is None or self.process.poll() is not None
        if ended:
            self.process = None
            if self.wanted:
                self.lives += 1
                self.process = self._start(self.lives)
        return said


class Node:
    """
    A node: its root, an agent, and workers.

    site
        Its root; ``site.enter`` leads into its network.
    logs
        Where its agent and its workers write.
    seed
        Of its workers' choices.
    """

    def __init__(self, name: str, site: Site, logs: Path, workers: int, seed: int) -> None:
        self.name = name
        self.site = site
        self.boots = 1
        self.agent = Running(f"{name}'s agent", lambda _: self._start_agent(logs))
        self.workers = [
            Running(f"{name}-{number}", self._starting(f"{name}-{number}", logs, seed + number))
            for number in range(workers)
        ]

    @property
    def running(self) -> list[Running]:
        return [self.agent, *self.workers]

    @property
    def config(self) -> Config:
        return self.site.configured(self.name)

    def manager(self, store: dict[str, object]) -> VolumeManager:
        """A manager of this node in this process, which is in the servers' network."""
        return self.site.manager(self.name, store=store)

    def power_off(self) -> None:
        """All its processes end, and what was mounted and in memory is gone."""
        for running in self.running:
            running.wanted = False
        self.site.crash(self.name)

    def power_on(self) -> None:
        """It boots: its processes are started at the next look."""
        self.boots += 1
        for running in self.running:
            running.wanted = True

    def _start_agent(self, logs: Path) -> "subprocess.Popen[str]":
        return self.site.python(AGENT, str(logs / f"{self.name}.agent"), node=self.name)

    def _starting(
        self, slot: str, logs: Path, seed: int
    ) -> Callable[[int], "subprocess.Popen[str]"]:
        def start(life: int) -> "subprocess.Popen[str]":
            log = str(logs / f"{slot}.{life}.calls")
            told = (str(TESTS), slot, life, log, seed * 1000 + life)
            return self.site.python(WORKER, *told, node=self.name)

        return start
