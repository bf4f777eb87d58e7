"""
The journal: one change of a volume's data or existence at a time, finished or undone whoever dies.

The keys
    ``operations/V`` is the one operation on volume V. It names the verb, its arguments, the owner
    (a process) and a token that this owner alone knows, and the backend step that is about to be
    made. Records (``volumes/V``) change only in the transaction that drops it, or in a checkpoint.

The order of a change
    1. *begin*: one transaction compares what was read (the record's revision, nothing attached,
       no operation) and writes the operation.
    2. Before each backend step its name is written into the operation (the first one's with the
       begin), compared at the revision that this owner wrote last: journal entry and token check
       in one write. Who finds another token has been superseded; it touches nothing more and
       undoes nothing.
    3. *commit*: one transaction compares the operation once more, writes the records and the event
       and drops the operation.

Why a crash between any two lines is harmless
    Before 1 nothing exists. Between 1 and 3 the operation says what may exist on the backend: all
    of it is named by the volume's Id, which no other volume ever has, and each step may be made
    again. After 3 nothing is left to do. Whoever meets an operation whose owner is dead first ends
    the dead owner's children (they carry the token in their environment), then takes the operation
    over by writing a token of his own, then does what the verb's rule says:

    ===================  =======================================================
    create, adopt,       undo
    usage
    snapshot_create      thaw, undo
    undelete             undo; the entry in the trash is free again
    clone                undo; with it the name goes from its parent's Children
    rm                   no step recorded: drop; otherwise finish
    snapshot_rm, purge   finish
    rollback, resize,    finish
    flatten
    ===================  =======================================================

    An undo is recorded before it begins. If its recording fails because the store is away, it goes
    on only while the lease proves that nobody can have taken over, and no commit was sent that may
    be made yet.

    A second recoverer may run the same steps at the same moment only until one of them takes over:
    burying twice is harmless, and the take-over compares the operation's revision.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import LibstorageError, NotHere, OperationInProgress, StoreUnavailable, Superseded
from ..host.commands import Work
from ..records import JSON, Operation, now
from ..store.contract import (
    Compare,
    Delete,
    Entry,
    KeyAbsent,
    KeyAtRevision,
    Put,
    Write,
)
from . import keys
from .context import Context, Deadline
from .nodes import Nodes
from .owners import Owners

OPERATION_SECONDS = 600.0
POLL = 0.25
COMMIT_PATIENCE = 5.0
"""Seconds after whose end no further try is begun; one may take 9 s while etcd is away."""


Changes = Callable[[], tuple[Sequence[Compare], Sequence[Write]]]
"""Reads what a commit depends on, and says what to compare and write with it."""


class Held:
    """
    An operation that this process owns.

    left_on
        The node of the owner who died of it, where it is being recovered.
    """

    def __init__(
        self,
        context: Context,
        owners: Owners,
        record: Operation,
        revision: int,
        left_on: str = "",
    ) -> None:
        self._context = context
        self._owners = owners
        self.record = record
        self.left_on = left_on
        self.unsure = False
        """May a commit be made yet of which nobody has said that it was not?"""
        self.work = Work(record.token, record.seconds)
        self._wrote(revision)
        owners.working.add(record.token)

    @property
    def volume(self) -> str:
        return self.record.volume

    def _wrote(self, revision: int) -> None:
        self._revision = revision
        self._proven = time.monotonic()

    def still_ours(self) -> bool:
        """Can nobody have taken over yet, even if the store does not answer now?"""
        return time.monotonic() - self._proven < self._context.config.lease / 2

    def step(self, name: str) -> None:
        """Record the backend step that comes next. Raises Superseded."""
        self._write(step=name)

    def undo(self) -> None:
        """Record that what was done is being undone."""
        try:
            self._write(undoing=True)
        except StoreUnavailable:
            if self.unsure or not self.still_ours():
                raise

    def checkpoint(self, compares: Sequence[Compare], writes: Sequence[Write]) -> bool:
        """Write records and keep the operation; False where a compare did not hold."""
        revision = self._context.store.transact(
            [KeyAtRevision(self._key, self._revision), *compares],
            [Put(self._key, self.record.to_json()), *writes],
        )
        if revision is None:
            self._check_token()
            return False
        self._wrote(revision)
        return True

    def commit(self, changes: Changes | None = None) -> None:
        """
        Write the records that ``changes`` answers with and drop the operation.

        changes
            Reads what the commit depends on and says what to compare and write; asked again where
            a record has moved on meanwhile. None: nothing but the drop.
        """
        end = time.monotonic() + min(self.work.left(), COMMIT_PATIENCE)
        unsure: list[Sequence[Write]] = []
        while True:
            writes: Sequence[Write] | None = None
            try:
                if any(self._made(those) for those in unsure):
                    self.let_go()
                    return
                compares, writes = changes() if changes else ((), ())
                done = self._context.store.transact(
                    [KeyAtRevision(self._key, self._revision), *compares],
                    [Delete(self._key), *writes],
                )
                if done is not None:
                    self.let_go()
                    return
                self._check_token()
            except StoreUnavailable as exc:
                self.unsure = self.unsure or exc.unsure
                if time.monotonic() > end:
                    raise
                if writes is not None:
                    unsure.append(writes)
                time.sleep(0.1)
            if time.monotonic() > end:
                raise StoreUnavailable(
                    f"The {self.record.verb} of {self.volume} could not be committed: its records "
                    f"change too fast; the next call or doctor ends it"
                )

    def _made(self, writes: Sequence[Write]) -> bool:
        """Was a commit made although nobody answered? Its event, which is unique, tells."""
        events = [write.key for write in writes if write.key.startswith(keys.EVENTS)]
        key = events[0] if events else self._key
        there = self._context.store.get(key, linearizable=True) is not None
        return there is bool(events)

    def let_go(self) -> None:
        """This process works on the operation no more; if it is still there, recovery has it."""
        self._owners.working.discard(self.record.token)

    @property
    def _key(self) -> str:
        return keys.operation(self.volume)

    def _write(self, **changes: Any) -> None:
        while True:
            record = replace(self.record, **changes)
            revision = self._context.store.transact(
                [KeyAtRevision(self._key, self._revision)], [Put(self._key, record.to_json())]
            )
            if revision is not None:
                self.record = record
                self._wrote(revision)
                return
            self._check_token()

    def _check_token(self) -> None:
        """Raise Superseded unless the token is ours: then a delegate has written an outcome."""
        entry = self._context.store.get(keys.operation(self.volume), linearizable=True)
        if entry is None or entry.value.get("Token") != self.record.token:
            self.let_go()
            raise Superseded(
                f"The {self.record.verb} of {self.volume} was taken over by a recovery because "
                f"this process seemed dead; see the events"
            )
        self.record = replace(self.record, extra=Operation.from_json(entry.value).extra)
        self._wrote(entry.revision)


@dataclass(frozen=True, slots=True)
class Rule:
    """
    What recovery does with a verb whose owner died.

    recover
        Undoes or finishes, and drops the operation.
    begun_means_gone
        A begun one counts as a removal: the volume is judged absent.
    drop_unbegun
        Without a recorded step nothing was done: the operation is just dropped.
    """

    recover: Callable[[Held], None]
    begun_means_gone: bool = False
    drop_unbegun: bool = False


class Journal:
    """Begins, lists and recovers operations."""

    def __init__(self, context: Context, owners: Owners) -> None:
        self._context = context
        self._owners = owners
        self._nodes = Nodes(context)
        self._rules: dict[str, Rule] = {}

    def rule(self, verb: str, rule: Rule) -> None:
        """Tell what recovery does for a verb; each part of the manager does so for its own."""
        self._rules[verb] = rule

    def begin(
        self,
        volume: str,
        verb: str,
        arguments: JSON,
        by: JSON,
        compares: Sequence[Compare],
        step: str = "",
        writes: Sequence[Write] = (),
    ) -> Held | None:
        """
        Begin an operation; None where a compare did not hold (read again, decide again).

        step
            The backend step that comes first, recorded with the beginning.
        writes
            What else becomes true with the beginning; the verb's rule takes it back.

        Raises NodeClosed on a fenced node.
        """
        # A store with an operation has a schema: the first one makes it.
        _ = self._context.cluster
        record = Operation(
            volume=volume,
            verb=verb,
            arguments=arguments,
            step=step,
            node=self._context.node,
            started=now(),
            seconds=OPERATION_SECONDS,
            by=by,
            **self._owners.claim(),
        )
        key = keys.operation(volume)
        # Working on it before it can be seen: another thread must not take it for abandoned.
        self._owners.working.add(record.token)
        revision = None
        try:
            revision = self._context.store.transact(
                [KeyAbsent(key), self._nodes.unfenced(), *compares],
                [Put(key, record.to_json()), *writes],
            )
        finally:
            if revision is None:
                self._owners.working.discard(record.token)
        if revision is None:
            self._nodes.need_unfenced()
            return None
        return Held(self._context, self._owners, record, revision)

    def find(self, volume: str) -> tuple[Entry, Operation] | None:
        """The operation on a volume, with its entry."""
        entry = self._context.store.get(keys.operation(volume), linearizable=True)
        return None if entry is None else (entry, Operation.from_json(entry.value))

    def settle(self, volume: str, deadline: Deadline, *, recover: bool = True) -> Operation | None:
        """
        Wait until no living operation is on the volume.

        A dead owner's is recovered; with ``recover=False`` (tests and reads, which write nothing)
        it is returned instead. Raises OperationInProgress at the deadline, naming owner, step, age.
        """
        while (found := self.find(volume)) is not None:
            entry, operation = found
            if not self._owners.dead(operation):
                deadline.check(in_words(operation))
                self._context.await_change(entry, min(POLL, deadline.left()))
            elif not recover:
                return operation
            elif self.left_to_others(operation):
                deadline.check(in_words(operation))
                self._context.await_change(entry, min(POLL, deadline.left()))
            else:
                self.recover(entry, operation)
        return None

    def left_to_others(self, operation: Operation) -> bool:
        """Are its data on another node, whose agent will recover it?"""
        tied_to = operation.arguments.get("Node")
        if not tied_to or tied_to == self._context.node:
            return False
        return self._nodes.alive(tied_to)

    def recover(self, entry: Entry, operation: Operation) -> None:
        """Finish or undo a dead owner's operation, unless somebody else is faster."""
        if operation.verb not in self._rules:
            raise OperationInProgress(
                f"{operation.volume} has an unfinished {operation.verb} that this version of "
                f"libstorage does not know; update this node"
            )
        tied_to = operation.arguments.get("Node")
        if tied_to and tied_to != self._context.node:
            raise NotHere(
                f"{operation.volume} has an unfinished {operation.verb} whose data are on "
                f"{tied_to}; run doctor fix=True there"
            )
        self._owners.bury(operation)
        rule = self._rules[operation.verb]
        taken = replace(operation, node=self._context.node, **self._owners.claim())
        self._owners.working.add(taken.token)
        revision = self._context.store.transact(
            [KeyAtRevision(entry.key, entry.revision)], [Put(entry.key, taken.to_json())]
        )
        if revision is None:
            self._owners.working.discard(taken.token)
            return
        held = Held(self._context, self._owners, taken, revision, operation.node)
        try:
            if rule.drop_unbegun and not operation.step:
                held.commit()
            else:
                rule.recover(held)
        finally:
            held.let_go()

    def leaves_volume(self, operation: Operation) -> bool:
        """Would the volume's record still be there after recovery? (A create's never was.)"""
        return not (self._rules[operation.verb].begun_means_gone and operation.step)

    def list(self) -> "list[Operation]":
        """Every operation there is."""
        return [Operation.from_json(value) for value in self._context.store.values(keys.OPERATIONS)]

    def alive(self, operation: Operation) -> bool:
        return not self._owners.dead(operation)


def undo(
    held: Held,
    act: Callable[[], None],
    failure: BaseException | None = None,
    changes: Changes | None = None,
) -> None:
    """
    Undo a change in this order: record it, act, drop the operation.

    changes
        What the drop writes besides, as in :meth:`Held.commit`.

    Where that fails too, the operation stays for recovery, and ``failure`` is told about it. So it
    does where the store has been away for so long that another may have taken over, or where the
    commit may be made yet.
    """
    if isinstance(failure, StoreUnavailable) and (held.unsure or not held.still_ours()):
        failure.add_note("What it had begun is undone by the next call or doctor")
        held.let_go()
        return
    try:
        held.undo()
        act()
        held.commit(changes)
    except Superseded:
        raise
    except LibstorageError as exc:
        if failure is None:
            raise
        failure.add_note(f"What it had begun is undone by the next call or doctor: {exc}")
    finally:
        held.let_go()


def in_words(operation: Operation) -> str:
    """One sentence on an operation that somebody still works on."""
    step = operation.step or "begin"
    process = operation.process.get("pid", "?")
    return (
        f"{operation.volume} is busy: {operation.verb} by process {process} on "
        f"{operation.node} since {operation.started} (step {step}); wait for it, or see operations"
    )
