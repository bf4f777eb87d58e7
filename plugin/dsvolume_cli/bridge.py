"""The bridge at the other end of the administration's socket: one call, one answer."""

import json
import os
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SOCKET = "/run/dsvolume/admin.sock"
SECONDS = 620.0
"""The bridge itself answers each call within 600 s."""
LARGEST = 1 << 28
START = (
    "start it (systemctl start dsvolume-bridge.socket), or set DSVOLUME_SOCKET to its admin socket"
)


class Refused(Exception):
    """What a function refused or failed to do, in its own words."""


class NoBridge(Exception):
    """The bridge is not there, or what it says cannot be understood: one sentence."""


def where() -> str:
    """The path of the socket."""
    return os.environ.get("DSVOLUME_SOCKET") or SOCKET


def call(function: str, args: "list[Any]", kwargs: "dict[str, Any]") -> "Any":
    """
    Call a function of the module ``dsvolume`` on this node.

    Returns what it returns. Raises Refused, and NoBridge.
    """
    path, seconds = where(), _seconds()
    body = json.dumps({"function": function, "args": args, "kwargs": kwargs}).encode()
    try:
        answer = _exchange(path, body, seconds)
    except TimeoutError:
        raise NoBridge(
            f"the bridge at {path} gave no answer within {seconds:g} s; what was asked of it may "
            f"still be done: see docker dsvolume operations"
        ) from None
    except OSError as exc:
        raise absent(path, exc) from None
    return _read(path, answer)


def absent(path: str, exc: OSError) -> NoBridge:
    """What to say where nobody answers at the socket."""
    if isinstance(exc, PermissionError):
        return NoBridge(f"only root may speak to the bridge at {path}; use sudo")
    return NoBridge(f"the bridge is not there: {path}: {exc.strerror or exc}; {START}")


def _seconds() -> float:
    text = os.environ.get("DSVOLUME_TIMEOUT") or SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise NoBridge(f"DSVOLUME_TIMEOUT must be a number of seconds, not {text!r}")
    return seconds


def _exchange(path: str, body: bytes, seconds: float) -> bytes:
    """
    One request of HTTP/1.0, which is answered in one piece and closed; raises OSError.

    By hand: to import http.client takes longer than the whole of ``docker dsvolume ls``.
    """
    until = time.monotonic() + seconds
    head = (
        f"POST /v1/call HTTP/1.0\r\nHost: dsvolume\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    pieces, size = [], 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(seconds)
        peer.connect(path)
        peer.sendall(head.encode() + body)
        while size < LARGEST:
            peer.settimeout(max(until - time.monotonic(), 0.001))
            if not (piece := peer.recv(1 << 18)):
                break
            pieces.append(piece)
            size += len(piece)
    return b"".join(pieces)


def _read(path: str, answer: bytes) -> "Any":
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict) and status[0].startswith(b"HTTP/"):
        if status[1:2] == [b"200"] and "return" in said:
            return said["return"]
        error = said.get("error")
        if isinstance(error, dict) and isinstance(error.get("text"), str):
            raise Refused(error["text"])
    what = "nothing" if not answer else repr(answer[:40].decode(errors="replace"))
    raise NoBridge(
        f"what answers at {path} is no bridge, or one that has just ended: it said {what}; "
        f"see what the bridge has written"
    )
