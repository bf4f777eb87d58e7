"""
What must hold in the store at every revision, checked on the store's own changes as they come.

A watch reports each transaction. After each of them:

* a record's Revision is one more than before, and the transaction tells of the change by exactly
  one event, by the call that holds the operation: events are the changes;
* a label changes by its own worker's call alone, to that call's number: no update is lost;
* what only one node may have is attached on one at most, and nothing that is attached goes;
* a token that was given up, or taken from its owner, is never written again, and no two operations
  are on one Id: there are no two owners.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libstorage.manager.events import BY_ITSELF
from libstorage.store.contract import Change

JSON = dict[str, Any]
KEPT = ("volumes/", "snapshots/", "attachments/", "operations/", "trash/", "data/")
MADE, GONE, CHANGED = "made", "gone", "changed"
BIRTHS = ("create", "clone", "undelete")
MOST = 30
"""Lines of history that are shown beside a violation."""
OPERATED = ("create", "clone", "undelete", "rm", "purge", "resize", "rollback")
OPERATED_ON_SNAPSHOTS = ("snapshot_create", "snapshot_rm")


@dataclass(frozen=True)
class Told:
    """A success event: which call, what, and at which revision."""

    call: str
    verb: str
    volume: str
    revision: int


@dataclass
class Life:
    """An operation from its beginning to its end, in seconds of the monotonic clock."""

    volume: str
    verb: str
    began: float
    ended: float | None = None


@dataclass
class Ledger:
    """
    The store's history as far as it was told, and what was wrong with it.

    path
        Where all of it is written down, a line for each change.
    """

    path: Path
    violations: list[str] = field(default_factory=list)
    events: dict[str, list[Told]] = field(default_factory=dict)
    """The success events, by the call that they name."""
    labels: dict[tuple[str, int], JSON] = field(default_factory=dict)
    """The labels of each Id at each Revision."""
    births: dict[str, str] = field(default_factory=dict)
    """Id -> the call that made its record."""
    deaths: dict[str, str] = field(default_factory=dict)
    """Id -> the call that removed its record last."""
    lives: list[Life] = field(default_factory=list)
    kv: dict[str, JSON] = field(default_factory=dict)
    revision: int = 0
    takeovers: int = 0
    _spent: set[str] = field(default_factory=set)
    _open: dict[str, Life] = field(default_factory=dict)

    def begin(self, entries: Iterable[tuple[str, JSON]], revision: int) -> None:
        """What was there before the first change."""
        self.kv = {key: value for key, value in entries if key.startswith(KEPT)}
        self.revision = revision

    def take(self, changes: Sequence[Change]) -> None:
        """One transaction's changes."""
        revision = changes[0].revision
        if revision <= self.revision:
            self._wrong(f"revision {revision} was told after {self.revision}")
        self.revision = revision
        self._write_down(changes)
        before = {c.key: self.kv.get(c.key) for c in changes if c.key.startswith(KEPT)}
        for change in changes:
            if change.key.startswith(KEPT):
                if change.value is None:
                    self.kv.pop(change.key, None)
                else:
                    self.kv[change.key] = change.value
        events = [c.value for c in changes if c.key.startswith("events/") and c.value]
        told = [e for e in events if e["Success"] and e["Verb"] not in BY_ITSELF]
        for event in told:
            self._event(event, before, revision)
        kinds: dict[str, Callable[[str, JSON | None, JSON | None, list[JSON]], None]] = {
            "volumes/": self._volume,
            "snapshots/": self._snapshot,
            "attachments/": self._attachment,
            "operations/": self._operation,
        }
        for key, old in before.items():
            prefix = key[: key.index("/") + 1]
            if prefix in kinds:
                kinds[prefix](key.removeprefix(prefix), old, self.kv.get(key), told)

    def about(
        self, volume: str, began: float = 0.0, ended: float = 0.0, id: str | None = None
    ) -> str:
        """
        The lines that matter: what was said about a volume, or an Id, between two moments.

        began, ended
            Of the monotonic clock; 0 and 0: the last ones. Of many, those at both ends are shown.
        """
        lines = []
        with open(self.path) as file:
            for line in file:
                at, names, text = line.rstrip("\n").split("\t", 2)
                if ended and not began - 0.5 <= float(at) <= ended + 0.5:
                    continue
                if volume in names.split() or (id is not None and id in text):
                    lines.append(f"  {at} {text[:330]}")
        if ended and len(lines) > MOST:
            lines[MOST // 2 : -MOST // 2] = [f"  ... {len(lines) - MOST} more"]
        return "\n".join(lines[-MOST - 1 :])

    def _write_down(self, changes: Sequence[Change]) -> None:
        now = time.monotonic()
        with open(self.path, "a") as file:
            for change in changes:
                if change.key.startswith("owners/"):
                    continue
                value = change.value or {}
                names = {*change.key.split("/")[1:2], str(value.get("Volume", ""))[:140]}
                # What is done is said by its key, why it is not by the text.
                left_out = _LEFT_OUT if value.get("Success") is False else {*_LEFT_OUT, "Text"}
                shown = {k: v for k, v in value.items() if k not in left_out and v}
                text = f"{change.revision} {change.key} {json.dumps(shown) if value else 'gone'}"
                file.write(f"{now:.3f}\t{' '.join(names)}\t{text}\n")

    # -- each kind of key ---------------------------------------------------------------------

    def _event(self, event: JSON, before: dict[str, JSON | None], revision: int) -> None:
        call, verb, volume = event["By"].get("call", ""), event["Verb"], event["Volume"]
        self.events.setdefault(call, []).append(Told(call, verb, volume, revision))
        if verb.startswith("qos_") and event["Subject"] == "profile":
            return
        if (
            not any(
                volume in (key.split("/")[1], (old or {}).get("Name"))
                for key, old in before.items()
                if not key.startswith("trash/")
            )
            and verb != "purge"
        ):
            self._wrong(f"an event without a change: {event['Text']}", volume)
        if verb in (*OPERATED, *OPERATED_ON_SNAPSHOTS):
            held = before.get(f"operations/{volume}")
            if held is None:
                self._wrong(f"{verb} of {volume} was committed without an operation", volume)
            elif held["By"].get("call", "") != call:
                self._wrong(
                    f"{verb} of {volume} by {call} was committed in the operation of "
                    f"{held['By'].get('call')}",
                    volume,
                )

    def _volume(self, name: str, old: JSON | None, new: JSON | None, told: list[JSON]) -> None:
        mine = [event for event in told if event["Volume"] == name]
        calls = [event["By"].get("call", "") for event in mine]
        if old is None and new is not None:
            if [e["Verb"] for e in mine] not in [[verb] for verb in BIRTHS]:
                self._wrong(f"{name} came with the events {[e['Text'] for e in mine]}", name)
            elif mine[0]["Verb"] != "undelete" and new["Revision"] != 1:
                self._wrong(f"{name} came with Revision {new['Revision']}", name)
            else:
                self.births.setdefault(new["Id"], calls[0])
                self.deaths.pop(new["Id"], None)
        elif new is None and old is not None:
            if [e["Verb"] for e in mine] != ["rm"]:
                self._wrong(f"{name} went with the events {[e['Text'] for e in mine]}", name)
            else:
                self.deaths[old["Id"]] = calls[0]
            if left := [key for key in self.kv if key.startswith(f"attachments/{name}/")]:
                self._wrong(f"{name} went while it was attached: {left}", name)
        elif old is not None and new is not None:
            self._edited(name, old, new, mine)
        if new is not None:
            self.labels[new["Id"], new["Revision"]] = new["Labels"]

    def _edited(self, name: str, old: JSON, new: JSON, mine: list[JSON]) -> None:
        changed = {field for field in new if new[field] != old.get(field)}
        if new["Id"] != old["Id"] or new["Revision"] != old["Revision"] + 1:
            self._wrong(
                f"{name} ({old['Id']}) went from Revision {old['Revision']} to "
                f"{new['Revision']} ({new['Id']})",
                name,
            )
        if changed - {"Revision", "State"} and len(mine) != 1:
            self._wrong(f"{changed} of {name} changed with {len(mine)} events", name)
        if "Labels" in changed:
            keys = {*old["Labels"], *new["Labels"]}
            moved = {k for k in keys if old["Labels"].get(k) != new["Labels"].get(k)}
            slot = str(mine[0]["By"].get("call", "")).split(".")[0] if mine else ""
            grew = int(new["Labels"].get(slot, 0)) > int(old["Labels"].get(slot, 0))
            if moved != {slot} or not grew:
                self._wrong(f"labels of {name}: {old['Labels']} became {new['Labels']}", name)

    def _snapshot(self, name: str, old: JSON | None, new: JSON | None, told: list[JSON]) -> None:
        volume = name.split("/", maxsplit=1)[0]
        verbs = [event["Verb"] for event in told if event["Volume"] == volume]
        if old is None and verbs != ["snapshot_create"]:
            self._wrong(f"snapshot {name} came with the events {verbs}", volume)
        if new is None and verbs != ["snapshot_rm"]:
            self._wrong(f"snapshot {name} went with the events {verbs}", volume)
        if new is not None and f"volumes/{volume}" not in self.kv:
            self._wrong(f"snapshot {name} is there without its volume", volume)

    def _attachment(self, name: str, old: JSON | None, new: JSON | None, told: list[JSON]) -> None:
        volume = name.split("/", maxsplit=1)[0]
        self._tokens(f"the attachment {name}", old, new, volume)
        record = self.kv.get(f"volumes/{volume}")
        nodes = [key for key in self.kv if key.startswith(f"attachments/{volume}/")]
        if new is not None and record is None:
            self._wrong(f"{name} is attached without a record", volume)
        elif (
            record
            and len(nodes) > 1
            and (record["Fstype"] not in ("", "tmpfs") or not record["Shared"])
        ):
            self._wrong(f"{volume} is attached on several nodes: {nodes}", volume)

    def _operation(self, name: str, old: JSON | None, new: JSON | None, told: list[JSON]) -> None:
        self._tokens(f"the operation on {name}", old, new, name)
        if new is None:
            if (life := self._open.pop(name, None)) is not None:
                life.ended = time.monotonic()
            return
        if old is None:
            life = Life(name, new["Verb"], time.monotonic())
            self._open[name] = life
            self.lives.append(life)
        if id := new["Arguments"].get("Id"):
            others = [
                key
                for key, value in self.kv.items()
                if key.startswith("operations/")
                and key != f"operations/{name}"
                and value["Arguments"].get("Id") == id
            ]
            if others:
                self._wrong(f"several operations on the Id {id}: {name}, {others}", name)

    def _tokens(self, what: str, old: JSON | None, new: JSON | None, volume: str) -> None:
        was, now = ((value or {}).get("Token", "") for value in (old, new))
        if now and now in self._spent:
            self._wrong(f"{what}: a superseded owner wrote ({now})", volume)
        if was and was != now:
            self._spent.add(was)
            self.takeovers += bool(now)

    def _wrong(self, text: str, volume: str = "") -> None:
        shown = f"revision {self.revision}: {text}"
        if volume:
            shown += "\n" + self.about(volume)
        self.violations.append(shown)


_LEFT_OUT = (
    *("Volume", "CreatedAt", "CreatedBy", "Voltype", "Mountpoint", "BootId", "Device", "Time"),
    *("Started", "Seconds", "Subject", "Location", "Mode", "Policy", "Name", "State"),
)
"""What only makes the lines longer."""
