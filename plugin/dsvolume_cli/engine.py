"""Docker's own engine, as far as a plugin can know where it is: its stream of events."""

import hashlib
import json
import os
import socket
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    JSON = dict[str, Any]

SOCKET = "unix:///var/run/docker.sock"
SECONDS = 10.0
"""For an engine to take a connection, and to begin its answer."""


class NoEngine(Exception):
    """The engine cannot be asked: one sentence."""


class Unix(HTTPConnection):
    """HTTP over the socket of a path."""

    def __init__(self, path: str, timeout: "float | None" = SECONDS) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def address(given: "dict[str, str]") -> str:
    """
    Where docker's commands would find it: a flag, the environment, a context.

    given
        Docker's own flags that were given, by their long names.

    Raises NoEngine for what this command cannot speak.
    """
    if given.keys() & {"tls", "tlsverify"} or os.environ.get("DOCKER_TLS_VERIFY"):
        raise NoEngine("it wants TLS, which this command does not speak")
    host = given.get("host", "")
    if not host and "context" not in given:
        host = os.environ.get("DOCKER_HOST", "")
    return host or _of_context(given)


def _of_context(given: "dict[str, str]") -> str:
    folder = given.get("config") or os.environ.get("DOCKER_CONFIG") or "~/.docker"
    folder = os.path.expanduser(folder)
    name = given.get("context") or os.environ.get("DOCKER_CONTEXT")
    name = name or _read(os.path.join(folder, "config.json")).get("currentContext", "")
    if name in ("", "default"):
        return SOCKET
    place = os.path.join(folder, "contexts", "meta", hashlib.sha256(name.encode()).hexdigest())
    host = _read(os.path.join(place, "meta.json")).get("Endpoints", {}).get("docker", {})
    if not host.get("Host"):
        raise NoEngine(f"there is no context {name}")
    return str(host["Host"])


def _read(path: str) -> "JSON":
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def events(where: str, since: int, until: "int | None", filters: "JSON") -> "Iterator[JSON]":
    """
    What happens there, as the engine tells it; first {}, when it listens.

    since, until
        Times in nanoseconds; without an end it goes on for ever.
    filters
        The engine's own.

    Raises NoEngine.
    """
    asked = {"since": _seconds(since), "filters": json.dumps(filters)}
    if until is not None:
        asked["until"] = _seconds(until)
    connection = _connection(where)
    try:
        connection.request("GET", f"/events?{urlencode(asked)}")
        answer = connection.getresponse()
        if answer.status != 200:
            raise NoEngine(answer.read(300).decode(errors="replace").strip() or "it refused")
        yield {}
        # It is silent while nothing happens.
        if connection.sock is not None:
            connection.sock.settimeout(None)
        while line := answer.readline():
            yield json.loads(line)
    except (OSError, HTTPException, ValueError) as exc:
        raise NoEngine(getattr(exc, "strerror", None) or str(exc) or "it ended") from None
    finally:
        connection.close()


def _connection(where: str) -> HTTPConnection:
    parts = urlsplit(where if "://" in where else f"tcp://{where}")
    if parts.scheme == "unix":
        return Unix(where.partition("://")[2])
    if parts.scheme in ("tcp", "http") and parts.hostname:
        return HTTPConnection(parts.hostname, parts.port or 2375, timeout=SECONDS)
    raise NoEngine(f"this command does not speak {parts.scheme}")


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09}"
