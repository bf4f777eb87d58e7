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

Afterwards the next call of the verb, ``doctor fix=True``, the node's agent, or the verb on another
node, must bring everything in order; and a victim that wakes when others have done so writes no
more.
"""

import functools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.site import NODE, Site, assert_clean
from libstorage.config import Config
from libstorage.errors import NoSuchVolume
from libstorage.host import commands, files, images, loops, mounts, throttling
from libstorage.manager import VolumeManager
from libstorage.records import ATTACHED, JSON
from libstorage.store import open_store

ACTIONS = ("kill", "stop", "orphan")
NEXT_CALL, DOCTOR, AGENT, OTHER_NODE = WAYS = ("next call", "doctor", "agent", "other node")
"""Who recovers: the verb again, ``doctor fix=True``, the node's agent, the verb on another node."""
OTHER = "node2"
RECOVERY = 30.0
"""Seconds in which an agent has recovered what was left."""
REGISTERED = ("owners/", "nodes/", "elected")
"""What says who is there, and no more."""
LEASE = 0.4
"""Seconds; how soon a stopped process counts as gone."""
ORPHAN_LIVES = 0.3
"""Seconds that an orphaned command waits before it does its work."""
MEMORY = Path("/dev/shm")
ROOM = 2 << 30
"""Bytes free in memory that many sites at once have need of."""

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
    shared
        It looks at what belongs to the host, such as the limits of a loop device's number, which
        another site's may have been until now: what goes wrong counts where it does so twice.
    """

    name: str
    prepare: Act
    act: Act
    check: Act
    settings: dict[str, Any] = field(default_factory=dict)
    shared: bool = False


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
        loops._configure = self.around(loops._configure)
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
    with tempfile.TemporaryDirectory(prefix="dsvolume-fault-", dir=_place()) as folder:
        if store is not None:
            settings["store"] = store | {"prefix": f"/faults/{Path(folder).name}"}
        with Site(Path(folder, "site"), lease=LEASE, **settings) as site:
            yield site


@functools.cache
def _place() -> str | None:
    """
    Where sites lie: in memory, where fsync costs nothing. A process that dies loses nothing that
    only a disk would keep. On the disk (None) where memory is small, or guards no mount points.
    """
    if shutil.disk_usage(MEMORY).free < ROOM:
        return None
    with tempfile.TemporaryDirectory(prefix="dsvolume-fault-", dir=MEMORY) as folder:
        files.set_immutable(Path(folder), True)
        guarded = not _can_write(Path(folder))
        files.set_immutable(Path(folder), False)
    return str(MEMORY) if guarded else None


def _can_write(folder: Path) -> bool:
    try:
        (folder / "file").touch()
    except PermissionError:
        return False
    return True


def _prepare(scenario: Scenario, site: Site) -> None:
    manager = site.manager()
    scenario.prepare(manager)
    manager.close()


def strike(scenario: Scenario, action: str, point: int, way: str, store: JSON | None = None) -> str:
    """
    Let one victim meet its fault and check what is left.

    way
        Who recovers it, one of WAYS.
    store
        As in :func:`fresh_site`.

    Returns "" or what went wrong.
    """
    failure = _met(scenario, action, point, way, store)
    return _met(scenario, action, point, way, store) if failure and scenario.shared else failure


def _met(scenario: Scenario, action: str, point: int, way: str, store: JSON | None) -> str:
    try:
        with fresh_site(store, **scenario.settings) as site, ExitStack() as there:
            _prepare(scenario, site)
            if way == AGENT:
                there.enter_context(_agent(site))
            pid, pipe = fork_victim(site.config, scenario.act, Trap(point, action))
            os.close(pipe)
            _, status = os.waitpid(pid, os.WUNTRACED)
            owned = os.WIFSTOPPED(status) and _works(site, pid)
            try:
                _recover(scenario, site, way)
            finally:
                if os.WIFSTOPPED(status):
                    _wake_and_watch(site, pid, owned)
            if way == AGENT:
                # A victim that had begun nothing wakes into a lease that has lapsed, and begins.
                _until(lambda: _in_order(site, site.manager()), "what the woken has begun is left")
            if action == "orphan" and os.WIFSIGNALED(status):
                time.sleep(ORPHAN_LIVES + 0.1)
            scenario.check(site.manager())
            there.close()
            _put_away(site.manager())
            assert_clean(site)
    except Exception:
        return f"{scenario.name}: {action} at point {point}, {way}:\n{traceback.format_exc()}"
    return ""


@contextmanager
def _agent(site: Site) -> Iterator[None]:
    """The node's agent in a process of its own."""
    pid = os.fork()
    if not pid:
        try:
            VolumeManager(site.config).agent().run()
        finally:
            os._exit(1)
    try:
        _until(lambda: site.values("nodes/") != {}, "the agent does not come")
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _works(site: Site, pid: int) -> bool:
    """Does a process own an operation or a half-made mount?"""
    owned = [*site.values("operations/").values(), *site.values("attachments/").values()]
    return any(value["Process"].get("pid") == pid for value in owned)


def _wake_and_watch(site: Site, pid: int, owned: bool) -> None:
    """
    Let a stopped victim go on, to its end.

    owned
        It had begun something, which others have finished or undone since: it must write nothing.
    """
    revision = site.store.revision()
    _wake(pid)
    if owned:
        changes = site.store.watch("", revision + 1, timeout=0.1)
        written = [change.key for change in changes if not change.key.startswith(REGISTERED)]
        assert not written, f"a superseded owner woke and wrote {written}"


def _until(reached: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + RECOVERY
    while not reached():
        assert time.monotonic() < until, f"after {RECOVERY:g} s: {what}"
        # A look costs processor time, which all others that wait have need of.
        time.sleep(0.1)


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


def _recover(scenario: Scenario, site: Site, way: str) -> None:
    if way == AGENT:
        manager = site.manager()
        _until(lambda: _in_order(site, manager), "the agent has not recovered what was left")
        return
    manager = site.manager(OTHER if way == OTHER_NODE else NODE)
    if way == DOCTOR:
        left = [finding for finding in manager.doctor(fix=True) if finding["Fixed"] is False]
        assert not left, left
    else:
        with suppress(NoSuchVolume):
            scenario.act(manager)
        # What its own node has of it is that node's to put in order, once it is back.
        if way == OTHER_NODE:
            site.manager().doctor(fix=True)
    assert not [o for o in manager.operations() if not o["Alive"]], manager.operations()


def _in_order(site: Site, manager: VolumeManager) -> bool:
    """Is nothing in progress, and does the doctor find nothing but owners that are gone?"""
    attachments = site.values("attachments/").values()
    half = [value for value in attachments if value["Status"] != ATTACHED or not value["Users"]]
    if half or site.values("operations/"):
        return False
    return not [finding for finding in manager.doctor() if finding["Kind"] != "owners"]


def report(counts: dict[str, int]) -> None:
    """Tell the soak how many faults there were of each action."""
    if path := os.environ.get("DSVOLUME_REPORT"):
        with open(path, "a") as file:
            file.writelines(f"{action} {count}\n" for action, count in counts.items())
