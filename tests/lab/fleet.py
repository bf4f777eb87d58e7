"""
Random operations on containers and their volumes, while the engine and the bridge are killed.

After each batch, within five seconds, three agree: the records' users, the volumes of the engine's
running containers, and the mount table. Every running container can read its data.
"""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Self

from lab.bridge import Bridge
from lab.docker import IMAGE, Engine
from lab.scenarios import KINDS
from lab.site import Site
from libstorage.manager import Given

DRIVER = "dsvolume"
VOLUMES = {"dir1": "directory", "dir2": "directory", "img1": "ext4", "img2": "ext4"}
SLEEPS = ("sh", "-c", "trap exit TERM; sleep 6000 & wait")
MOST = 8
"""Containers that there are at the same time."""
HANDS = 3
"""Operations that run side by side."""
BATCH = 10
SECONDS = 5.0
"""Within these records, engine and mount table agree."""
FAULTS = ("engine", "engine live", "bridge", "both", "both live")
"""Who is killed; ``live``: the engine starts with --live-restore, and containers outlive it."""
TIED = tuple[str, str]


@dataclass
class Result:
    """What was done and seen; ``violations`` are sentences."""

    violations: list[str] = field(default_factory=list)
    operations: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    """Seconds until all agreed, at most."""

    def summary(self) -> dict[str, object]:
        return {
            "operations": dict(self.operations),
            "operations in all": sum(self.operations.values()),
            "failed amid a fault": dict(self.failed),
            "kills": dict(self.faults),
            "kills in all": sum(self.faults.values()),
            "until all agreed, seconds at most": round(self.longest, 1),
        }


