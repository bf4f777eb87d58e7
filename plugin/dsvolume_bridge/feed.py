"""
The store's events for all who listen at the administration's socket.

They are read once, in a thread that begins with the first listener. The newest are kept here for
those who listen; who is slow, or comes back from a place before them, reads by himself until he
has caught up. Nobody waits for a listener: what he has not taken is in the store.
"""

import asyncio
import json
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from itertools import islice
from typing import Any

from aiohttp import web

from libstorage.config import Config
from libstorage.errors import InvalidInput, LibstorageError
from libstorage.manager.following import News, read_place
from libstorage.managers import open_manager

from .module import Refused

log = logging.getLogger(__name__)

KEPT = 1000
"""Events, of some hundred bytes each."""
PAGE = 100
HEARTBEAT = 5.0
"""Seconds after which a listener is told that nothing has happened."""
RETRY = 1.0
START_SECONDS = 15.0


class Feed:
    """
    What has just happened.

    settings
        The node's configuration.
    """

    def __init__(self, settings: Callable[[], Config]) -> None:
        self._settings = settings
        self._kept: deque[News] = deque()
        self._dropped = 0
        """Events that were kept once; the first of the kept ones has this number."""
        self._at: News | None = None
        self._from = 0
        """All since this revision is kept."""
        self._changed = asyncio.Event()
        self._listeners: set[asyncio.Task[Any]] = set()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """A line for each event, and at times one without: the place from which to ask again."""
        task = asyncio.current_task()
        assert task is not None
        self._listeners.add(task)
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            async with aclosing(self.listen(request.query.get("since", ""))) as listening:
                async for news in listening:
                    if not answer.prepared:
                        await answer.prepare(request)
                    await answer.write(json.dumps(_line(news)).encode() + b"\n")
        except Refused as exc:
            if answer.prepared:
                raise  # it breaks off, and he asks again
            return web.json_response({"error": {"type": exc.kind, "text": str(exc)}}, status=409)
        finally:
            self._listeners.discard(task)
        return answer

    async def close(self, _: web.Application) -> None:
        """Read no more; whoever listens knows from where to ask the next bridge."""
        self._stopped.set()
        for task in self._listeners:
            task.cancel()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def listen(self, place: str) -> AsyncGenerator[News, None]:
        """
        What happens from a place on; ``""`` is now. First comes the place.

        Raises Refused for what is no place, and where the store cannot be read.
        """
        try:
            asked = read_place(place) if place else None
        except InvalidInput as exc:
            raise Refused(str(exc), "InvalidInput") from exc
        feed = await self._started(place)
        at = asked or News(feed.revision + (feed.event is not None), feed.cluster)
        yield at
        while True:
            read = self._live(at) if self._has(at) else self._older(at)
            async for told in read:
                at = told
                yield told

    # -- for one listener ---------------------------------------------------------------------

    def _has(self, at: News) -> bool:
        """Is all since then kept?"""
        feed = self._at
        if feed is None or at.cluster != feed.cluster:
            return False
        return self._from <= at.revision <= feed.revision + 1

    async def _live(self, at: News) -> AsyncGenerator[News, None]:
        """From a place on that is kept; ends where the listener was too slow for that."""
        kept = self._kept
        number = self._dropped + sum(told.revision < at.revision for told in kept)
        while number >= self._dropped:
            if number < self._dropped + len(kept):
                number += 1
                yield kept[number - 1 - self._dropped]
                continue
            try:
                await asyncio.wait_for(self._changed.wait(), HEARTBEAT)
            except TimeoutError:
                if self._at is not None:
                    yield News(self._at.revision, self._at.cluster)

    async def _older(self, at: News) -> AsyncGenerator[News, None]:
        """From a place on, read for this listener alone, until what comes next is kept."""
        loop = asyncio.get_running_loop()
        # One thread: whatever becomes of the listener, the store is closed after its last read.
        with _one_thread() as pool:
            manager = await loop.run_in_executor(pool, lambda: open_manager(self._settings()))
            try:
                reading = manager.follow(at.place)
                while True:
                    for told in await loop.run_in_executor(pool, _page, reading, self._from):
                        at = told
                        yield told
                    if self._has(at):
                        return
            except LibstorageError as exc:
                raise Refused(str(exc), type(exc).__name__) from exc
            finally:
                pool.submit(manager.close)

    # -- for all ------------------------------------------------------------------------------

    async def _started(self, place: str) -> News:
        """How far the reading is; it begins with the first who asks, where he asks from."""
        if self._thread is None:
            args = (asyncio.get_running_loop(), place)
            self._thread = threading.Thread(target=self._run, args=args, name="feed", daemon=True)
            self._thread.start()
        try:
            async with asyncio.timeout(START_SECONDS):
                while self._at is None:
                    await self._changed.wait()
        except TimeoutError:
            text = "The events cannot be read, the store is away; see the bridge's log"
            raise Refused(text, "StoreUnavailable") from None
        return self._at

    def _run(self, loop: asyncio.AbstractEventLoop, place: str) -> None:
        while not self._stopped.is_set():
            try:
                manager = open_manager(self._settings())
                try:
                    for told in manager.follow(place):
                        if self._stopped.is_set():
                            return
                        place = told.place
                        loop.call_soon_threadsafe(self._take, told)
                finally:
                    manager.close()
            except LibstorageError as exc:
                log.warning("Events cannot be read: %s; trying again", exc)
            except Exception:
                log.exception("Reading the events failed")
            self._stopped.wait(RETRY)

    def _take(self, told: News) -> None:
        """Keep an event, and wake up who listens."""
        before, self._at = self._at, told
        if before is None or told.revision < before.revision or told.cluster != before.cluster:
            # Another store's revisions say nothing of what was kept before.
            self._dropped += len(self._kept)
            self._kept.clear()
            self._from = told.revision
        if told.event is not None:
            self._kept.append(told)
            if len(self._kept) > KEPT:
                self._from = self._kept.popleft().revision + 1
                self._dropped += 1
        if before is None or told.event is not None:
            self._changed.set()
            self._changed = asyncio.Event()


@contextmanager
def _one_thread() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(1, "listener")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False)


def _page(reading: Iterator[News], until: int) -> list[News]:
    """What comes next, up to a revision, or to when nothing has come for a while."""
    page: list[News] = []
    for told in islice(reading, PAGE):
        page.append(told)
        if told.event is None or told.revision >= until:
            break
    return page


def _line(told: News) -> dict[str, Any]:
    """What a listener is told, as JSON."""
    return {"Place": told.place, **({"Event": told.event} if told.event else {})}
