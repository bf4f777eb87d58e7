"""
Faults around every call of Docker's: no managed name ever becomes a local volume.

A point is a call, a side of it, and who is killed or stopped there. One is played so: a volume with
data, the docker command that leads to the call, the fault, the call going on, the fault's end. Then
the container has got the data or failed with a sentence, the engine knows no local volume, and
after the recovery a container has the data.

A pair is a volume that is created on one node and used on another without a pause.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from subprocess import CompletedProcess
from typing import Self

from lab.bridge import Bridge
from lab.docker import IMAGE, Engine
from lab.etcd import Cluster
from lab.proxy import AFTER, BEFORE, LOST, Proxy
from lab.scenarios import KINDS
from lab.site import NODE, Site
from libstorage.manager import Given

DRIVER = "dsvolume"
CALLS = ("Activate", "Get", "Create", "Mount", "Unmount", "Remove")
TARGETS = ("etcd", "bridge", "both")
WAYS = ("kill", "stop")
BRIEF, LONG = 2.0, 15.0
"""Seconds that a fault lasts; a long one ends with the command."""
COMMAND_SECONDS = 200.0
WRITE = "echo kept > /x/marker && cat /x/marker"
READ = "cat /x/marker"
NODES = (NODE, "node2")


@dataclass(frozen=True)
class Point:
    """
    Where a fault strikes.

    known
        The engine has heard of the volume before.
    seconds
        How long the fault lasts, at most.
    """

    call: str
    side: str
    target: str
    way: str
    known: bool
    kind: str
    seconds: float

    def __str__(self) -> str:
        known = "known" if self.known else "new"
        return (
            f"{self.way} {self.target} for {self.seconds:g} s, {self.side} {self.call} of a "
            f"{known} {self.kind}"
        )


def points(choose: random.Random) -> list[Point]:
    """Each point once; what else there is to it is drawn."""
    found = []
    for call in CALLS:
        for target in TARGETS:
            for way in WAYS:
                # An answer gets lost with the bridge that has given it.
                lost = (LOST,) if target != "etcd" and way == "kill" else ()
                found += [_point(choose, call, s, target, way) for s in (BEFORE, AFTER, *lost)]
    choose.shuffle(found)
    return found


def _point(choose: random.Random, call: str, side: str, target: str, way: str) -> Point:
    known = call == "Remove" or choose.random() < 0.5
    kind, seconds = choose.choice(("directory", "ext4")), choose.choice((BRIEF, LONG))
    return Point(call, side, target, way, known, kind, seconds)


@dataclass
class Result:
    """What was seen; ``violations`` are sentences."""

    violations: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    """What failed commands said, without names."""
    longest: float = 0.0
    """Seconds that a command took at most."""

    def summary(self) -> dict[str, object]:
        played = sum(n for what, n in self.outcomes.items() if what != "pair")
        return {
            "points": played,
            "pairs": self.outcomes["pair"],
            "outcomes": dict(self.outcomes),
            "longest command, seconds": round(self.longest, 1),
        }


class Node:
    """An engine, its bridge, and what stands between them."""

    def __init__(self, folder: Path, site: Site, name: str) -> None:
        self.engine = Engine(folder / name / "e")
        back = folder / name / "b" / f"{DRIVER}.sock"
        self.bridge = Bridge(folder / name, site, back, self.engine.socket, name, held=True)
        self.proxy = Proxy(self.engine.plugins / f"{DRIVER}.sock", back)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for one in (self.engine, self.bridge, self.proxy):
                stack.enter_context(one)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        # The engine removes its containers, and must be answered meanwhile.
        self.engine.stop()
        self._stack.close()

    def run(self, name: str, script: str, *mount: str) -> "CompletedProcess[str]":
        """``docker run`` on a volume, however it ends."""
        words = ("run", "--rm", "--network=none", *(mount or ("-v", f"{name}:/x")))
        return self.engine.client(*words, IMAGE, "sh", "-c", script, seconds=COMMAND_SECONDS)

    def shadows(self) -> set[str]:
        """The local volumes; asked of the engine's disk, not of an engine that may hang."""
        folder = self.engine.folder / "data" / "volumes"
        return {path.name for path in folder.iterdir() if path.is_dir()}

    def local(self) -> set[str]:
        """The volumes that the engine itself says are local."""
        lines = self.engine("volume", "ls", "--format={{json .}}", seconds=120).splitlines()
        return {row["Name"] for row in map(json.loads, lines) if row["Driver"] == "local"}


