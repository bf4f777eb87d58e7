"""
The publisher: hands the store's events on, to a message bus, in batches.

The cursor
    A file on this host. It names the last event that was sent, by key and revision, with the other
    events of that revision that were (those of one transaction share it): it may well stand in the
    middle of a transaction.

The order
    A batch is handed out; whoever takes it comes back for the next one when it is sent; then the
    cursor is written, durably, before more is handed out. So nothing is passed over, and whoever
    is killed gets one batch again, at most.

Where it goes on
    - *The cursor's event is in the store, at its revision or at a later one (an answer was lost,
      and it was written twice), or retention has deleted it*: the store is the one it was. It is
      watched from the cursor on; what is deleted by now is told too.
    - *The watch does not reach back so far* (Compacted): the events are listed; all that are of a
      later revision than the cursor are sent. The key ``forgotten`` tells whether retention has
      deleted such ones: then there is a gap.
    - *The cursor's event is not there, or the cluster is another one*: the store was restored, or
      made anew, and its revisions say nothing. What happened since an hour before the cursor's
      event (clocks differ) is sent, some of it again, and there is a gap.
    - *The cursor cannot be read*: likewise, since an hour before the file was written.
    - *There is no cursor*: it begins with the present.

A gap is an event too, written to the store and sent like every other. Whether the store is still
the same is asked every CHECK seconds as well: etcd may be restored under a living watch.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from ..errors import Compacted, StoreUnavailable
from ..host import files
from ..host.locks import only_one
from ..records import JSON, Record, now
from ..store.contract import Entry, Store
from . import keys
from .context import Context
from .events import Events

BATCH = 100
"""Events that are handed out together, at most."""
CHECK = 15.0
"""Seconds between looks whether the store is still the same."""
MARGIN = timedelta(hours=1)
"""How far the clocks of two nodes may be apart, where only time tells what was sent."""
POLL = 1.0
"""Seconds after which an idle publisher looks up."""
RETRY = 1.0
NAME = "libstorage_events"
"""Stands in events of gaps where a volume's name does."""

Batch = list[JSON]
Tell = Callable[[str], None]
Item = Entry | Exception


@dataclass(frozen=True, kw_only=True)
class Cursor(Record):
    """
    Sent is what was committed before ``revision``, and of that one the events ``sent``, by key.

    ``time`` is the last event's own. Where ``sent`` is empty, all of the revision was there before.
    """

    cluster: str
    revision: int
    time: str
    sent: list[str]

    def knows(self, key: str, revision: int) -> bool:
        """Was this event sent?"""
        if revision != self.revision:
            return revision < self.revision
        return not self.sent or key in self.sent

    @property
    def next(self) -> int:
        """The first revision that may have something to send."""
        return self.revision if self.sent else self.revision + 1


@dataclass(frozen=True, slots=True)
class Gap:
    """Why events may be missing; where ``since`` is a time, all that happened since is sent."""

    reason: str
    says: str
    since: str = ""


