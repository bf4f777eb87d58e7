"""The bridge's stream of events."""

import json
from http.client import HTTPException
from urllib.parse import quote

from . import bridge
from .engine import Unix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    JSON = dict[str, Any]

SILENCE = 20.0
"""Seconds after which it is not there any more: it speaks every 5."""


def listen(place: str) -> "Iterator[JSON]":
    """
    What happens from a place on, ``""`` is now: ``{"Place": ...}``, with ``Event`` if there is one.

    Raises NoBridge, also when the stream ends; Refused.
    """
    path = bridge.where()
    connection = Unix(path, SILENCE)
    try:
        connection.request("GET", f"/v1/events?since={quote(place)}")
        answer = connection.getresponse()
        if answer.status != 200:
            raise bridge.Refused(_reason(answer.read()))
        while line := answer.readline():
            yield json.loads(line)
        raise bridge.NoBridge(f"the bridge at {path} has ended")
    except OSError as exc:
        raise bridge.absent(path, exc) from None
    except (HTTPException, ValueError):
        raise bridge.NoBridge(f"the bridge at {path} broke off") from None
    finally:
        connection.close()


def _reason(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"]["text"])
    except (ValueError, TypeError, LookupError):
        return f"the bridge at {bridge.where()} is of another version: it tells no events"
