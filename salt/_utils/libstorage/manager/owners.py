"""Who runs an operation, whether he still lives, and how a dead one's remains are ended."""

import uuid
from dataclasses import asdict
from typing import ClassVar

from ..errors import BackendError
from ..host import processes
from ..host.processes import Process
from ..records import JSON, Attachment, Operation
from ..store.contract import Value
from . import keys
from .context import Context

Owned = Operation | Attachment


def describe(node: str) -> Value:
    """What the key of this process's owner tells about it."""
    return {"node": node, **asdict(processes.myself())}


class Owners:
    """
    Judges owners.

    A process that gave up an operation without ending it (its store was away) is alive and yet
    does nothing for it: ``working`` holds the tokens that this process really works on, whichever
    of its managers does.
    """

    working: ClassVar[set[str]] = set()

    def __init__(self, context: Context) -> None:
        self._context = context

    def claim(self) -> JSON:
        """The fields by which a record names this process as its owner, with a fresh token."""
        return {
            "owner": self._context.store.owner(),
            "token": uuid.uuid4().hex,
            "process": asdict(processes.myself()),
        }

    def dead(self, owned: Owned) -> bool:
        """
        Is nobody working on this any more?

        On the owner's node and in its pid namespace the process itself tells; otherwise, and for a
        process that exists but shows no life (stopped), its lease does.
        """
        process = self._process(owned)
        if process is not None:
            if not processes.exists(process):
                return True
            if process == processes.myself():
                return owned.token not in self.working
        return not self._context.store.alive(owned.owner)

    def bury(self, owned: Owned) -> None:
        """
        End what is left of a dead owner on this node, so that it can never wake into a step.

        Raises BackendError where a process cannot be ended.
        """
        process = self._process(owned)
        if process is not None and process != processes.myself():
            processes.end(process)
            if processes.exists(process):
                raise BackendError(
                    f"Process {process.pid} still works on {owned.volume} and cannot be ended; "
                    f"when its storage answers again, try again"
                )
        if owned.node == self._context.node:
            processes.end_carrying(owned.token)

    def unseen(self, owned: Owned) -> bool:
        """Is its process out of our sight (another node, another pid namespace)?"""
        return self._process(owned) is None

    def stopped(self, owned: Owned) -> bool:
        """Is its process there, but stopped?"""
        process = self._process(owned)
        return process is not None and processes.stopped(process)

    def gone(self) -> list[str]:
        """The owners registered by this node's processes that are no more."""
        found = []
        for entry in self._context.store.list(keys.OWNERS):
            if entry.value.get("node") != self._context.node:
                continue
            process = self._as_process(entry.value)
            owner = entry.key.removeprefix(keys.OWNERS)
            if not (processes.exists(process) if process else self._context.store.alive(owner)):
                found.append(owner)
        return found

    def sweep(self) -> None:
        """End the leases of those that are gone."""
        for owner in self.gone():
            self._context.store.release(owner)

    def _process(self, owned: Owned) -> Process | None:
        """The owner's process, where it can be judged from here."""
        return self._as_process(owned.process) if owned.node == self._context.node else None

    def _as_process(self, value: JSON) -> Process | None:
        if not value.get("pid"):
            return None
        process = Process(value["pid"], value["start"], value["namespace"])
        return process if processes.visible(process) else None
