"""One storm, from calm to calm."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.etcd import Cluster
from lab.network import Network
from lab.scenarios import FAST
from lab.site import KEEPS_TRASH, Site
from lab.storm import calls
from lab.storm.disk import Disk
from lab.storm.faults import Faults
from lab.storm.ledger import Ledger
from lab.storm.nodes import Node
from libstorage.errors import LibstorageError, StoreUnavailable
from libstorage.host import mounts
from libstorage.manager import VolumeManager
from libstorage.store.contract import Change
from libstorage.store.etcd import EtcdStore
from libstorage.store.etcd_settings import EtcdSettings

NODES = ("node1", "node2", "node3")
WORKERS = 2
PREFIX = "/storm"
RECOVERY = 30.0
"""Seconds without a fault in which what the dead have left is finished or undone."""
TOGETHER = 0.25
"""How often a fault has company."""
PAUSE = (0.2, 2.0)
"""Seconds between faults, at least and at most."""


@dataclass
class Result:
    """What a storm has shown."""

    seed: int
    seconds: int
    violations: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    operations: int = 0
    takeovers: int = 0
    still: float = 0.0
    """Seconds in which the machine's disk stood still: as good as a fault."""
    longest: float = 0.0
    """Seconds of calm in which an operation was there, at most."""
    recovered: float = 0.0
    """Seconds until all was in order when everybody had been killed."""

    def report(self) -> str:
        """What went wrong, and how it is played again."""
        head = f"{len(self.violations)} violations; DSVOLUME_SEED={self.seed}, {dict(self.faults)}"
        head += f", the disk stood still for {self.still:.1f} s"
        return "\n\n".join([head, *self.violations[:8]])

    def summary(self) -> dict[str, object]:
        return {
            "faults": dict(self.faults),
            "faults in all": sum(self.faults.values()),
            "calls": self.calls,
            "outcomes": self.outcomes,
            "operations": self.operations,
            "operations and mounts taken over": self.takeovers,
            "the disk stood still, seconds": round(self.still, 1),
            "longest operation, seconds without a fault": round(self.longest, 1),
            "all in order after the last kill, seconds": round(self.recovered, 1),
        }


def storm(folder: Path, seed: int, seconds: float) -> Result:
    """
    Let it happen.

    seconds
        How long there are faults.
    """
    result = Result(seed, round(seconds))
    choose = random.Random(seed)
    with (
        Network(*NODES) as network,
        # In a long storm the past is forgotten, as operators have it.
        Cluster(
            folder / "etcd",
            3,
            listen="0.0.0.0",
            auto_compaction_mode="periodic",
            auto_compaction_retention="5m",
        ) as cluster,
        ExitStack() as sites,
        Disk(folder) as disk,
    ):
        logs = folder / "logs"
        logs.mkdir()
        nodes = []
        for name in NODES:
            endpoints = [f"http://{network.server(name)}:{m.port}" for m in cluster.members]
            settings = cluster.store(PREFIX, endpoints=endpoints)
            site = Site(folder / name, store=settings, trash=KEEPS_TRASH)
            site.enter = network.enter(name)
            sites.enter_context(site)
            nodes.append(Node(name, site, logs, WORKERS, choose.randrange(10**6)))
        faults = Faults(nodes, network, cluster, choose)
        _Storm(nodes, cluster, faults, choose, result, logs, disk).run()
    return result


