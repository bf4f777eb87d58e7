"""
The agent: the part of the framework that lives as long as its node.

One per node (a lock file). It keeps the node's key, and does what nobody else would:

* what other nodes ask of this one (``delegation.py``), each volume's verbs in a thread of their
  own, so that one stuck volume blocks no other;
* limits and switches that somebody changed: this node's follow at once;
* copies of records beside this node's data, of records that somebody else has changed;
* what dead processes have left: operations, half-made mounts, claims of an older boot;
* deletions: data of volumes that were removed elsewhere, what was in the trash long enough;
* housekeeping of the whole cluster (events, requests), by the one agent that is elected.

It sleeps in a watch of the store and wakes up for every change that may concern it, and once a
lease for what shows by silence alone. The store is the truth: an agent that was down, or whose
watch lost changes, looks at everything when it is back. A store that is away only makes it wait.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..errors import BackendError, Compacted, LibstorageError, StoreUnavailable
from ..host.locks import only_one
from ..records import JSON
from ..store.contract import Change, Entry, KeyAbsent, KeyAtRevision, Put
from . import keys
from .context import Context
from .copies import Copies
from .delegation import Delegation
from .doctor import Doctor
from .findings import Finding
from .nodes import Nodes
from .qos import QoS

WORKERS = 8
"""Verbs of other nodes that are done at the same time."""
RETRY = 1.0
"""Seconds between tries while the store is away."""

Tell = Callable[[str], None]
Perform = Callable[[str, JSON, JSON], Any]
"""Does a verb with arguments, for somebody (``by``)."""


@dataclass(frozen=True, slots=True)
class _Threads:
    """Beside the agent's own: those that do verbs and mend, and the one that looks."""

    workers: ThreadPoolExecutor
    looker: ThreadPoolExecutor


