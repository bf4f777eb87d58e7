"""
The etcd store's watch.

**Resuming.** A watch knows the revision up to which it has told everything. Where its connection
breaks, or its member no longer takes part in the cluster, it begins again from there at the next
endpoint; etcd sends the changes of one revision together, so that none is told twice or left out.
Where etcd has compacted that revision away meanwhile, Compacted is raised. While nothing happens
etcd tells every ten minutes how far it has come, which moves the revision on.

**Silence.** A member that hangs, or is cut off from the others, is as silent as one that has
nothing to tell. After 5 s of silence it is asked a question that only a member of a working
cluster can answer.

**The end.** etcd does not say when it has told the past; it tells it within 0.1 s. A watch that
begins in the past and ends by its time-out lasts for half a second at least. Should etcd be slower
than that, nothing is lost to who watches on from the last revision that he was told.
"""

import http.client
import json
import socket
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from ..errors import Compacted
from .etcd_client import JSON, Client, Failed, broken, headers
from .etcd_settings import Endpoint

_SETTLE = 0.5
_SILENCE = 5.0
_PROBE = 3.0
_BUFFER = 1 << 16


class Watch:
    """
    What happens to the keys ``start <= key < end``, from ``revision`` on.

    A revision's events are told together; each is to be read with :func:`decoded`.
    """

    def __init__(self, client: Client, start: str, end: str, revision: int) -> None:
        self._client = client
        self._range = {"key": start, "range_end": end}
        self._next = max(revision, 1)

    def events(self, timeout: float | None) -> Iterator[JSON]:
        """The events, in order; ends after ``timeout`` seconds without one."""
        changed = time.monotonic()
        while True:
            stream = self._client.somewhere(self._open)
            with closing(stream):
                settled = time.monotonic() + (_SETTLE if stream.revision >= self._next else 0)
                try:
                    while True:
                        wait = _SILENCE
                        if timeout is not None:
                            left = max(changed + timeout, settled) - time.monotonic()
                            wait = min(wait, left)
                        answer = stream.read(wait)
                        if answer is not None:
                            for event in self._told(answer):
                                yield event
                                changed = time.monotonic()
                        elif wait <= 0:
                            return
                        elif wait == _SILENCE:
                            self._probe(stream.endpoint)
                except Failed:
                    self._client.leave(stream.endpoint)

    def _told(self, answer: JSON) -> Iterator[JSON]:
        self._check(answer)
        events = answer.get("events", ())
        yield from events
        # Only now: who is left in the middle of a revision begins with it again. The answer's own
        # revision counts where it has no events: with events it may be ahead of those to follow.
        at = events[-1]["kv"]["mod_revision"] if events else answer["header"]["revision"]
        self._next = max(self._next, int(at) + 1)

    def _open(self, endpoint: Endpoint, seconds: float) -> "_Stream":
        stream = _Stream(self._client, endpoint, seconds)
        try:
            stream.ask({"start_revision": str(self._next), "progress_notify": True} | self._range)
            answer = stream.read(seconds)
            if answer is None:
                raise Failed(f"no answer within {seconds:.1f} s", sent=False)
            self._check(answer)
            stream.revision = int(answer["header"]["revision"])
            return stream
        except BaseException:
            stream.close()
            raise

    def _check(self, answer: JSON) -> None:
        if compacted := int(answer.get("compact_revision", 0)):
            raise Compacted(
                f"{self._client.where()} no longer keeps the changes since revision {self._next} "
                f"(compacted at {compacted}): list anew and watch from there"
            )
        if answer.get("canceled"):
            raise Failed(str(answer.get("cancel_reason") or "it ended the watch"), sent=False)

    def _probe(self, endpoint: Endpoint) -> None:
        body = {"key": self._range["key"], "count_only": True}
        self._client.ask(endpoint, "kv/range", body, _PROBE)


class _Stream:
    """One watch on one connection: answers, one a line, until either side closes it."""

    def __init__(self, client: Client, endpoint: Endpoint, seconds: float) -> None:
        self._client = client
        self.endpoint = endpoint
        self.revision = 0
        self._token = client.token(endpoint, seconds)
        self._connection: http.client.HTTPConnection = client.connect(endpoint, seconds)
        self._buffer = b""
        self._status = 0

    @property
    def _socket(self) -> socket.socket:
        found: socket.socket = self._connection.sock
        if found is None or found.fileno() < 0:
            raise Failed("this process was forked", sent=False)
        return found

    def ask(self, create: JSON) -> None:
        """Send the request; in HTTP/1.0, whose answers come without further framing."""
        body = json.dumps({"create_request": create}).encode()
        fields = headers(self._token) | {
            "Host": str(self.endpoint).partition("//")[2],
            "Content-Length": str(len(body)),
        }
        lines = ["POST /v3/watch HTTP/1.0", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
        try:
            self._socket.sendall("\r\n".join(lines).encode() + body)
        except OSError as exc:
            raise broken(exc, 0) from exc

    def read(self, seconds: float) -> JSON | None:
        """The next answer, None where none comes in time. Raises Failed, Refused, Compacted."""
        end = time.monotonic() + seconds
        if not self._status:
            head = self._until(b"\r\n\r\n", end)
            if head is None:
                return None
            self._status = int(head.split(b" ", 2)[1])
        line = self._until(b"\n", end)
        if line is None:
            return None
        return self._client.answer(self._status, line, self._token)

    def _until(self, mark: bytes, end: float) -> bytes | None:
        """What comes before the mark, None where it does not come in time."""
        searched = 0
        while (found := self._buffer.find(mark, searched)) < 0:
            searched = max(0, len(self._buffer) - len(mark))
            try:
                # Once at least: what has come already is read without waiting.
                self._socket.settimeout(max(end - time.monotonic(), 0.001))
                more = self._socket.recv(_BUFFER)
            except TimeoutError:
                return None
            except (OSError, ValueError) as exc:
                raise broken(exc, 0) from exc
            if not more:
                if self._buffer and self._status:  # an error's text has no end of line
                    mark, found = b"", len(self._buffer)
                    break
                raise Failed("it closed the connection", sent=False)
            self._buffer += more
        text, self._buffer = self._buffer[:found], self._buffer[found + len(mark) :]
        return text

    def close(self) -> None:
        self._client.drop(self._connection)


def decoded(event: JSON) -> tuple[str, bytes | None, int]:
    """Key, value (None: deleted) and revision of an event."""
    entry: dict[str, Any] = event["kv"]
    deleted = event.get("type") == "DELETE"
    value = None if deleted else b64decode(entry.get("value", ""))
    return b64decode(entry["key"]).decode(), value, int(entry["mod_revision"])