class _Storm:
    def __init__(
        self,
        nodes: list[Node],
        cluster: Cluster,
        faults: Faults,
        choose: random.Random,
        result: Result,
        logs: Path,
        disk: Disk,
    ) -> None:
        self._logs = logs
        self._disk = disk
        self._nodes = nodes
        self._cluster = cluster
        self._faults = faults
        self._choose = choose
        self._result = result
        self._windows: list[tuple[float, float]] = []
        self._ledger = Ledger(logs / "history", result.violations)
        self._settings = cluster.store(PREFIX)
        self._store = EtcdStore(EtcdSettings.read(self._settings), describe=dict, lease=1)
        self._over = threading.Event()

    def run(self) -> None:
        first = self._nodes[0].manager(self._settings)
        first.qos.create("p", FAST)
        first.close()
        entries = [(entry.key, entry.value) for entry in self._store.list("")]
        self._ledger.begin(entries, self._store.revision())
        watching = threading.Thread(target=self._watch)
        watching.start()
        try:
            self._blow()
            self._settle()
        finally:
            self._over.set()
            watching.join(60)
            self._store.close()
        self._compare()
        self._put_away()

    # -- the storm

    def _blow(self) -> None:
        until = time.monotonic() + self._result.seconds
        self._keep()
        self._calm(3)
        while time.monotonic() < until:
            began = time.monotonic()
            with ExitStack() as at_once:
                kinds: tuple[str, ...] = ()
                while not kinds or (len(kinds) < 3 and self._choose.random() < TOGETHER):
                    kinds += (self._faults.pick(kinds),)
                    told = at_once.enter_context(self._faults.on(kinds[-1]))
                    self._result.faults[kinds[-1]] += 1
                    self._say(told)
                self._calm(self._faults.lasts())
            self._windows.append((began, time.monotonic()))
            self._keep()
            self._calm(self._choose.uniform(*PAUSE))

    def _keep(self) -> None:
        """Start what has ended; who was stopped for long may have been ended by a recovery."""
        for node in self._nodes:
            for running in node.running:
                if said := running.keep():
                    self._result.violations.append(said)

    def _calm(self, seconds: float) -> None:
        """Look at the host for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            twice = self._doubled()
            if twice and twice & self._doubled():
                self._result.violations.append(f"mounted on two nodes: {sorted(twice)}")
            time.sleep(0.1)

    def _doubled(self) -> set[str]:
        """The volumes for one user that more than one node has mounted."""
        roots = {node.config.mount_root for node in self._nodes}
        found = Counter(
            mount.path.name
            for mount in mounts.table()
            if mount.path.parent in roots and "mode=700" in mount.super_options
        )
        return {name for name, count in found.items() if count > 1}

    def _watch(self) -> None:
        while not self._over.is_set():
            try:
                for changes in self._transactions():
                    self._ledger.take(changes)
            except StoreUnavailable:
                continue
            except Exception as exc:
                self._result.violations.append(f"the watch of the store ended: {exc!r}")
                raise

    def _transactions(self) -> Iterator[Sequence[Change]]:
        together: list[Change] = []
        for change in self._store.watch("", self._ledger.revision + 1, timeout=1):
            if together and change.revision != together[0].revision:
                yield together
                together = []
            together.append(change)
        if together:
            yield together

    def _say(self, text: str) -> None:
        print(f"{time.monotonic():.3f} {text}", flush=True)

    # -- and after it

    def _settle(self) -> None:
        """All workers are killed at once; what they leave is put in order by the agents."""
        for node in self._nodes:
            for worker in node.workers:
                worker.kill()
        self._keep()
        began = time.monotonic()
        managers = {node.name: node.manager(self._settings) for node in self._nodes}
        self._until(self._nothing_in_progress, "operations and half-made mounts are left")
        for name, manager in managers.items():
            self._until(lambda n=name, m=manager: _unmount_all(m, n), "mounts are left")  # type: ignore[misc]
        for manager in managers.values():
            self._until(lambda m=manager: m.doctor(), "the doctor finds")  # type: ignore[misc]
        self._result.recovered = time.monotonic() - began
        for node in self._nodes:
            self._check_host(node, managers[node.name])

    def _until(self, left: Callable[[], object], what: str) -> None:
        """Wait until nothing is left."""
        began = time.monotonic()
        found: object = True
        while found and self._calm_between(began, time.monotonic()) < RECOVERY:
            with suppress(LibstorageError):
                found = left()
            time.sleep(0.1)
        if found:
            self._result.violations.append(f"after {RECOVERY:g} s {what}: {found}")

    def _nothing_in_progress(self) -> list[str]:
        left = [entry.key for entry in self._store.list("operations/")]
        left += [e.key for e in self._store.list("attachments/") if e.value["Status"] != "attached"]
        return left + [entry.key for entry in self._store.list("purge/")]

    def _check_host(self, node: Node, manager: VolumeManager) -> None:
        """Images, memory and mounts on a node are those of its records."""
        site, wrong = node.site, self._result.violations
        living = self._store.values("volumes/")
        records = [*living, *(entry["Volume"] for entry in self._store.values("trash/"))]
        kept = {v["Id"] for v in records if v["Node"] == node.name}
        ram = {v["Id"] for v in records if v["Policy"] == "ram"}
        names = {v["Name"] for v in living if v["Node"] == node.name}
        snapshots = {s["Id"] for s in self._store.values("snapshots/") if s["Volume"] in names}
        for folder, ids in (("images", kept), ("snapshots", snapshots)):
            there = {path.name for path in (site.root / folder).glob("*")}
            # What a killed writer has left goes with the copy; the mark asks for a check.
            there -= {f".{id}.json.{slot}" for id in ids for slot in range(10)}
            if node.boots > 1:
                there -= {f"{id}.attached" for id in ids}
            if there != (due := {f"{id}.{end}" for id in ids for end in ("img", "json")}):
                wrong.append(f"{node.name}: {folder} differ from the records: {there ^ due}")
        local = {v["Id"] for v in records if not v["Node"]}
        for folder in ("local", "ram"):
            there = {path.name for path in (site.root / folder).glob("*")}
            if stray := {name for name in there if name.strip(".").split(".")[0] not in local}:
                wrong.append(f"{node.name}: {folder} holds what no record names: {stray}")
        if stray := [m for m in site.mounted() if m.parent.name != "ram" or m.name not in ram]:
            wrong.append(f"{node.name}: mounted still: {stray}")
        if loops := site.loops():
            wrong.append(f"{node.name}: loop devices are left: {loops}")
        for name in ("maintenance", f"mounts-{node.name}", "mounts"):
            if left := list((site.root / name).glob("*")):
                wrong.append(f"{node.name}: {name} is not empty: {left}")

    def _compare(self) -> None:
        """The workers' calls against the store's history."""
        result, ledger = self._result, self._ledger
        made = calls.read(self._logs)
        result.calls, result.outcomes = len(made), calls.outcomes(made)
        result.operations, result.takeovers = len(ledger.lives), ledger.takeovers
        result.still = sum(end - start for start, end in self._disk.windows())
        store = EtcdStore(EtcdSettings.read(self._settings), describe=dict, lease=1)
        now = {e.key: e.value for e in store.list("") if e.key.split("/")[0] + "/" in _WATCHED}
        there = {v["Id"] for v in store.values("volumes/")}
        there |= {entry["Volume"]["Id"] for entry in store.values("trash/")}
        store.close()
        told = {k: v for k, v in ledger.kv.items() if k.split("/")[0] + "/" in _WATCHED}
        if now != told:
            keys = {key for key in now.keys() | told.keys() if now.get(key) != told.get(key)}
            result.violations.append(f"the watch of the store has missed changes of {keys}")
        result.violations += calls.check(made, ledger, there)
        for life in ledger.lives:
            ended = life.ended or time.monotonic()
            lasted = self._calm_between(life.began, ended)
            result.longest = max(result.longest, lasted)
            if lasted > RECOVERY:
                result.violations.append(
                    f"the {life.verb} of {life.volume} was there for {lasted:.1f} s without a "
                    f"fault\n{ledger.about(life.volume, life.began, ended)}"
                    f"\n{self._agents_on(life.volume)}"
                )

    def _agents_on(self, volume: str) -> str:
        """What the agents have said last about a volume."""
        said = []
        for path in sorted(self._logs.glob("*.agent")):
            lines = [line for line in path.read_text().splitlines() if volume in line.split()]
            said += [f"  {path.stem}: {line[:330]}" for line in lines[-5:]]
        return "\n".join(said)

    def _calm_between(self, began: float, ended: float) -> float:
        """Seconds between two moments in which there was no fault, and the disk wrote."""
        calm, at = 0.0, began
        for start, end in sorted([*self._windows, *self._disk.windows(), (ended, ended)]):
            calm += max(0.0, min(start, ended) - at)
            at = max(at, end)
        return calm

    def _put_away(self) -> None:
        """Everything can be removed, and leaves nothing."""
        managers = {node.name: node.manager(self._settings) for node in self._nodes}
        first = managers[NODES[0]]

        def where(record: dict[str, Any]) -> VolumeManager:
            return managers[record["Node"] or NODES[0]]

        with _told_to(self._result.violations):
            records = {record["Name"]: record for record in first.ls()}
            left = {s["Volume"] + "@" + s["Name"]: s["Children"] for s in first.snapshot_ls()}
            while records:
                held = {volume.partition("@")[0] for volume, children in left.items() if children}
                for name in sorted(records.keys() - held):
                    manager = where(records.pop(name))
                    for snapshot in [s for s in left if s.startswith(f"{name}@")]:
                        manager.snapshot_rm(snapshot)
                        del left[snapshot]
                    manager.rm(name, purge=True)
                    left = {s: [c for c in children if c != name] for s, children in left.items()}
            for name in {row["Name"] for row in first.trash_ls()}:
                first.rm(name, purge=True)
            self._until(self._nothing_in_progress, "removed data are left")
        for node in self._nodes:
            self._check_host(node, managers[node.name])


_WATCHED = ("volumes/", "snapshots/", "trash/", "data/")


def _unmount_all(manager: VolumeManager, node: str) -> list[str]:
    """Let all users of a node go; those who are there still."""
    for record in manager.ls():
        for who in record["Containers"] or ():
            user, _, where = who.partition("@")
            if where == node:
                manager.unmount(record["Name"], id=user.removeprefix("salt:"))
    left = [who for record in manager.ls() for who in record["Containers"] or ()]
    return [who for who in left if who.endswith(f"@{node}")]


@contextmanager
def _told_to(violations: list[str]) -> Iterator[None]:
    """An error is a violation."""
    try:
        yield
    except LibstorageError as exc:
        violations.append(f"in the end: {type(exc).__name__}: {exc}")
