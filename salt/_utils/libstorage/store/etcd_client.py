"""
Requests to an etcd cluster: endpoints, connections, fail-over, passwords.

etcd's v3 API is spoken as JSON over HTTP, which every etcd since 3.4 serves beside gRPC on the same
port. gRPC's library runs threads of its own and does not survive a fork: in a forked child, and a
Salt minion forks one for each job, it hangs. Plain sockets have no such trouble: a child closes its
copies and connects anew. ``docs/design/etcd.md`` has the figures.

**Fail-over.** All requests go to one endpoint until it fails, then to the next, round and round,
until the limit (9 s) is over; then StoreUnavailable tells what each endpoint said. No endpoint is
shunned for longer than that: the next request may begin with it.

**Doubt.** A request that was sent and got no answer may have been carried out, or may be even
later: by a member that was stopped and wakes up. Reads are simply asked again. For a write the
caller gives a second form of the request, sent once there is doubt, whose answer tells.
"""

import http.client
import json
import os
import random
import select
import socket
import ssl
import threading
import time
import weakref
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from ..errors import ConfigInvalid, StoreUnavailable
from .etcd_settings import Endpoint, EtcdSettings

LIMIT = 9.0
"""Seconds until StoreUnavailable, whatever is tried meanwhile; looked up at each request."""
_ATTEMPT = (0.2, 5.0)  # one endpoint's share of the limit, at least and at most
_ROUND = 0.1  # pause after all endpoints have failed

_CANCELLED, _UNKNOWN, _DEADLINE, _EXHAUSTED, _INTERNAL, _UNAVAILABLE = 1, 2, 4, 8, 13, 14
_PASSING = (_CANCELLED, _UNKNOWN, _DEADLINE, _EXHAUSTED, _INTERNAL, _UNAVAILABLE)

JSON = dict[str, Any]
_Result = TypeVar("_Result")


class Refused(StoreUnavailable):
    """etcd understood a request and refused it; nothing was done. ``words`` are etcd's."""

    def __init__(self, message: str, words: str) -> None:
        super().__init__(message)
        self.words = words


