"""
``events``: what Docker's engine and libstorage tell, as one stream in order of time.

Each is read in a thread of its own. A line that has come waits WINDOW seconds for lines of before
it that are still under way. What lies in the past is read whole, and sorted, before that.
"""

import heapq
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta

from . import bridge, engine, show
from .filters import Filters
from .listening import listen
from .times import EPOCH, local, nanoseconds, written
from .words import WrongUsage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    JSON = dict[str, Any]
    Line = tuple[int, str]
    """Time in nanoseconds, and the line."""

WINDOW = 0.25
RETRY = 0.5
WAITING = 10_000
"""Lines that may wait for whoever reads ours."""
SEEN = 10_000
"""Events that are known when they are told again: those of one moment, and the last of the past."""


def watch(given: "JSON", dockers: "dict[str, str]", *, as_json: bool) -> None:
    """
    Write lines until ``until``, or for ever.

    given
        The command's flags.
    dockers
        Docker's own.

    Raises WrongUsage; NoBridge and Refused where there is no bridge at the beginning.
    """
    now = time.time_ns()
    filters = Filters(given.get("filter", ()))
    since = nanoseconds(given["since"], "since", now) if "since" in given else None
    until = nanoseconds(given["until"], "until", now) if "until" in given else None
    if since is not None and until is not None and until < since:
        raise WrongUsage("--until must not be before --since")
    streams = Streams(filters, dockers, until, as_json=as_json)
    live = until is None or until > now
    _end_with_docker()
    # What is written to the store once its place is known is missed by nobody; what was written
    # before has a time of before.
    begun = streams.listen() if live else now
    if since is not None or until is not None:
        past = streams.past(since or 0, min(begun, until if until is not None else begun))
        for _, line in sorted(past, key=lambda found: found[0]):
            print(line)
        sys.stdout.flush()
    if live:
        streams.go_on()
        for line in streams.lines():
            print(line, flush=True)


