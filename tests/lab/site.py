"""
A place to test in: one temporary root with everything that libstorage keeps on a host.

    with Site(folder) as site:
        manager = site.manager()
        manager.create("db", Given(policy="local"))
        assert_clean(site)

Whatever a test leaves behind is taken from the host at the end: processes, mounts, loop devices.
"""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil

import libstorage
from libstorage.config import Config, load
from libstorage.errors import LibstorageError
from libstorage.host import files, loops, mounts
from libstorage.manager import VolumeManager
from libstorage.store import open_store
from libstorage.store.contract import Store

NODE = "node1"
LEASE = 1.0
NO_TRASH = {"retention": 0, "ram": 0, "secure": 0}
"""Volumes are destroyed at once, as most tests mean it."""
KEEPS_TRASH = {"retention": 7, "ram": 7, "secure": 7}

PREAMBLE = """
import json, os, sys, time
from libstorage.config import load
from libstorage.manager import Given, Request, VolumeManager
node, settings, *arguments = map(json.loads, sys.argv[1:])
manager = VolumeManager(load(node, settings))
"""

Values = dict[str, dict[str, Any]]


class Site:
    """
    A root, the managers on it, and the processes that use it.

    Several nodes share the root, hence the store and the backends; each but the first has a
    mount root and a boot id of its own.
    """

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root.resolve()
        self._settings = settings
        self._managers: list[VolumeManager] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._looking: Store | None = None
        self.enter: tuple[str, ...] = ()
        """What the commands of its processes begin with; leads them into a namespace, say."""
        self.environment: dict[str, str] = {}
        """What its processes have in their environment besides."""

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- configuration and managers

    def settings(self, node: str = NODE, **over: Any) -> dict[str, Any]:
        """The settings of a node, as a door would read them."""
        own: dict[str, Any] = {}
        if node != NODE:
            own = {
                "mount_root": str(self.root / f"mounts-{node}"),
                "run_dir": str(self.root / f"run-{node}"),
            }
        return {
            "root": str(self.root),
            "mount_namespace": "own",
            "lease": LEASE,
            "timeout": 20,
            "trash": NO_TRASH,
            # A full disk or memory of the test host changes nothing.
            "capacity": {"near_full": 100},
            **own,
            **self._settings,
            **over,
        }

    def configured(self, node: str = NODE, **over: Any) -> Config:
        """A node's checked configuration."""
        return load(node, self.settings(node, **over))

    @property
    def config(self) -> Config:
        """The first node's configuration."""
        return self.configured()

    def manager(self, node: str = NODE, **over: Any) -> VolumeManager:
        """A new manager, as a process of its own would make it; closed in the end."""
        manager = VolumeManager(self.configured(node, **over))
        self._managers.append(manager)
        return manager

    def python(
        self, code: str, *arguments: Any, node: str = NODE, **over: Any
    ) -> "subprocess.Popen[str]":
        """
        Start a Python process that has ``manager``, ``Given``, ``Request`` and ``arguments``.

        It runs in a session of its own, so that the commands that it starts end with the site.
        """
        texts = [json.dumps(value) for value in (node, self.settings(node, **over), *arguments)]
        process = subprocess.Popen(
            [*self.enter, sys.executable, "-c", PREAMBLE + code, *texts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ
            | {"PYTHONPATH": str(Path(libstorage.__file__).parent.parent)}
            | self.environment,
        )
        return self.ends(process)

    def ends(self, process: "subprocess.Popen[str]") -> "subprocess.Popen[str]":
        """Let a process (and its session, where it leads one) end with the site at the latest."""
        self._processes.append(process)
        return process

    # -- what is there

    @property
    def store(self) -> Store:
        """The store, to look into and to write what a test needs there."""
        if self._looking is None:
            self._looking = open_store(self.config, lambda: {"node": "looker"})
        return self._looking

    def lose_store(self) -> None:
        """The embedded store's files are gone; its managers must have been closed."""
        self.store.close()
        self._looking = None
        for file in (self.root / "store").iterdir():
            file.unlink()

    def values(self, prefix: str = "") -> Values:
        """All keys below a prefix and their values; owners come and go and are left out."""
        entries = self.store.list(prefix)
        return {e.key: e.value for e in entries if not e.key.startswith("owners/")}

    def mounted(self) -> list[Path]:
        """What is mounted below the root, in the order in which it was mounted."""
        below = f"{self.root}/"
        return [m.path for m in mounts.table() if f"{m.path}/".startswith(below)]

    def loops(self) -> dict[str, Path]:
        """The loop devices whose file lies below the root."""
        return {d: f for d, f in loops.behind().items() if f.is_relative_to(self.root)}

    def listing(self) -> dict[str, tuple[int, int]]:
        """Every file below the root, mounts not entered: path -> (mode, size of a file)."""
        found = {}
        for folder, folders, names in os.walk(self.root):
            for name in (*folders, *names):
                path = Path(folder, name)
                entry = path.lstat()
                size = entry.st_size if stat.S_ISREG(entry.st_mode) else 0
                found[str(path.relative_to(self.root))] = (entry.st_mode, size)
            folders[:] = [name for name in folders if not os.path.ismount(Path(folder, name))]
        return {k: v for k, v in found.items() if not k.startswith(("store", "run"))}

    def image(self, record: dict[str, Any]) -> Path:
        """The image of a volume."""
        return self.root / "images" / f"{record['Id']}.img"

    @contextmanager
    def nothing_changes(self) -> Iterator[None]:
        """Files, mounts, loop devices and all values are as before; failed events may be added."""

        def look() -> tuple[object, ...]:
            values = self.values()
            failed = {k for k, v in values.items() if k.startswith("events/") and not v["Success"]}
            known = {k: v for k, v in values.items() if k not in failed}
            return known, self.listing(), self.mounted(), sorted(self.loops())

        before = look()
        yield
        after = look()
        for old, new in zip(before, after, strict=True):
            assert new == old

    # -- the end

    def reboot(self, node: str = NODE) -> None:
        """What a reboot of the host does: mounts, memory and loop devices go, the boot id too."""
        self._unmount_all()
        (self.configured(node).run_dir / "boot-id").unlink(missing_ok=True)

    def crash(self, node: str = NODE) -> None:
        """All processes of the site end at once, and the host reboots."""
        for process in self._processes:
            _kill(process)
        self._processes.clear()
        self.reboot(node)

    def close(self) -> None:
        """Take everything from the host: processes, mounts, loop devices, files."""
        # In reverse; what fails keeps nothing else from being taken away.
        with ExitStack() as stack:
            stack.callback(self._remove_files)
            stack.callback(self._unmount_all)
            if self._looking is not None:
                stack.callback(self._looking.close)
            for manager in self._managers:
                # The store's file may be what a test has taken away.
                stack.enter_context(suppress(LibstorageError, OSError))
                stack.callback(manager.close)
            for process in self._processes:
                stack.callback(_kill, process)

    def _unmount_all(self) -> None:
        mapped = [path for path in self.mounted() if path.suffix == ".rbd"]
        for path in reversed(self.mounted()):
            if path not in mapped and _quietly("umount", "-n", str(path)):
                _quietly("umount", "-n", "--lazy", str(path))
        self._free_loops()
        # What is behind a loop device goes after it; else nobody finds the device any more.
        for pid in psutil.pids():
            # Read here: psutil's own look at all processes takes 20 times as long.
            with suppress(OSError), open(f"/proc/{pid}/cmdline", errors="replace") as file:
                words = file.read().split("\0")
                if words[0].endswith("qemu-storage-daemon") and str(self.root) in " ".join(words):
                    os.kill(pid, signal.SIGKILL)
        for path in mapped:
            _quietly("umount", "-n", str(path))
        assert not self.mounted() and not self.loops(), (self.mounted(), self.loops())

    def _free_loops(self) -> None:
        # A process that was killed may hold one until its writes are on the disk.
        until = time.monotonic() + 20
        while (left := self.loops()) and time.monotonic() < until:
            for device in left:
                _quietly("losetup", "--detach", device)
            time.sleep(0.02)

    def _remove_files(self) -> None:
        for folder, _, _ in os.walk(self.root):
            files.set_immutable(Path(folder), False)
        for point in self.root.glob("mounts*/*"):
            files.set_immutable(point, False)
        mounts.remove_tree(self.root)


def _quietly(*argv: str) -> int:
    try:
        return subprocess.run(argv, capture_output=True, check=False, timeout=20).returncode
    except subprocess.TimeoutExpired:
        return 1


def _kill(process: "subprocess.Popen[str]") -> None:
    """End a process and its session, which may outlive it."""
    for pid in psutil.pids():
        with suppress(ProcessLookupError):
            if os.getsid(pid) == process.pid:
                os.kill(pid, signal.SIGKILL)
    process.kill()
    process.communicate(timeout=20)


def assert_clean(site: Site, *nodes: str, rebooted: bool = False) -> None:
    """
    Nothing is left over: all that is on the host belongs to a record, and nobody is at work.

    nodes
        Whose doctor is asked; the first node's where none is named.
    rebooted
        Images may still be marked as attached: their next attach is to check them.
    """
    trash = list(site.values("trash/").values())
    assert not [entry for entry in trash if entry["Busy"]]
    records = [*site.values("volumes/").values(), *(entry["Volume"] for entry in trash)]
    for prefix in ("operations/", "attachments/", "purge/"):
        assert (left := site.values(prefix)) == {}, left
    memory = {site.root / "ram" / r["Id"] for r in records if r["Policy"] == "ram"}
    assert set(site.mounted()) <= memory
    assert site.loops() == {}
    nodes_of_trash = [data for entry in trash for data in entry["Nodes"].values()]
    data = [*site.values("data/").values(), *nodes_of_trash]
    _assert_files(site, records, data, rebooted)
    for node in nodes or (NODE,):
        manager = site.manager(node)
        assert (found := manager.doctor()) == [], found
        manager.close()


def _assert_files(
    site: Site, records: list[dict[str, Any]], data: list[dict[str, Any]], rebooted: bool
) -> None:
    images = {r["Id"] for r in records if r["Voltype"] == "ds-local" and r["Fstype"]}
    found = _names(site, "images")
    if rebooted:
        found -= {f"{id}.attached" for id in images}
    assert found == {f"{id}.{end}" for id in images for end in ("img", "json")}
    kept = {value["Id"] for value in site.values("snapshots/").values()}
    assert _names(site, "snapshots") == {f"{id}.{end}" for id in kept for end in ("img", "json")}
    copied, made = {v["id"] for v in data}, {v["id"] for v in data if v["made"]}
    for folder, type, fstype in (("local", "ds-local", ""), ("ram", "ds-ram", "tmpfs")):
        ids = {r["Id"] for r in records if (r["Voltype"], r["Fstype"]) == (type, fstype)}
        # A secure volume has a record's copy, and no directory of its own.
        secure = {r["Id"] for r in records if r["Policy"] == "secure"}
        copies = {f"{id}.json" for id in ids & copied}
        assert _names(site, folder) == copies | ((ids & made) - secure)
    assert _names(site, "maintenance") == set()
    for folder in site.root.glob("mounts*"):
        assert _names(site, folder.name) == set()


def _names(site: Site, folder: str) -> set[str]:
    path = site.root / folder
    return {entry.name for entry in path.iterdir()} if path.is_dir() else set()