class Agent:
    """Runs until it is told to stop."""

    def __init__(
        self,
        context: Context,
        nodes: Nodes,
        delegation: Delegation,
        doctor: Doctor,
        qos: QoS,
        copies: Copies,
        perform: Perform,
    ) -> None:
        self._context = context
        self._store = context.store
        self._nodes = nodes
        self._delegation = delegation
        self._doctor = doctor
        self._qos = qos
        self._copies = copies
        self._perform = perform
        self._stop = threading.Event()
        self._busy: set[str] = set()
        self._whole = True
        self._looking: Future[None] | None = None
        self._tell: Tell = lambda _: None

    def stop(self) -> None:
        """Let ``run`` end: what was begun is finished first."""
        self._stop.set()

    def run(self, tell: Tell = lambda _: None) -> None:
        """
        Work until :meth:`stop`.

        tell
            Is told sentences on what went wrong and what was mended, for a log.

        Raises ConfigInvalid where an agent of this node runs already, or another living host has
        the node's name.
        """
        self._tell = tell
        lock = only_one(
            self._context.config.run_dir / "agent.lock", f"An agent of {self._context.node}"
        )
        with (
            lock,
            ThreadPoolExecutor(WORKERS, "libstorage-agent") as pool,
            ThreadPoolExecutor(1, "libstorage-look") as looker,
        ):
            while not self._stop.is_set():
                try:
                    self._work(_Threads(pool, looker))
                except StoreUnavailable as exc:
                    tell(f"The store is away: {exc}; trying again")
                    self._stop.wait(RETRY)

    def _work(self, threads: _Threads) -> None:
        """From a look at everything through all changes, until the store or the watch fails."""
        self._nodes.register(self._stop)
        revision = self._store.revision()
        self._whole = True
        self._look(threads)
        self._take_on(threads)
        looked = time.monotonic()
        pause = self._context.config.lease / 3
        while not self._stop.is_set():
            try:
                for change in self._store.watch("", revision + 1, timeout=min(pause, 1.0)):
                    over = self._stop.is_set() or time.monotonic() - looked > pause
                    # Changes of one transaction share a revision: it is heeded whole, or again.
                    if over and change.revision > revision:
                        break
                    revision = change.revision
                    self._heed(change, threads)
            except Compacted:
                self._tell("Changes were lost while the store was away: looking at everything")
                return
            if time.monotonic() - looked > pause:
                if not self._nodes.registered():
                    self._nodes.register(self._stop)
                self._look(threads)
                self._take_on(threads)
                looked = time.monotonic()

    # -- what a change asks for ---------------------------------------------------------------

    def _heed(self, change: Change, threads: _Threads) -> None:
        node = self._context.node
        self._copies.note(change)
        if change.key.startswith(keys.delegated(node)) and change.value is not None:
            self._take_on(threads)
        elif change.key.startswith((keys.PROFILES, keys.QOS_GLOBAL)):
            self._safely(self._qos.follow)
        elif change.key.startswith(keys.VOLUMES) and change.value is not None:
            name = change.key.removeprefix(keys.VOLUMES)
            self._safely(lambda: self._qos.follow(name))
        elif change.value is not None and (
            change.key.startswith(keys.purge(node))
            or change.key in (keys.fenced(node), keys.drained(node))
        ):
            self._look(threads)

    def _take_on(self, threads: _Threads) -> None:
        """Begin all that is asked of this node."""
        for entry in self._delegation.asked():
            begun = self._delegation.begin(entry)
            if begun is not None:
                threads.workers.submit(self._answer, begun)

    def _answer(self, entry: Entry) -> None:
        asked = entry.value
        by = {**asked["By"], "from": asked["From"]}
        self._delegation.end(entry, lambda: self._perform(asked["Verb"], asked["Arguments"], by))

    # -- what shows by silence ----------------------------------------------------------------

    def _look(self, threads: _Threads) -> None:
        """
        Have a look begin, beside this thread: storage that is away holds up nothing else.

        Raises what an earlier one failed of.
        """
        before, self._looking = self._looking, None
        if before is not None and before.done():
            before.result()
        elif before is not None and not before.running():
            self._looking = before  # it has not begun, and will see what this one would
            return
        self._looking = threads.looker.submit(self._look_through, threads.workers)

    def _look_through(self, workers: ThreadPoolExecutor) -> None:
        """Mend what is this node's to mend, and what is everybody's where we are elected."""
        everything, self._whole = self._whole, False
        try:
            found = self._doctor.tend(everything=everything, elected=self._elected())
            for finding in chain(found, self._copies.lagging()):
                # What is still being mended, or hangs, is not begun once more.
                if finding.name not in self._busy:
                    self._busy.add(finding.name)
                    workers.submit(self._mend, finding)
        except BackendError as exc:
            self._tell(f"{exc}")  # the copies are looked at when it is back
        except BaseException:
            self._whole = self._whole or everything
            raise

    def _mend(self, finding: Finding) -> None:
        try:
            self._tell(self._doctor.mend(finding)["Says"])
        except StoreUnavailable:
            return
        finally:
            self._busy.discard(finding.name)

    def _elected(self) -> bool:
        """Is this the one agent that does the cluster's housekeeping? Whoever is first, is it."""
        entry = self._store.get(keys.ELECTED, linearizable=True)
        mine = self._store.owner()
        if entry is not None and entry.value["Owner"] == mine:
            return True
        if entry is not None and self._store.alive(entry.value["Owner"]):
            return False
        compare = KeyAtRevision(entry.key, entry.revision) if entry else KeyAbsent(keys.ELECTED)
        value = {"Node": self._context.node, "Owner": mine}
        return self._store.transact([compare], [Put(keys.ELECTED, value, leased=True)]) is not None

    def _safely(self, act: Callable[[], object]) -> None:
        """What fails for one volume keeps nothing else from being done; the next look goes on."""
        try:
            act()
        except StoreUnavailable:
            raise
        except LibstorageError as exc:
            self._tell(f"{exc}")
