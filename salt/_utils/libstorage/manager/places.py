"""
Where an engine's containers run: cgroups in which a volume's limits act.

Only an engine knows its containers' cgroups, and only once they run. Who asks it (the bridge) tells
all that use a volume, whichever mount of it is whose; an attachment keeps them beside its users.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import InvalidInput
from ..host import throttling
from ..records import ATTACHED, Attachment, Place, check_name
from ..store.contract import KeyAtRevision, Put
from . import keys
from .context import Context
from .limiter import Limiter
from .memory import AttachmentMemory


class Places:
    """Keeps them, and lets the limits follow."""

    def __init__(self, context: Context, limiter: Limiter) -> None:
        self._context = context
        self._store = context.store
        self._limiter = limiter
        self._memory = AttachmentMemory(context)

    def tell(self, name: str, engine: str, places: Sequence[Place]) -> bool:
        """
        These are the places of an engine's containers that use a volume here, and no others.

        Returns whether the volume is attached here.
        """
        key = keys.attachment(name, self._context.node)
        while (entry := self._store.get(key, linearizable=True)) is not None:
            attachment = Attachment.from_json(entry.value)
            if attachment.status != ATTACHED:
                return False
            others = [place for place in attachment.places if place.engine != engine]
            told = replace(attachment, places=(*others, *places))
            if told == attachment:
                return True
            value = told.to_json()
            if self._store.transact([KeyAtRevision(key, entry.revision)], [Put(key, value)]):
                self._memory.follow(name)
                self._limiter.enforce(name)
                return True
        return False


def read_places(engine: str, given: Any) -> list[Place]:
    """
    Places as a caller writes them: ``[{"Container", "Pid", "Cgroup", "AtStart"}]``.

    Raises InvalidInput.
    """
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        raise InvalidInput("places must be a list of objects with Container, Pid and Cgroup")
    return [_read(engine, row) for row in given]


def _read(engine: str, row: dict[str, Any]) -> Place:
    container = check_name(row.get("Container"), "container")
    pid, cgroup = row.get("Pid"), row.get("Cgroup")
    if not isinstance(cgroup, str) or not throttling.check(cgroup):
        raise InvalidInput(f"Not a cgroup: {str(cgroup)[:60]!r}; write a path such as /docker/ID")
    if not isinstance(pid, int) or pid < 1:
        raise InvalidInput(f"Not the pid of container {container}: {str(pid)[:20]!r}")
    at_start = row.get("AtStart") is True
    return Place(engine=engine, container=container, pid=pid, cgroup=cgroup, at_start=at_start)