class Place:
    """One store, one or two nodes on it."""

    def __init__(self, folder: Path, result: Result, nodes: int = 1) -> None:
        folder.mkdir(parents=True)
        self._cluster = Cluster(folder / "etcd")
        self._site = Site(folder / "s", store=self._cluster.store("/shadow"))
        self.nodes = [Node(folder, self._site, name) for name in NODES[:nodes]]
        self._result = result
        self._stack = ExitStack()
        self._count = 0
        self._beside = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for one in (self._cluster, self._site, *self.nodes):
                stack.enter_context(one)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.shutdown()
        self._stack.close()

    # -- a point

    def play(self, point: Point) -> None:
        """Play one; what must not be is kept among the violations."""
        self._count += 1
        name = f"v{self._count:04}"
        node = self.nodes[0]
        if point.call != "Create":
            self._prepare(name, point)
        with node.proxy.holding(point.call, point.side) as held:
            done = self._beside.submit(self._command, name, point)
            held.wait()
            self._strike(point)
        end = time.monotonic() + point.seconds
        while not done.done() and time.monotonic() < end:
            time.sleep(0.02)
        if point.seconds == BRIEF:
            time.sleep(max(0.0, end - time.monotonic()))
        self._recover(point)
        outcome, wrong = self._judge(name, point, done.result(COMMAND_SECONDS))
        self._result.outcomes[outcome] += 1
        if wrong:
            log = node.bridge.log[-1500:]
            self._result.violations.append(f"{point}, {name}: {wrong}\n{log}")

    def _prepare(self, name: str, point: Point) -> None:
        """A volume with data, made elsewhere as far as the engine is concerned."""
        manager = self._site.manager()
        manager.create(name, Given(**KINDS[point.kind]))
        (Path(manager.mount(name)["Mountpoint"]) / "marker").write_text("kept\n")
        manager.unmount(name)
        manager.close()
        if point.known:
            self.nodes[0].engine("volume", "create", f"--driver={DRIVER}", name)

    def _command(self, name: str, point: Point) -> "CompletedProcess[str]":
        """The command that leads to the call."""
        node = self.nodes[0]
        began = time.monotonic()
        try:
            if point.call == "Remove":
                return node.engine.client("volume", "rm", name, seconds=COMMAND_SECONDS)
            if point.call == "Activate":
                node.engine.kill()
                node.engine.start(seconds=COMMAND_SECONDS)
            return self._use(name, point)
        finally:
            self._result.longest = max(self._result.longest, time.monotonic() - began)

    def _use(self, name: str, point: Point) -> "CompletedProcess[str]":
        if point.call != "Create":
            return self.nodes[0].run(name, READ)
        options = "".join(
            f",volume-opt={'size' if key == 'mb_size' else key}={value}"
            for key, value in KINDS[point.kind].items()
        )
        mount = f"--mount=type=volume,src={name},dst=/x,volume-driver={DRIVER}{options}"
        return self.nodes[0].run(name, WRITE, mount)

    def _strike(self, point: Point) -> None:
        member, bridge = self._cluster.members[0], self.nodes[0].bridge
        kill = point.way == "kill"
        if point.target != "bridge":
            (member.kill if kill else member.freeze)()
        if point.target != "etcd":
            (bridge.kill if kill else bridge.freeze)()

    def _recover(self, point: Point) -> None:
        member, bridge = self._cluster.members[0], self.nodes[0].bridge
        kill = point.way == "kill"
        if point.target != "bridge":
            (member.start if kill else member.thaw)()
            self._cluster.wait()
        if point.target != "etcd" and not kill:
            bridge.thaw()
        bridge.wait()

    def _judge(self, name: str, point: Point, done: "CompletedProcess[str]") -> tuple[str, str]:
        """The outcome, and what is wrong with it."""
        node = self.nodes[0]
        failed = done.returncode != 0
        outcome = "failed" if failed else "done"
        said = done.stderr.strip()
        if failed:
            self._result.words[said.replace(name, "V")[-200:]] += 1
        if failed and len(said.split()) < 4:
            return outcome, f"it failed without a word: {said!r}"
        if not failed and point.call != "Remove" and done.stdout.strip() != "kept":
            return outcome, f"the container read {done.stdout!r}; {said}"
        if shadows := node.shadows() | node.local():
            return outcome, f"local volumes: {shadows}; it said {said!r}"
        if point.call == "Remove" and f"volumes/{name}" not in self._site.values("volumes/"):
            return outcome, ""
        if failed and point.call == "Remove":
            outcome = "kept"
        again = self._use(name, point)
        if again.returncode or again.stdout.strip() != "kept":
            return outcome, f"after the recovery: {again.stdout!r} {again.stderr}; before: {said!r}"
        return outcome, f"local volumes: {shadows}" if (shadows := node.shadows()) else ""

    # -- a pair

    def pair(self) -> None:
        """A volume that one node creates, and the other uses without a pause."""
        self._count += 1
        name = f"p{self._count:04}"
        one, other = self.nodes if self._count % 2 else reversed(self.nodes)
        one.engine("volume", "create", f"--driver={DRIVER}", "--opt=policy=local", name)
        used = other.run(name, WRITE)
        back = one.run(name, READ)
        self._result.outcomes["pair"] += 1
        said = [(done.returncode, done.stdout.strip()) for done in (used, back)]
        shadows = one.shadows() | other.shadows()
        if said != [(0, "kept"), (0, "kept")] or shadows:
            text = f"pair {name}: {said}, local volumes {shadows}: {used.stderr} {back.stderr}"
            self._result.violations.append(text)


def play(
    folder: Path, seed: int, *, workers: int, pairs: int, seconds: float, most: int | None = None
) -> Result:
    """
    Play points and pairs side by side, each worker in a place of its own.

    seconds
        Each point is played once, and then others at random for so long in all.
    most
        Play no more points than this in the first round; all where it is None.
    """
    result, choose = Result(), random.Random(seed)
    queue: SimpleQueue[Point] = SimpleQueue()
    for point in points(choose)[:most]:
        queue.put(point)
    until, lock = time.monotonic() + seconds, threading.Lock()

    def drawn() -> Iterator[Point]:
        while True:
            try:
                yield queue.get_nowait()
            except Empty:
                if time.monotonic() > until:
                    return
                with lock:
                    fresh = points(choose)
                for point in fresh[:20]:
                    queue.put(point)

    def played(number: int) -> None:
        with Place(folder / f"w{number}", result) as place:
            for point in drawn():
                place.play(point)

    def paired() -> None:
        with Place(folder / "p", result, nodes=2) as place:
            turn = 0
            while turn < pairs or time.monotonic() < until:
                place.pair()
                turn += 1
                if turn >= pairs:  # one pair a while, beside the faults of the others
                    time.sleep(min(5.0, max(0.0, until - time.monotonic())))

    with ThreadPoolExecutor(workers + 1) as pool:
        work = [pool.submit(played, number) for number in range(workers)]
        work.append(pool.submit(paired))
        for one in work:
            one.result()
    return result
