"""
Many requests to a local socket at the same moment, and how long each takes.

Over bare connections: a client library of Python's takes longer for a request than the bridge.
"""

import json
import selectors
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SECONDS = 60.0
JSON = dict[str, Any]


def volley(path: Path, requests: Sequence[tuple[str, JSON]]) -> list[tuple[float, JSON]]:
    """Send each ``(URL path, body)`` on a connection of its own; seconds and answer of each."""
    connections = [socket.socket(socket.AF_UNIX) for _ in requests]
    try:
        with selectors.DefaultSelector() as selector:
            for number, connection in enumerate(connections):
                connection.connect(str(path))
                selector.register(connection, selectors.EVENT_READ, number)
            return _exchange(selector, connections, [_text(*request) for request in requests])
    finally:
        for connection in connections:
            connection.close()


def _exchange(
    selector: selectors.BaseSelector, connections: Sequence[socket.socket], texts: Sequence[bytes]
) -> list[tuple[float, JSON]]:
    sent = []
    for connection, text in zip(connections, texts, strict=True):
        sent.append(time.monotonic())
        connection.sendall(text)
    heard: dict[int, tuple[float, bytes]] = {}
    received = [b""] * len(texts)
    while len(heard) < len(texts):
        ready = selector.select(SECONDS)
        assert ready, f"no answer within {SECONDS} s"
        for key, _ in ready:
            number, connection = key.data, connections[key.data]
            received[number] += (more := connection.recv(1 << 16))
            assert more, "the connection was closed before its answer"
            if (body := _whole(received[number])) is not None:
                heard[number] = (time.monotonic() - sent[number], body)
                selector.unregister(connection)
    return [(heard[n][0], json.loads(heard[n][1])) for n in range(len(texts))]


def _text(path: str, body: JSON) -> bytes:
    text = json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        len(text),
        text,
    )


def _whole(received: bytes) -> bytes | None:
    """The body of an answer that has come whole."""
    head, ended, body = received.partition(b"\r\n\r\n")
    if not ended:
        return None
    [length] = [
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    return body if len(body) >= length else None