class Failed(Exception):
    """
    One endpoint did not serve.

    sent
        It may have done what was asked nevertheless.
    stay
        The endpoint itself is well: ask it once more.
    lasting
        It will not serve however often it is asked.
    """

    def __init__(
        self, reason: str, *, sent: bool, stay: bool = False, lasting: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent
        self.stay = stay
        self.lasting = lasting


class Client:
    """A cluster's client, for all threads of a process, and in each forked child anew."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._context: ssl.SSLContext | None = None
        self._current = random.randrange(len(settings.endpoints))
        self._token: str | None = None
        self._cluster: dict[Endpoint, str] = {}
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[Endpoint, http.client.HTTPConnection]] = []
        self._open: weakref.WeakSet[http.client.HTTPConnection] = weakref.WeakSet()

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint in use."""
        return self._settings.endpoints[self._current]

    def where(self) -> str:
        """The cluster, in words."""
        return "etcd at " + ", ".join(str(endpoint) for endpoint in self._settings.endpoints)

    # -- requests

    def call(
        self, path: str, body: JSON, *, again: JSON | None = None, limit: float | None = None
    ) -> tuple[JSON, bool]:
        """
        The answer, and whether an earlier attempt may have been carried out before this one.

        again
            What to ask instead once that is so.
        limit
            Seconds until StoreUnavailable; default: LIMIT.
        """
        doubt = False

        def attempt(endpoint: Endpoint, seconds: float) -> JSON:
            nonlocal doubt
            try:
                return self.ask(endpoint, path, again if doubt and again else body, seconds)
            except Failed as failure:
                doubt = doubt or failure.sent
                raise

        return self.somewhere(attempt, limit), doubt

    def somewhere(
        self, attempt: Callable[[Endpoint, float], _Result], limit: float | None = None
    ) -> _Result:
        """What ``attempt(endpoint, seconds)`` returns for the first endpoint that serves."""
        limit = LIMIT if limit is None else limit
        end = time.monotonic() + limit
        count = len(self._settings.endpoints)
        share = min(max(limit / count, _ATTEMPT[0]), _ATTEMPT[1])
        failures: dict[Endpoint, Failed] = {}
        failed = 0
        while (left := end - time.monotonic()) > 0.01 or not failures:
            endpoint = self.endpoint
            try:
                return attempt(endpoint, max(min(share, left), 0.01))
            except Failed as failure:
                if left >= share or endpoint not in failures:  # not the end of the time's reason
                    failures[endpoint] = failure
                if failure.stay:
                    continue
                self.leave(endpoint)
            failed += 1
            if failed % count == 0:
                if len(failures) == count and all(f.lasting for f in failures.values()):
                    break
                time.sleep(max(0.0, min(_ROUND, end - time.monotonic())))
        told = "; ".join(f"{endpoint}: {failure.reason}" for endpoint, failure in failures.items())
        away = StoreUnavailable(
            f"The store cannot be reached ({told}): start etcd, or correct dsvolume:store"
        )
        away.unsure = True
        raise away

    def leave(self, endpoint: Endpoint) -> None:
        """This endpoint has failed: the next is in use, unless another thread was faster."""
        if self.endpoint == endpoint:
            self._current = (self._current + 1) % len(self._settings.endpoints)

    def ask(self, endpoint: Endpoint, path: str, body: JSON, seconds: float) -> JSON:
        """One request to one endpoint. Raises Failed, Refused, ConfigInvalid."""
        if len(self._settings.endpoints) > 1 and endpoint not in self._cluster:
            self._meet(endpoint, seconds)
        return self._ask(endpoint, path, body, seconds)

    def _meet(self, endpoint: Endpoint, seconds: float) -> None:
        """Before its first use: is it of the same cluster as the others? Their data would part."""
        body = {"key": b64encode(self._settings.prefix.encode()).decode(), "count_only": True}
        found = self._ask(endpoint, "kv/range", body, seconds)["header"]["cluster_id"]
        if others := [e for e, cluster in self._cluster.items() if cluster != found]:
            raise ConfigInvalid(
                f"{endpoint} and {others[0]} are not members of one etcd cluster: correct "
                "dsvolume:store:endpoints (or restart this process, if the cluster was made anew)"
            )
        self._cluster[endpoint] = found

    def _ask(self, endpoint: Endpoint, path: str, body: JSON, seconds: float) -> JSON:
        end = time.monotonic() + seconds
        token = self.token(endpoint, seconds)
        connection, used = self._take(endpoint, seconds)
        sent = False
        try:
            _limit(connection, end)
            sent = True
            connection.request("POST", f"/v3/{path}", json.dumps(body).encode(), headers(token))
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException, ValueError) as exc:
            self.drop(connection)
            stale = used and not isinstance(exc, TimeoutError)
            raise broken(exc, seconds, sent=sent, stay=stale) from exc
        except BaseException:
            self.drop(connection)
            raise
        if response.will_close:
            self.drop(connection)
        else:
            with self._lock:
                self._idle.append((endpoint, connection))
        return self.answer(response.status, text, token)

    # -- answers

    def answer(self, status: int, text: bytes, token: str | None) -> JSON:
        """What an endpoint answered; raises Failed, Refused or ConfigInvalid for an error."""
        try:
            # A stream of answers (a keep-alive's) is one a line.
            found = json.loads(text.partition(b"\n")[0])
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Failed(_no_gateway(status, text), sent=status >= 500, lasting=status < 500)
        if status == 200 and "error" not in found:
            result: JSON = found.get("result", found)
            return result
        error = found.get("error")
        inner = error if isinstance(error, dict) else found
        words = str(inner.get("message") or inner.get("error") or f"HTTP status {status}")
        code = int(inner.get("code") or inner.get("grpc_code") or 0)
        self._refuse(code or (_UNAVAILABLE if status >= 500 else 0), words, token)

    def _refuse(self, code: int, words: str, token: str | None) -> NoReturn:
        words = words.removeprefix("etcdserver: ").removeprefix("mvcc: ")
        if "invalid auth token" in words or "revision of auth store" in words:
            with self._lock:
                if self._token == token:
                    self._token = None
            raise Failed(words, sent=False, stay=True)
        if "database space exceeded" in words:
            raise Refused(
                f"The store is full: {self.where()} has raised the alarm NOSPACE; compact and "
                "defragment it, then disarm the alarm (etcdctl compact, defrag, alarm disarm), "
                "or give it a larger --quota-backend-bytes",
                words,
            )
        if "authentication failed" in words:
            raise ConfigInvalid(
                f"{self.where()} refused user {self._settings.user}: wrong password, or no such "
                "user; correct dsvolume:store:user and password_file"
            )
        if "user name is empty" in words or ("permission denied" in words and not token):
            raise ConfigInvalid(
                f"{self.where()} wants a password: set dsvolume:store:user and password_file"
            )
        if "permission denied" in words:
            raise ConfigInvalid(
                f"{self.where()} lets user {self._settings.user} not use the keys below "
                f"{self._settings.prefix}: give it a role that may read and write them "
                "(etcdctl role grant-permission --prefix)"
            )
        if code in _PASSING and not any(size in words for size in ("too large", "larger than")):
            raise Failed(words, sent="too many requests" not in words)
        raise Refused(f"The store refused a request ({self.where()}): {words}", words)

    def token(self, endpoint: Endpoint, seconds: float) -> str | None:
        """What proves who we are, asked for with the password when it is first needed."""
        user, token = self._settings.user, self._token
        if user is None or token is not None:
            return token
        connection, _ = self._take(endpoint, seconds)
        body = json.dumps({"name": user, "password": self._settings.password}).encode()
        try:
            _limit(connection, time.monotonic() + seconds)
            connection.request("POST", "/v3/auth/authenticate", body, headers(None))
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise broken(exc, seconds) from exc
        finally:
            self.drop(connection)
        try:
            self._token = token = self.answer(response.status, text, None)["token"]
        except Refused as refusal:
            if "authentication is not enabled" not in refusal.words:
                raise
            self._token = token = ""
        return token

    # -- connections

    def connect(self, endpoint: Endpoint, seconds: float) -> http.client.HTTPConnection:
        """A new connection. Raises Failed."""
        if endpoint.secure:
            if self._context is None:
                self._context = self._settings.context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                endpoint.host, endpoint.port, timeout=seconds, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=seconds)
        self._open.add(connection)
        try:
            connection.connect()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except (OSError, ValueError) as exc:
            self.drop(connection)
            raise broken(exc, seconds, greeting=endpoint.secure) from exc
        return connection

    def drop(self, connection: http.client.HTTPConnection) -> None:
        """Close a connection, also for the copies that forked children may have of it."""
        if connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _take(self, endpoint: Endpoint, seconds: float) -> tuple[http.client.HTTPConnection, bool]:
        """A connection for one request, and whether it was used before."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                where, connection = self._idle.pop()
            # One that can be read while nothing was asked has been closed by the other side.
            if where == endpoint and not _readable(connection):
                return connection, True
            self.drop(connection)
        return self.connect(endpoint, seconds), False

    def close(self) -> None:
        """Close the connections that nobody uses just now."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            self.drop(connection)

    def _forked(self) -> None:
        """In the child: its copies of the parent's sockets are closed, which the parent keeps."""
        for connection in list(self._open):
            if connection.sock is not None:
                with suppress(OSError):
                    os.close(connection.sock.detach())
        self._begin()