class Publisher:
    """
    Hands out the events of the store.

    path
        The cursor's file.
    """

    def __init__(self, context: Context, events: Events, path: Path) -> None:
        self.path = path
        self._context = context
        self._store = context.store
        self._events = events
        self._cursor = Cursor(cluster="", revision=0, time="", sent=[])

    def batches(self, tell: Tell = lambda _: None) -> Generator[Batch, None, None]:
        """
        The records of events in the order of their commits, at most BATCH together, for ever.

        A batch counts as sent when the next one is asked for: who leaves the loop by an error, or
        is killed in it, gets it again. Where nothing happens, an empty one comes every second.

        tell
            Is told sentences on what goes wrong, for a log.

        Waits while the store is away. Raises ConfigInvalid where another process works with the
        same cursor, or the store is another manager's; BackendError where the cursor cannot be
        kept.
        """
        with only_one(self.path.with_suffix(".lock"), f"A publisher of {self._context.node}"):
            while True:
                try:
                    yield from self._follow(tell)
                except StoreUnavailable as exc:
                    tell(f"The store is away: {exc}; trying again")
                    time.sleep(RETRY)
                    yield []

    def _follow(self, tell: Tell) -> Iterator[Batch]:
        """From where the cursor stands until the store turns out to be another one."""
        gap = self._open()
        begin = self._cursor.next if gap is None else (yield from self._list(gap, tell))
        while True:
            try:
                yield from self._watch(begin)
                return
            except Compacted:
                begin = yield from self._list(None, tell)

    # -- where it goes on ---------------------------------------------------------------------

    def _open(self) -> Gap | None:
        """Read the cursor, or make one; a gap where it cannot be followed."""
        cluster = self._context.schema() or ""
        try:
            cursor = self._read()
        except ValueError:
            written = datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
            return self._begin_anew(cluster, "cursor", f"{self.path} cannot be read", written)
        if cursor is None:
            here = self._store.revision()
            cursor = Cursor(cluster=cluster, revision=here, time=now(), sent=[])
            self._write(cursor)
        self._cursor = cursor
        if self._is_another():
            says = "the store is another one than before, or was restored"
            last = datetime.fromisoformat(cursor.time)
            return self._begin_anew(cluster, "store", says, last)
        return None

    def _begin_anew(self, cluster: str, reason: str, says: str, last: datetime) -> Gap:
        """Forget the cursor; only time tells what was sent, ``last`` is that of the last event."""
        since = (last - MARGIN).isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._cursor = Cursor(cluster=cluster, revision=0, time=since, sent=[])
        return Gap(reason, f"{says}; all since {since} is sent", since)

    def _is_another(self) -> bool:
        """Is the store not the one that the cursor is about?"""
        cursor, cluster = self._cursor, self._context.schema()
        if cursor.cluster and not cluster:
            raise StoreUnavailable("it is empty; restore it, or make it anew (doctor rebuild=True)")
        if cursor.cluster and cluster != cursor.cluster:
            return True
        if self._store.revision() < cursor.revision:
            return True
        if not cursor.sent:
            return False
        last = self._store.get(cursor.sent[-1])
        if last is not None:
            return last.revision < cursor.revision
        return self._forgotten() < cursor.revision

    def _forgotten(self) -> int:
        """The last revision of whose events retention has deleted one; 0 where it has none yet."""
        entry = self._store.get(keys.FORGOTTEN)
        return int(entry.value["Revision"]) if entry else 0

    def _report(self, gap: Gap, tell: Tell) -> None:
        tell(f"Events may be missing: {gap.says}")
        by = {"door": "salt", "engine": NAME}
        data = {"Reason": gap.reason, "Says": gap.says, "Since": gap.since or self._cursor.time}
        self._store.transact([], [self._events.failure(NAME, "gap", by, gap.says, **data)])

    # -- what is sent -------------------------------------------------------------------------

    def _watch(self, begin: int) -> Iterator[Batch]:
        """Hand out what happens, until the store is another one."""
        with _Reader(self._store, begin) as reader:
            checked = time.monotonic()
            while True:
                taken = reader.take()
                new = [e for e in taken if not self._cursor.knows(e.key, e.revision)]
                yield from self._hand_out(new)
                if not taken:
                    yield []
                if time.monotonic() - checked > CHECK:
                    if self._is_another():
                        return
                    checked = time.monotonic()

    def _list(self, gap: Gap | None, tell: Tell) -> Generator[Batch, None, int]:
        """Hand out what no watch tells; returns the revision to watch from."""
        if gap:
            self._report(gap, tell)
        begun, head = self._cursor, self._store.revision()

        def is_wanted(entry: Entry) -> bool:
            if gap:
                return str(entry.value["Time"]) >= gap.since
            return not begun.knows(entry.key, entry.revision)

        # Without their values, of which there may be more than memory.
        found = sorted(
            (entry.revision, entry.key)
            for entry in self._store.list(keys.EVENTS)
            if entry.revision <= head and is_wanted(entry)
        )
        lost = self._forgotten() > begun.revision and not gap
        for at in range(0, len(found), BATCH):
            entries = []
            for revision, key in found[at : at + BATCH]:
                entry = self._store.get(key)
                if entry is None:
                    lost = True  # deleted just now
                else:
                    entries.append(Entry(key, entry.value, revision))
            yield from self._hand_out(entries)
        if lost:
            says = f"some that happened after {begun.time} were deleted before they were sent"
            self._report(Gap("retention", says), tell)
        return head + 1

    def _hand_out(self, entries: Sequence[Entry]) -> Iterator[Batch]:
        """A batch, where there is one, and the cursor once it is sent."""
        if not entries:
            return
        yield [entry.value for entry in entries]
        last = entries[-1]
        sent = [entry.key for entry in entries if entry.revision == last.revision]
        if last.revision == self._cursor.revision:
            sent = [*self._cursor.sent, *sent]
        cursor = replace(
            self._cursor,
            cluster=self._cursor.cluster or self._context.schema() or "",
            revision=last.revision,
            time=last.value["Time"],
            sent=sent,
        )
        self._write(cursor)
        self._cursor = cursor

    # -- the cursor's file --------------------------------------------------------------------

    def _read(self) -> Cursor | None:
        """Raises ValueError where there is one that cannot be read."""
        if not self.path.exists():
            return None
        cursor = Cursor.from_json(files.read_json(self.path) or {})
        datetime.fromisoformat(cursor.time)
        if not isinstance(cursor.revision, int) or not isinstance(cursor.sent, list):
            raise ValueError(f"{self.path} holds no cursor")
        return cursor

    def _write(self, cursor: Cursor) -> None:
        files.write_json(self.path, cursor.to_json())


class _Reader:
    """
    A watch in a thread of its own: what happens while a batch is sent is the next batch.

    It holds two batches and then waits, so that a bus that is slow or away takes no memory.
    """

    def __init__(self, store: Store, revision: int) -> None:
        self._store = store
        self._revision = revision
        self._items: queue.Queue[Item] = queue.Queue(2 * BATCH)
        self._failed: Exception | None = None
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._read, name="libstorage-events", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join(2 * POLL)

    def take(self) -> list[Entry]:
        """Up to BATCH events; none where POLL seconds bring none. Raises what the watch raises."""
        taken: list[Entry] = []
        while self._failed is None and len(taken) < BATCH:
            try:
                item = self._items.get(timeout=0 if taken else POLL)
            except queue.Empty:
                break
            if isinstance(item, Entry):
                taken.append(item)
            else:
                self._failed = item
        if self._failed is not None and not taken:
            raise self._failed
        return taken

    def _read(self) -> None:
        try:
            while not self._left.is_set():
                told = self._revision - 1
                for change in self._store.watch(keys.EVENTS, self._revision, timeout=POLL):
                    told = change.revision
                    if change.value is None:
                        continue
                    if not self._put(Entry(change.key, change.value, change.revision)):
                        return
                self._revision = told + 1
        except Exception as exc:  # whatever it is, who takes is to know
            self._put(exc)

    def _put(self, item: Item) -> bool:
        """Put it into the queue; False where nobody takes it any more."""
        while not self._left.is_set():
            try:
                self._items.put(item, timeout=POLL / 5)
                return True
            except queue.Full:
                continue
        return False
