"""
The story of a real master and its minions: ``salt '*' dsvolume.info`` beside ``test.ping``.

There are as many minions as the smallest test host has cores: each has a host of its own in truth.

The client is held open, as a runner or an API holds it: a new one costs more than the job.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml

from benchmarks.measure import Step, Story
from benchmarks.place import EtcdPlace, Place
from lab.etcd import free_ports

ROOT = Path(__file__).resolve().parents[2]
MINIONS = ("node1", "node2")
PATIENCE = 120.0
"""Seconds until all minions answer."""


def stories(place: Place) -> list[Story]:
    """The one."""
    name = "etcd.salt_info"

    def begin() -> Callable[[int], Iterator[Step]]:
        salt = place.also(Salt(place.on_etcd(), place.root.parent / "salt"))
        salt.alike("dsvolume.create", "db", policy="local")
        return lambda _: iter(
            [Step(name, partial(salt.all, "dsvolume.info", "db"), partial(salt.all, "test.ping"))]
        )

    return [Story((name,), begin)]


class Salt:
    """A master that serves this checkout, its minions, and a client of it."""

    def __init__(self, place: EtcdPlace, folder: Path) -> None:
        self._place = place
        self._folder = folder
        self._stack = ExitStack()
        self._client: Any = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            publish, back = free_ports(2)
            common = {
                "publish_port": publish,
                "log_level": "critical",
                "log_level_logfile": "error",
                "enable_fqdns_grains": False,
                "disable_grains": ["lvm"],
            }
            roots = {"file_roots": {"base": [str(ROOT / "salt")]}, "pillar_roots": {"base": []}}
            master = {"interface": "127.0.0.1", "ret_port": back, "auto_accept": True}
            self._start(stack, "master", "master", {**common, **roots, **master})
            for node in MINIONS:
                settings = self._place.site.settings(node)
                minion = {"id": node, "master": "127.0.0.1", "master_port": back}
                self._start(stack, node, "minion", {**common, **minion, "dsvolume": settings})
            self._connect()
            self.alike("saltutil.sync_all")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.destroy()
        self._stack.close()

    def all(self, function: str, *arguments: object, **named: object) -> dict[str, Any]:
        """What each minion answers."""
        answers: dict[str, Any] = self._client.cmd(
            "*", function, list(arguments), kwarg=named, timeout=30
        )
        assert sorted(answers) == sorted(MINIONS), answers
        return answers

    def alike(self, function: str, *arguments: object, **named: object) -> Any:
        """What all answer."""
        first, *others = self.all(function, *arguments, **named).values()
        assert all(other == first for other in others), (first, others)
        return first

    def _start(self, stack: ExitStack, name: str, kind: str, settings: dict[str, Any]) -> None:
        folder = self._folder / name
        folder.mkdir(parents=True)
        settings |= {"root_dir": str(folder), "user": "root"}
        (folder / kind).write_text(yaml.safe_dump(settings))
        program = Path(sys.executable).with_name(f"salt-{kind}")
        process = subprocess.Popen(
            [program, f"--config-dir={folder}"],
            # As a service has it: compiled code is kept.
            env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        stack.callback(_end, process)

    def _connect(self) -> None:
        import salt.client
        import salt.exceptions

        until = time.monotonic() + PATIENCE
        path = str(self._folder / "master" / "master")
        found: dict[str, Any] = {}
        while sorted(found) != sorted(MINIONS):
            assert time.monotonic() < until, f"of the minions only {sorted(found)} answer"
            # One that was made before the master is there hears nothing of it.
            self._client = salt.client.LocalClient(path)
            try:
                found = self._client.cmd("*", "test.ping", timeout=2)
            except salt.exceptions.SaltException:
                time.sleep(1)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """A daemon and all its processes."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