def headers(token: str | None) -> dict[str, str]:
    """The head of a request."""
    return {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})


def broken(
    exc: Exception,
    seconds: float,
    *,
    sent: bool = False,
    stay: bool = False,
    greeting: bool = False,
) -> Failed:
    """What a connection's error comes to; in the ``greeting`` TLS is being agreed on."""
    closed = isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    lasting = isinstance(exc, ssl.SSLError) and not closed
    words = _in_words(exc, seconds, greeting)
    return Failed(words, sent=sent, stay=stay, lasting=lasting)


def _in_words(exc: Exception, seconds: float, greeting: bool) -> str:
    """Why an endpoint did not serve."""
    if isinstance(exc, TimeoutError):
        return f"no answer within {seconds:.1f} s"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({exc.verify_message}): check dsvolume:store:ca"
    # What does not speak TLS closes, or resets, at the first byte that it does not understand.
    cut = (*((ConnectionResetError,) if greeting else ()), ssl.SSLEOFError, ssl.SSLZeroReturnError)
    if isinstance(exc, cut):
        return "it closed the connection; should it not speak TLS, write http://"
    if isinstance(exc, http.client.RemoteDisconnected):
        return "it closed the connection; should it speak TLS, write https://"
    if isinstance(exc, ssl.SSLError):
        reason = exc.reason or str(exc)
        if any(word in reason for word in ("ALERT", "HANDSHAKE", "CERTIFICATE")):
            return (
                f"it refused this node's certificate ({reason}): check dsvolume:store:cert and key"
            )
        return f"it does not speak TLS ({reason}): write http://"
    if isinstance(exc, OSError):
        return exc.strerror or str(exc) or type(exc).__name__
    return "the connection broke"


def _no_gateway(status: int, text: bytes) -> str:
    if b"HTTP request to an HTTPS server" in text:
        return "it speaks TLS: write https://"
    if b"CommonName" in text:
        return (
            "beside a password it takes no certificate that has a common name: make "
            "dsvolume:store:cert one without (a subject such as O=dsvolume)"
        )
    if status == 404:
        return "it does not serve etcd's v3 API as JSON (etcd 3.4 or later, --enable-grpc-gateway)"
    return f"it does not answer as etcd does (HTTP status {status})"


def _limit(connection: http.client.HTTPConnection, end: float) -> None:
    connection.sock.settimeout(max(end - time.monotonic(), 0.01))


def _readable(connection: http.client.HTTPConnection) -> bool:
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


# -- forks

_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client._forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
