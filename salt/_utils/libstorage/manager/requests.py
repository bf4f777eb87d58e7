"""
One Salt job is one request: minions of one job that make the same call act once.

``requests/<job>/<verb>/<name>/<digest of arguments>/<n>`` is claimed by one of them, who writes
the answer there; the others wait for it and give the same. If the doer dies, the next one takes
the claim over (the verb's own journal has finished or undone what he left). If he fails for a
reason of his own node, one other tries once. Kept for 10 minutes at least.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from .. import errors
from ..errors import BackendError, LibstorageError, NotHere, OperationInProgress, Superseded
from ..records import JSON
from ..store.contract import Delete, Entry, KeyAbsent, KeyAtRevision, Put
from . import keys
from .context import CLOCKS_DIFFER, Context, Deadline
from .journal import POLL
from .owners import Owners

KEPT = 600.0
_OWN_REASONS = (BackendError,)


@dataclass(frozen=True, slots=True)
class Request:
    """
    A call as part of a job.

    job
        The job's id, the same on all nodes.
    nth
        Which of this node's calls with the same verb, name and arguments in that job it is; None:
        the next one of this process.
    """

    job: str
    nth: int | None = 0


class Requests:
    """Lets one node do what a job asks of all."""

    def __init__(self, context: Context, owners: Owners) -> None:
        self._context = context
        self._store = context.store
        self._owners = owners
        self._calls: Counter[str] = Counter()
        self._seen: dict[str, float] = {}

    def once(
        self,
        request: Request | None,
        verb: str,
        name: str,
        arguments: JSON,
        deadline: Deadline,
        act: Callable[[], JSON],
    ) -> JSON:
        """
        Act, or give the answer of the node that does.

        request
            None: the call stands for itself and simply acts.

        Raises what the doer's act raised, on every node.
        """
        if request is None:
            return act()
        digest = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()[:16]
        key = self._key(request, verb, name, digest)
        while True:
            entry = self._store.get(key, linearizable=True)
            if entry is None:
                if (mine := self._claim(key, tries=1)) is not None:
                    return self._act(mine, act)
            elif "answer" in entry.value:
                return dict(entry.value["answer"])
            elif "error" in entry.value and not self._may_retry(entry):
                raise errors.rebuilt(*entry.value["error"])
            elif "error" in entry.value or not self._store.alive(entry.value["owner"]):
                if (mine := self._claim(key, entry.value["tries"] + 1, entry)) is not None:
                    return self._act(mine, act)
            else:
                deadline.check(
                    f"{verb} {name} of this job is done by {entry.value['node']}, which has not "
                    f"answered yet; see operations"
                )
                self._context.await_change(entry, min(POLL, deadline.left()))

    def _key(self, request: Request, verb: str, name: str, digest: str) -> str:
        nth = request.nth
        if nth is None:
            call = f"{request.job}/{verb}/{name}/{digest}"
            nth = self._calls[call]
            self._calls[call] += 1
        return keys.request(request.job, verb, name, digest, nth)

    def _may_retry(self, entry: Entry) -> bool:
        """A failure of the doer's own node is worth one try on another."""
        value = entry.value
        return bool(value["retry"] and value["tries"] < 2 and value["node"] != self._context.node)

    def _claim(self, key: str, tries: int, over: Entry | None = None) -> Entry | None:
        value = {"owner": self._store.owner(), "node": self._context.node, "tries": tries}
        compare = KeyAtRevision(key, over.revision) if over else KeyAbsent(key)
        revision = self._store.transact([compare], [Put(key, value)])
        return None if revision is None else Entry(key, value, revision)

    def _act(self, mine: Entry, act: Callable[[], JSON]) -> JSON:
        try:
            answer = act()
        except (Superseded, OperationInProgress, NotHere):
            # Says nothing about the request itself: whoever waits may claim it, above all the
            # node that has the data.
            self._store.transact([KeyAtRevision(mine.key, mine.revision)], [Delete(mine.key)])
            raise
        except LibstorageError as exc:
            retry = isinstance(exc, _OWN_REASONS)
            self._tell(mine, error=[type(exc).__name__, str(exc)], retry=retry)
            raise
        self._tell(mine, answer=answer)
        return answer

    def _tell(self, mine: Entry, **outcome: object) -> None:
        value = {**mine.value, **outcome, "at": time.time()}
        self._store.transact([KeyAtRevision(mine.key, mine.revision)], [Put(mine.key, value)])

    def old(self) -> list[Entry]:
        """
        The answers that were given long ago, and the claims whose owner is gone.

        An answer is old when this process has known it for that long; whoever has just begun
        believes the clock of him who gave it, which may differ from this node's.
        """
        horizon, moment = time.time() - KEPT - CLOCKS_DIFFER, time.monotonic()
        entries = list(self._store.list(keys.REQUESTS))
        self._seen = {entry.key: self._seen.get(entry.key, moment) for entry in entries}
        return [
            entry
            for entry in entries
            if (
                entry.value["at"] < horizon or moment - self._seen[entry.key] > KEPT
                if "at" in entry.value
                else not self._store.alive(entry.value["owner"])
            )
        ]

    def forget_old(self) -> None:
        """Delete them."""
        for entry in self.old():
            self._store.transact([KeyAtRevision(entry.key, entry.revision)], [Delete(entry.key)])