class Streams:
    """Both streams, as far as filters want them."""

    def __init__(
        self, filters: Filters, dockers: "dict[str, str]", until: "int | None", *, as_json: bool
    ) -> None:
        self._filters = filters
        self._dockers = dockers
        self._until = until
        self._as_json = as_json
        self._seen: dict[str, None] = {}
        self._come: queue.Queue[Line | None] = queue.Queue(WAITING)
        self._reading = 0
        self._ours_go_on: tuple[Iterator[JSON], str] | None = None
        self._said = False
        self._saying = threading.Lock()

    # -- the past

    def past(self, since: int, until: int) -> "list[Line]":
        """What happened between two times, in any order."""
        found: list[Line] = []
        if self._filters.any_of_ours:
            times = {"since": written(since), "until": written(until)}
            for event in bridge.call("events", [], times):
                found += self._ours(event)
        wanted = self._filters.dockers
        if wanted is not None:
            try:
                where = engine.address(self._dockers)
                told = engine.events(where, since, until, wanted)
                found += [self._docker(event) for event in told if event]
            except engine.NoEngine as exc:
                self._warn(exc)
        return found

    # -- from now on

    def listen(self) -> int:
        """Begin to listen; returns the time up to which all is of the past."""
        if self._filters.any_of_ours:
            stream = listen("")
            first = next(stream)
            self._ours_go_on = (stream, first["Place"])
        begun = time.time_ns()
        if self._filters.dockers is not None:
            # At once: an engine keeps only its newest events.
            self._begin(self._read_dockers, begun + 1)
        return begun

    def go_on(self) -> None:
        """
        Read what libstorage tells to who listens.

        Once the past is read: its last events are told here as well, and are left out here.
        """
        if self._ours_go_on is not None:
            self._begin(self._read_ours, *self._ours_go_on)

    def _begin(self, read: "Any", *args: "Any") -> None:
        self._reading += 1

        def run() -> None:
            try:
                read(*args)
            finally:
                self._come.put(None)

        threading.Thread(target=run, daemon=True).start()

    def lines(self) -> "Iterator[str]":
        """Lines in order of time, as they come."""
        waiting: list[tuple[int, int, float, str]] = []
        number, reading = 0, self._reading
        while reading or waiting:
            if waiting and (not reading or waiting[0][2] <= time.monotonic()):
                yield heapq.heappop(waiting)[3]
                continue
            left = waiting[0][2] - time.monotonic() if waiting else None
            if (end := self._end()) is not None:
                left = min(left, end) if left is not None else end
            try:
                come = self._come.get(timeout=left)
            except queue.Empty:
                if end is not None and not self._end():
                    reading = 0  # what comes now is of after the end
                continue
            if come is None:
                reading -= 1
                continue
            number += 1
            heapq.heappush(waiting, (come[0], number, time.monotonic() + WINDOW, come[1]))

    def _end(self) -> "float | None":
        """Seconds until nothing more can come that is wanted."""
        if self._until is None:
            return None
        return max(0.0, (self._until - time.time_ns()) / 1e9 + WINDOW)

    def _read_ours(self, stream: "Iterator[JSON]", place: str) -> None:
        """Until the end; a bridge that goes is asked for the rest when it is back."""
        told = False
        while True:
            try:
                for line in stream:
                    place, told = line["Place"], False
                    for found in self._ours(line["Event"]) if "Event" in line else ():
                        if self._until is None or found[0] <= self._until:
                            self._come.put(found)
            except (bridge.NoBridge, bridge.Refused) as exc:
                if not told:
                    _say(f"{exc}; going on with what is missing when it is back")
                told = True
            time.sleep(RETRY)
            stream = listen(place)

    def _read_dockers(self, since: int) -> None:
        while True:
            try:
                where = engine.address(self._dockers)
                for event in engine.events(where, since, self._until, self._filters.dockers or {}):
                    self._said = False
                    if event:
                        found = self._docker(event)
                        since = found[0] + 1
                        self._come.put(found)
                if self._until is not None and time.time_ns() >= self._until:
                    return
                raise engine.NoEngine("it has ended")
            except engine.NoEngine as exc:
                self._warn(exc)
            time.sleep(RETRY)

    def _warn(self, exc: Exception) -> None:
        """Once, until it is there again."""
        with self._saying:
            if not self._said:
                _say(
                    f"the engine of docker does not tell its events: {exc}; "
                    f"going on with libstorage's"
                )
            self._said = True

    # -- lines

    def _ours(self, event: "JSON") -> "list[Line]":
        """An event's line, where it is wanted and was not told before."""
        if event["Id"] in self._seen or not self._filters.match(event):
            return []
        self._seen[event["Id"]] = None
        if len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]
        moment = datetime.fromisoformat(event["Time"])
        text = json.dumps(event) if self._as_json else show.event(event)
        return [((moment - EPOCH) // timedelta(microseconds=1) * 1000, text)]

    def _docker(self, event: "JSON") -> "Line":
        """As ``docker events`` has it."""
        moment = int(event.get("timeNano") or event["time"] * 10**9)
        if self._as_json:
            return moment, json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        actor = event.get("Actor") or {}
        attributes = sorted((actor.get("Attributes") or {}).items())
        about = f" ({', '.join(f'{key}={value}' for key, value in attributes)})"
        words = f"{event.get('Type')} {event.get('Action')} {actor.get('ID', '')}"
        return moment, f"{local(moment)} {words}{about if attributes else ''}"


def _end_with_docker() -> None:
    """Be interrupted when docker is: it tells its plugins by closing a socket."""
    name = os.environ.get("DOCKER_CLI_PLUGIN_SOCKET", "")
    if not name:
        return
    docker = socket.socket(socket.AF_UNIX)
    try:
        docker.connect(name.replace("@", "\0", 1))
    except OSError:
        return

    def wait() -> None:
        with suppress(OSError):
            docker.recv(1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def _say(text: str) -> None:
    print(f"docker dsvolume: {text}", file=sys.stderr, flush=True)
