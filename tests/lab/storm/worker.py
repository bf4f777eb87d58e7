"""
A worker: one process of a node that does random verbs on shared names, and writes down each call.

Two lines for each call, JSON, on the disk before it goes on: at its begin and at its end. A call
without an end is one that may have been carried out.
"""

import json
import os
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.scenarios import GROWN, KINDS
from libstorage.errors import LibstorageError
from libstorage.manager import Given, VolumeManager
from libstorage.records import JSON

NAMES = {"a": "ext4", "b": "ext4", "c": "directory", "d": "secure", "e": "ram"}
"""The shared names, and what is created under each (a clone or an undeleted one may be another)."""
SNAPSHOTS = ("s", "t")
TIMEOUT = 10.0
"""Seconds for which a call waits for another's work."""
SHOWN = ("Id", "Name", "Volume", "Revision", "Labels", "Created", "Changed")
"""What is kept of an answer."""


@dataclass(frozen=True)
class Pick:
    """What a call is about; ``number`` is the label's new value."""

    slot: str
    name: str
    other: str
    snapshot: str
    number: int
    profile: str

    @property
    def kept(self) -> str:
        return f"{self.name}@{self.snapshot}"


Act = Callable[[VolumeManager, Pick, JSON], Any]

ACTS: dict[str, tuple[int, Act]] = {
    "create": (9, lambda m, p, by: m.create(p.name, Given(**KINDS[NAMES[p.name]]), **by)),
    "rm": (3, lambda m, p, by: m.rm(p.name, **by)),
    "purge": (2, lambda m, p, by: m.rm(p.name, purge=True, **by)),
    "undelete": (2, lambda m, p, by: m.undelete(p.name, new=p.other, **by)),
    "label": (8, lambda m, p, by: m.label(p.name, {p.slot: str(p.number)}, **by)),
    "mount": (6, lambda m, p, by: m.mount(p.name, id=p.slot, **by)),
    "unmount": (8, lambda m, p, by: m.unmount(p.name, id=p.slot, **by)),
    "snapshot_create": (4, lambda m, p, by: m.snapshot_create(p.kept, **by)),
    "snapshot_rm": (4, lambda m, p, by: m.snapshot_rm(p.kept, **by)),
    "rollback": (3, lambda m, p, by: m.rollback(p.kept, **by)),
    "clone": (3, lambda m, p, by: m.snapshot_clone(p.kept, p.other, **by)),
    "resize": (2, lambda m, p, by: m.resize(p.name, GROWN["ext4"], **by)),
    "qos_apply": (1, lambda m, p, by: m.qos.apply(p.profile, [p.name], **by)),
    "qos_enable": (1, lambda m, p, by: m.qos.enable([p.name], **by)),
    "qos_disable": (1, lambda m, p, by: m.qos.disable([p.name], **by)),
    "info": (3, lambda m, p, by: m.info(p.name)),
}
"""Each verb, how often it is taken, and its call."""


class Worker:
    """
    Calls until it is killed.

    slot
        Names the worker and those who follow it; a label and a user of each volume.
    life
        Which of them it is.
    log
        Where it writes its calls.
    """

    def __init__(self, manager: VolumeManager, slot: str, life: int, log: str, seed: int) -> None:
        self._manager = manager
        self._slot = slot
        self._life = life
        self._random = random.Random(seed)
        self._log = os.open(Path(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def run(self) -> None:
        verbs, weights = list(ACTS), [weight for weight, _ in ACTS.values()]
        for number in range(1, 1_000_000):
            [verb] = self._random.choices(verbs, weights)
            self._call(verb, number)

    def _call(self, verb: str, number: int) -> None:
        call = f"{self._slot}.{self._life}.{number}"
        choose = self._random.choice
        pick = Pick(
            self._slot,
            choose(list(NAMES)),
            choose(list(NAMES)),
            choose(SNAPSHOTS),
            self._life * 1_000_000 + number,
            choose(("default", "p")),
        )
        by = {"by": {"door": "storm", "call": call}, "timeout": TIMEOUT}
        self._say(call, verb=verb, pick=asdict(pick))
        try:
            answer = ACTS[verb][1](self._manager, pick, by)
        except LibstorageError as exc:
            notes = getattr(exc, "__notes__", [])
            self._say(call, error=type(exc).__name__, text="; ".join([str(exc), *notes]))
        except BaseException:
            self._say(call, error="Broken", text=traceback.format_exc())
            raise
        else:
            self._say(call, answer=_shown(answer))

    def _say(self, call: str, **what: object) -> None:
        line = json.dumps({"call": call, "at": time.monotonic(), **what})
        os.write(self._log, line.encode() + b"\n")
        os.fdatasync(self._log)


def _shown(answer: Any) -> JSON:
    """What the check needs of an answer; of ``{"Volume": record, ...}`` the record's fields too."""
    first = answer[0] if isinstance(answer, list) else answer
    record = first.get("Volume")
    whole = {**record, **first, "Volume": record["Name"]} if isinstance(record, dict) else first
    return {field: whole[field] for field in SHOWN if field in whole}


def main(manager: VolumeManager, slot: str, life: int, log: str, seed: int) -> None:
    """What the process runs."""
    Worker(manager, slot, life, log, seed).run()
