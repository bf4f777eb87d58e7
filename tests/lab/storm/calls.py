"""
What the workers were told, checked against what the store's history says.

A call that was acknowledged is in the history exactly once, a refused one not at all; of one whose
process was killed, or whose error leaves it open, at most once. What was acknowledged is there, or
was removed by somebody who asked for it. No answer is older than one that was given before.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.storm.ledger import BIRTHS, JSON, Ledger

OPEN = ("StoreUnavailable", "OperationInProgress", "NotHere", "Superseded", "BackendError")
"""Errors after which a call may have been carried out, or may be yet by recovery."""
BROKEN = ("Broken", "Damaged", "ConfigInvalid", "InvalidInput", "ToolMissing", "NoSpace")
"""Errors that no fault excuses."""
OPEN_OF_BACKEND = ("CommandFailed", "CommandTimeout", "MountBusy")
LIMIT = 45.0
"""Seconds that no call outlasts: its own wait of 10 s, two requests to a store that is away, and
a verb of a busy host. Time in which its process was stopped is not counted."""


@dataclass
class Call:
    """A call as its worker wrote it down; ``ended`` is None for one that was killed in it."""

    id: str
    verb: str
    pick: JSON
    began: float
    ended: float | None = None
    answer: JSON | None = None
    error: str = ""
    text: str = ""

    def __str__(self) -> str:
        what = f"{self.verb} {self.pick['name']}@{self.pick['snapshot']} {self.pick['other']}"
        outcome = (self.error and f"{self.error}: {self.text}") or self.answer or "no end"
        return f"  call {self.id} at {self.began:.3f}..{self.ended or 0:.3f} {what}: {outcome}"


def read(folder: Path) -> list[Call]:
    """All calls of all workers, in the order in which they began."""
    return sorted(_read(folder), key=lambda call: call.began)


def _read(folder: Path) -> Iterator[Call]:
    for path in folder.glob("*.calls"):
        calls: dict[str, Call] = {}
        # A last line may be cut short by a kill.
        for line in path.read_text().split("\n")[:-1]:
            said = json.loads(line)
            if "verb" in said:
                calls[said["call"]] = Call(said["call"], said["verb"], said["pick"], said["at"])
            else:
                call = calls[said["call"]]
                call.ended = said["at"]
                call.answer = said.get("answer")
                call.error = said.get("error", "")
                call.text = said.get("text", "")
        yield from calls.values()


def outcomes(calls: list[Call]) -> dict[str, int]:
    """How often each verb ended how."""
    kinds = Counter(
        f"{c.verb} {c.error or ('ok' if c.answer is not None else 'killed')}" for c in calls
    )
    return dict(sorted(kinds.items()))


def check(calls: list[Call], ledger: Ledger, there: set[str]) -> list[str]:
    """
    What is wrong.

    there
        The Ids of all volumes that are there in the end, removed ones in the trash too.
    """
    return [
        *_told_once(calls, ledger),
        *_acknowledged(calls, ledger, there),
        *_removed(calls, ledger),
        *_no_step_back(calls),
    ]


def _told_once(calls: list[Call], ledger: Ledger) -> Iterator[str]:
    for call in calls:
        told = ledger.events.get(call.id, [])
        if call.error in BROKEN:
            yield f"no fault excuses this answer:\n{call}"
        least, most = _allowed(call)
        if not least <= len(told) <= most:
            yield (
                f"events of one call: {len(told)}, not {least} to {most}\n{call}\n  {told}\n"
                + ledger.about(call.pick["name"], call.began, call.ended or call.began + 1)
            )


def _allowed(call: Call) -> tuple[int, float]:
    """How often a call may have changed something, by what it was told."""
    if call.verb == "purge":
        return 0, float("inf")
    if call.verb == "info":
        return 0, 0
    if call.answer is None:
        open = not call.error or call.error in (*OPEN, *OPEN_OF_BACKEND, *BROKEN)
        return 0, 1 if open else 0
    if call.verb.startswith("qos_"):
        return 0, 1
    changed = call.answer.get("Created", call.answer.get("Changed", True))
    # Who ends the detach that another user began has changed the host, and no user.
    return int(changed and call.verb != "unmount"), int(changed)


def _acknowledged(calls: list[Call], ledger: Ledger, there: set[str]) -> Iterator[str]:
    for call in calls:
        answer = call.answer or {}
        id, revision = answer.get("Id"), answer.get("Revision")
        if call.verb in BIRTHS and answer.get("Created", True) and id:
            if call.verb != "undelete" and ledger.births.get(id) != call.id:
                yield f"created, and never seen in the store:\n{call}"
            if id not in there and id not in ledger.deaths:
                yield f"created, never removed, and not there:\n{call}\n{ledger.about('', id=id)}"
        if call.verb == "label" and answer:
            seen = ledger.labels.get((str(id), int(revision or 0)))
            if seen != answer["Labels"] or seen.get(call.pick["slot"]) != str(call.pick["number"]):
                yield f"an acknowledged label is not in the history ({seen}):\n{call}"


def _removed(calls: list[Call], ledger: Ledger) -> Iterator[str]:
    """Nothing goes that nobody asked to remove."""
    asked = {call.id for call in calls if call.verb in ("rm", "purge")}
    for id, call in ledger.deaths.items():
        if call not in asked:
            lines = ledger.about("", id=id)
            yield f"{id} was removed by {call!r}, which asked for no removal\n{lines}"


def _no_step_back(calls: list[Call]) -> Iterator[str]:
    """Whoever asks after an answer sees that Revision at least."""
    seen: dict[str, tuple[int, Call]] = {}
    answered = sorted(
        (c for c in calls if c.ended and c.answer and "Revision" in c.answer),
        key=lambda c: c.ended or 0,
    )
    due = iter(answered)
    next_one = next(due, None)
    for call in sorted(answered, key=lambda c: c.began):
        while next_one is not None and (next_one.ended or 0) < call.began:
            assert next_one.answer
            id, revision = next_one.answer["Id"], next_one.answer["Revision"]
            if revision > seen.get(id, (0, call))[0]:
                seen[id] = (revision, next_one)
            next_one = next(due, None)
        assert call.answer
        newest = seen.get(call.answer["Id"])
        if newest and call.answer["Revision"] < newest[0]:
            yield f"an answer older than one that was given before:\n{newest[1]}\n{call}"