class Fleet:
    """An engine with a few volumes, and containers that come and go."""

    def __init__(self, folder: Path, choose: random.Random, result: Result) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._choose = choose
        self._result = result
        self._site = Site(folder / "s")
        self._engine = Engine(folder / "e")
        driver = self._engine.plugins / f"{DRIVER}.sock"
        self._bridge = Bridge(folder / "b", self._site, driver, self._engine.socket, held=True)
        self._stack = ExitStack()
        self._count = 0
        self._copies = folder / "copies"
        self._copies.mkdir()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for one in (self._site, self._engine, self._bridge):
                stack.enter_context(one)
            self._stack = stack.pop_all()
        manager = self._site.manager()
        for name, kind in VOLUMES.items():
            manager.create(name, Given(**KINDS[kind]))
            (Path(manager.mount(name)["Mountpoint"]) / "marker").write_text("kept\n")
            manager.unmount(name)
        manager.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.stop()
        self._stack.close()

    # -- what is done

    def batch(self, size: int) -> None:
        """Some operations side by side, often with a fault amid them; then all must agree."""
        fault = self._choose.choice(FAULTS) if self._choose.random() < 0.6 else ""
        late = self._choose.random() * 1.5
        work, done = list(self._drawn(size)), list[str]()
        with ThreadPoolExecutor(HANDS + 1) as pool:
            striking = pool.submit(self._strike, fault, late) if fault else None
            for what, words, victim in work:
                pool.submit(self._do, what, words, victim, bool(fault), done)
            if striking is not None:
                striking.result()
        self._engine.wait()
        self._bridge.wait()
        if wrong := self._disagree():
            text = f"batch ({fault or 'no fault'}): {', '.join(done)}\n{wrong}"
            logs = f"{self._bridge.log[-4000:]}\n{self._engine.log[-4000:]}"
            self._result.violations.append(f"{text}\n{logs}")

    def _drawn(self, size: int) -> Iterator[tuple[str, list[str], str]]:
        """What is done, the docker command, and whose process is killed instead."""
        there = {row["Names"]: row["State"] for row in self._ps()}
        alive = [name for name, state in there.items() if state == "running"]
        for _ in range(size):
            choices = ["run", "twice", "both", "once"] if len(there) < MOST else ["once"]
            if there:
                choices += ["cp out", "cp in", "rm", "start"]
            if alive:
                choices += ["stop", "kill -9", "restart", "kill"]
            what = self._choose.choice(choices)
            self._result.operations[what] += 1
            one = self._choose.choice([*(alive or there)] or [""])
            if what in ("rm", "start", "cp out", "cp in"):
                one = self._choose.choice([*there])
            yield what, self._words(what, one, there), one if what == "kill -9" else ""

    def _words(self, what: str, one: str, there: dict[str, str]) -> list[str]:
        volume, other = self._choose.sample([*VOLUMES], 2)
        if what in ("run", "twice", "both"):
            self._count += 1
            name = f"c{self._count}"
            there[name] = "created"
            mounts = {"run": [], "twice": ["-v", f"{volume}:/y"], "both": ["-v", f"{other}:/y"]}
            own = ("run", "--detach", "--network=none", f"--name={name}", "-v", f"{volume}:/x")
            return [*own, *mounts[what], IMAGE, *SLEEPS]
        if what == "once":
            return ["run", "--rm", "--network=none", "-v", f"{volume}:/x", IMAGE, "true"]
        if what == "rm":
            there.pop(one)
        copied = str(self._copies / f"{self._choose.randrange(10**9)}")
        return {
            "cp out": ["cp", f"{one}:/x/marker", copied],
            "cp in": ["cp", __file__, f"{one}:/x/copied"],
            "rm": ["rm", "--force", one],
            "start": ["start", one],
            "stop": ["stop", "--time=1", one],
            "restart": ["restart", "--time=1", one],
            "kill": ["kill", one],
            "kill -9": ["inspect", "--format={{.State.Pid}}", one],
        }[what]

    def _do(self, what: str, words: list[str], victim: str, fault: bool, done: list[str]) -> None:
        with suppress(TimeoutExpired):
            ended = self._engine.client(*words, seconds=150)
            said = ended.stderr.strip()
            if victim and (pid := int(ended.stdout.strip() or 0)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            done.append(f"{what} {words[-1] if len(words) < 4 else words[4]}: {said or 'done'}")
            if ended.returncode and fault:
                self._result.failed[what] += 1
            return
        self._result.violations.append(f"{' '.join(words)} hangs")

    def _strike(self, fault: str, late: float) -> None:
        time.sleep(late)
        self._result.faults[fault] += 1
        if fault != "bridge":
            self._engine.kill()
        if not fault.startswith("engine"):
            self._bridge.kill()
        if fault != "bridge":
            self._engine.start(*(["--live-restore"] if "live" in fault else []), seconds=120)

    # -- what must be true

    def _disagree(self) -> str:
        """What records, engine and mount table still disagree about; "" where they agree."""
        began = time.monotonic()
        while wrong := self._differences():
            if time.monotonic() > began + SECONDS:
                return wrong
            time.sleep(0.1)
        self._result.longest = max(self._result.longest, time.monotonic() - began)
        return self._unread()

    def _differences(self) -> str:
        engine, records = self._truth(), self._records()
        # Who uses a volume twice does so by two ids.
        mounted = {path.name for path in self._site.mounted()}
        if records == engine and mounted == {volume for volume, _ in engine}:
            return ""
        users = [a["Users"] for a in self._site.values("attachments/").values()]
        return f"records {dict(records)}\nengine {dict(engine)}\nmounted {mounted}\nusers {users}"

    def _records(self) -> Counter[TIED]:
        """How many mounts each container has of each volume, as the store has it."""
        found: Counter[TIED] = Counter()
        for attachment in self._site.values("attachments/").values():
            for user in attachment["Users"]:
                found[attachment["Volume"], user["Container"]] += user["Count"]
        return found

    def _truth(self) -> Counter[TIED]:
        """The same, as the engine has it."""
        ids = [row["ID"] for row in self._ps() if row["State"] in ("running", "paused")]
        found: Counter[TIED] = Counter()
        for row in json.loads(self._engine("inspect", *ids)) if ids else ():
            for mount in row["Mounts"]:
                assert mount["Driver"] == DRIVER, mount
                found[mount["Name"], row["Id"]] += 1
        return found

    def _unread(self) -> str:
        """A container that does not read its data."""
        alive = [row["Names"] for row in self._ps() if row["State"] == "running"]
        for name in alive[:2]:
            read = self._engine.client("exec", name, "cat", "/x/marker")
            if read.stdout.strip() != "kept":
                return f"{name} reads {read.stdout!r} {read.stderr}"
        return ""

    def _ps(self) -> list[dict[str, str]]:
        lines = self._engine("ps", "--all", "--no-trunc", "--format={{json .}}").splitlines()
        return [json.loads(line) for line in lines]


def play(folder: Path, seed: int, operations: int, says: Callable[[str], None] = print) -> Result:
    """Do so many operations, in batches."""
    result, choose = Result(), random.Random(seed)
    with Fleet(folder, choose, result) as fleet:
        while (left := operations - sum(result.operations.values())) > 0:
            fleet.batch(min(BATCH, left))
            done = sum(result.operations.values())
            says(f"{done} of {operations} operations, {len(result.violations)} violations")
    return result
