"""
Verbs that another node has to do, because it alone has the data.

The key
    ``delegated/<node>/<id>`` is what is asked of a node: verb, arguments, by whom. It is bound to
    the asker's lease, so that nothing is begun for one who has gone.

The order
    1. The asker writes it, if the node's agent lives (NotHere otherwise), and waits.
    2. The agent marks it as begun in a transaction at its revision, and the verb runs there like
       any verb: its journal, its owner, its events are that node's.
    3. The agent writes the answer, or the error, at the revision that it wrote last. The asker
       reads it and deletes the key.

Why a crash between any two lines is harmless
    The asker dies: before 2 the key goes with its lease and nothing happens; after it the verb
    ends like any other, and nobody reads the answer. The agent dies: the verb's operation is
    recovered like any dead owner's; the asker sees that the agent is gone and says so. Asked
    again, every verb finds what is done already.
"""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from .. import errors
from ..errors import LibstorageError, NotHere, OperationInProgress
from ..records import JSON, now
from ..store.contract import Delete, Entry, KeyAbsent, KeyAtRevision, Put
from . import keys
from .context import CLOCKS_DIFFER, Context, Deadline
from .nodes import Nodes

SLACK = 5.0
"""Seconds that an asker waits beyond the time that it gave the verb."""
POLL = 0.5
KEPT = 3600.0
"""Seconds after which nobody waits for an answer any more."""


class Delegation:
    """Asks other nodes, and answers them."""

    def __init__(self, context: Context, nodes: Nodes) -> None:
        self._context = context
        self._store = context.store
        self._nodes = nodes

    # -- ask ----------------------------------------------------------------------------------

    def ask(
        self, node: str, name: str, verb: str, arguments: JSON, by: JSON, deadline: Deadline
    ) -> Any:
        """
        Let a node do a verb on a volume and give its answer, or raise its error.

        Raises NotHere where its agent ends, OperationInProgress at the deadline.
        """
        key = keys.delegated(node, uuid.uuid4().hex)
        request = {
            "Verb": verb,
            "Arguments": {**arguments, "timeout": deadline.left()},
            "By": by,
            "From": self._context.node,
            "At": now(),
        }
        self._store.owner()
        self._store.transact([KeyAbsent(key)], [Put(key, request, leased=True)])
        patience = Deadline(deadline.left() + SLACK)
        try:
            return self._answer(key, node, name, verb, patience)
        finally:
            self._withdraw(key)

    def _answer(self, key: str, node: str, name: str, verb: str, deadline: Deadline) -> Any:
        while True:
            entry = self._store.get(key, linearizable=True)
            if entry is None:
                raise OperationInProgress(f"The {verb} of {name} asked of {node} was withdrawn")
            if "Answer" in entry.value:
                return entry.value["Answer"]
            if "Error" in entry.value:
                raise errors.rebuilt(*entry.value["Error"])
            if not self._nodes.alive(node):
                raise NotHere(
                    f"The agent of {node} ended before the {verb} of {name} was done; ask again "
                    f"when it is back"
                )
            deadline.check(f"{node} has not answered to the {verb} of {name} yet; see operations")
            self._context.await_change(entry, min(POLL, deadline.left()))

    def _withdraw(self, key: str) -> None:
        while (entry := self._store.get(key, linearizable=True)) is not None:
            if self._store.transact([KeyAtRevision(key, entry.revision)], [Delete(key)]):
                return

    # -- answer -------------------------------------------------------------------------------

    def asked(self) -> list[Entry]:
        """What is asked of this node and not begun."""
        entries = self._store.list(keys.delegated(self._context.node))
        return [entry for entry in entries if "Begun" not in entry.value]

    def begin(self, entry: Entry) -> Entry | None:
        """Take a request on; None where it was withdrawn, or somebody else has it."""
        value = {**entry.value, "Begun": now()}
        return self._write(entry, value)

    def end(self, entry: Entry, act: Callable[[], Any]) -> None:
        """Do it and write the answer; whoever withdrew it meanwhile needs none."""
        try:
            value = {**entry.value, "Answer": act()}
        except LibstorageError as exc:
            notes = getattr(exc, "__notes__", [])
            value = {**entry.value, "Error": [type(exc).__name__, "; ".join([str(exc), *notes])]}
        self._write(entry, value)

    def old(self) -> list[Entry]:
        """What was asked of this node long ago; who asked has gone."""
        horizon = (datetime.now(UTC) - timedelta(seconds=KEPT + CLOCKS_DIFFER)).isoformat()
        entries = self._store.list(keys.delegated(self._context.node))
        return [entry for entry in entries if entry.value["At"] < horizon]

    def forget_old(self) -> None:
        """Delete it."""
        for entry in self.old():
            self._store.transact([KeyAtRevision(entry.key, entry.revision)], [Delete(entry.key)])

    def _write(self, entry: Entry, value: JSON) -> Entry | None:
        revision = self._store.transact(
            [KeyAtRevision(entry.key, entry.revision)], [Put(entry.key, value)]
        )
        return None if revision is None else Entry(entry.key, value, revision)
