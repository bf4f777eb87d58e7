"""
Faults at every point of a verb.

A *point* is a place where a process may die with a difference: before and after each transaction
of the store, each command, and each change to files or cgroups. A victim, a forked process, runs
one verb and meets its fault at the n-th point:

kill
    SIGKILL.
stop
    SIGSTOP; another process recovers; SIGCONT.
orphan
    SIGKILL while a child command is running, which goes on for a while and then does its work.

Afterwards the next call of the verb, or ``doctor fix=True``, must bring everything in order.
"""

import functools
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.site import Site, assert_clean
from libstorage.config import Config
from libstorage.errors import NoSuchVolume
from libstorage.host import commands, files, images, mounts, throttling
from libstorage.manager import VolumeManager
from libstorage.records import JSON
from libstorage.store import open_store

ACTIONS = ("kill", "stop", "orphan")
LEASE = 0.4
"""Seconds; how soon a stopped process counts as gone."""
ORPHAN_LIVES = 0.3
"""Seconds that an orphaned command waits before it does its work."""

_FILE_CHANGES = (
    "make_directory",
    "make_sparse",
    "remove",
    "remove_json",
    "set_immutable",
    "sync",
    "wipe",
    "write_json",
)
_ORPHANED = f'kill -9 $PPID; sleep {ORPHAN_LIVES}; exec "$@"'

Act = Callable[[VolumeManager], object]


@dataclass(frozen=True)
class Scenario:
    """
    A verb on a kind of volume; ``check`` raises where the volume is half made or lost.

    settings
        Of the site, beside those that all have.
    """

    name: str
    prepare: Act
    act: Act
    check: Act
    settings: dict[str, Any] = field(default_factory=dict)


class Trap:
    """Counts the points of a run and springs at the chosen one; ``at`` None: only counts."""

    def __init__(self, at: int | None = None, action: str = "kill") -> None:
        self.at = at
        self.action = action
        self.count = 0
        self.commands: list[int] = []

    def point(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGSTOP if self.action == "stop" else signal.SIGKILL)

    def around(self, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            self.point()
            result = function(*args, **kwargs)
            self.point()
            return result

        return call

    def around_command(self, run):
        def call(argv, *args):
            if self.action == "orphan" and self.count + 1 == self.at:
                argv = ("sh", "-c", _ORPHANED, "sh", *argv)
            else:
                self.point()
            if self.at is None:
                self.commands.append(self.count)
            result = run(argv, *args)
            self.point()
            return result

        return call

    def set(self, config: Config) -> None:
        """Patch this process, which must be a victim."""
        store = type(open_store(config, dict))
        store.transact = self.around(store.transact)
        commands._run = self.around_command(commands._run)
        for name in _FILE_CHANGES:
            setattr(files, name, self.around(getattr(files, name)))
        mounts.remove_tree = self.around(mounts.remove_tree)
        throttling._write = self.around(throttling._write)
        if self.action == "orphan":
            # Small copies too by a child, which may outlive us.
            images.copy_here = lambda source, target: False
        else:
            images.copy_here = self.around(images.copy_here)


def fork_victim(config: Config, act: Act, trap: Trap) -> tuple[int, int]:
    """Start a victim; returns its pid and a pipe that tells its points when it gets to the end."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.close(reading)
        trap.set(config)
        act(VolumeManager(config))
        os.write(writing, json.dumps([trap.count, trap.commands]).encode())
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def points_of(scenario: Scenario, action: str, store: JSON | None = None) -> list[int]:
    """The points that a verb has, for an action; found by letting a victim live."""
    with fresh_site(store, **scenario.settings) as site:
        _prepare(scenario, site)
        pid, pipe = fork_victim(site.config, scenario.act, Trap(action=action))
        told = os.read(pipe, 100_000)
        os.close(pipe)
        assert os.waitpid(pid, 0)[1] == 0, f"{scenario.name} fails without any fault"
        count, command_points = json.loads(told)
    return command_points if action == "orphan" else list(range(1, count + 1))


@contextmanager
def fresh_site(store: JSON | None = None, **settings: Any) -> Iterator[Site]:
    """A site of its own, gone afterwards whatever happened; ``store``: its settings' ``store``."""
    with tempfile.TemporaryDirectory(prefix="dsvolume-fault-") as folder:
        if store is not None:
            settings["store"] = store | {"prefix": f"/faults/{Path(folder).name}"}
        with Site(Path(folder, "site"), lease=LEASE, **settings) as site:
            yield site


def _prepare(scenario: Scenario, site: Site) -> None:
    manager = site.manager()
    scenario.prepare(manager)
    manager.close()


def strike(
    scenario: Scenario, action: str, point: int, by_next_call: bool, store: JSON | None = None
) -> str:
    """
    Let one victim meet its fault and check what is left.

    by_next_call
        Recover by the same verb again; otherwise by the doctor.
    store
        As in :func:`fresh_site`.

    Returns "" or what went wrong.
    """
    try:
        with fresh_site(store, **scenario.settings) as site:
            _prepare(scenario, site)
            pid, pipe = fork_victim(site.config, scenario.act, Trap(point, action))
            os.close(pipe)
            _, status = os.waitpid(pid, os.WUNTRACED)
            try:
                _recover(scenario, site, by_next_call)
            finally:
                if os.WIFSTOPPED(status):
                    _wake(pid)
            if action == "orphan" and os.WIFSIGNALED(status):
                time.sleep(ORPHAN_LIVES + 0.1)
            scenario.check(site.manager())
            _put_away(site.manager())
            assert_clean(site)
    except Exception:
        way = "next call" if by_next_call else "doctor"
        return f"{scenario.name}: {action} at point {point}, {way}:\n{traceback.format_exc()}"
    return ""


def _wake(pid: int) -> None:
    """Go on with a stopped victim that nobody had to end: it owned nothing, it may do its verb."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    until = time.monotonic() + 30
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError("a woken victim hangs")
        time.sleep(0.01)


def _put_away(manager: VolumeManager) -> None:
    for record in manager.ls():
        for user in record["Containers"] or ():
            manager.unmount(record["Name"], id=user.split("@")[0].removeprefix("salt:"))
    # Owners that died are registered still; a killed victim could not do it itself.
    manager.doctor(fix=True)


def _recover(scenario: Scenario, site: Site, by_next_call: bool) -> None:
    manager = site.manager()
    if by_next_call:
        with suppress(NoSuchVolume):
            scenario.act(manager)
    else:
        left = [finding for finding in manager.doctor(fix=True) if finding["Fixed"] is False]
        assert not left, left
    assert not [o for o in manager.operations() if not o["Alive"]], manager.operations()
