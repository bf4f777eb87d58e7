"""
The administration's socket: the module's functions as HTTP and JSON, for root alone.

``POST /v1/call`` with ``{"function": "create", "args": ["db"], "kwargs": {"size": 8}}`` answers
``{"return": ...}``, or with status 409 ``{"error": {"type": "VolumeExists", "text": ...}}``.
"""

import json
import logging
import pwd
import socket
import struct
from functools import partial
from typing import Any

from aiohttp import web

from .lanes import Lanes, TooSlow
from .module import Module, Refused

log = logging.getLogger(__name__)

JSON = dict[str, Any]
SECONDS = 600.0
READS = frozenset(
    ("events", "info", "ls", "nodes", "operations", "qos_info", "qos_ls", "snapshot_info")
) | frozenset(("snapshot_ls", "trash_ls", "usage", "version"))
"""Functions that only look: they wait for no change."""
CREDENTIALS = struct.Struct("3i")
"""``struct ucred``: pid, uid, gid (man 7 unix)."""


class Admin:
    """The handlers of the administration's calls."""

    def __init__(self, module: Module, lanes: Lanes) -> None:
        self._module = module
        self._lanes = lanes
        self._functions = module.functions()

    def app(self) -> web.Application:
        """What is served on the administration's socket."""
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/v1/call", self._call)
        return app

    async def _call(self, request: web.Request) -> web.Response:
        try:
            return _said(200, {"return": await self._do(await _body(request), _asker(request))})
        except Refused as exc:
            return _said(409, {"error": {"type": exc.kind, "text": str(exc)}})
        except Exception:
            log.exception("A call failed")
            text = "The bridge failed at this call; see its log"
            return _said(500, {"error": {"type": "BridgeError", "text": text}})

    async def _do(self, body: JSON, asker: JSON) -> Any:
        function, args, kwargs = _read(body)
        signature = self._functions.get(function)
        if signature is None:
            raise Refused(f"dsvolume has no function {function}", "InvalidInput")
        try:
            signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise Refused(f"{function}: {exc}", "InvalidInput") from None
        work = partial(self._module.call, function, asker, *args, **kwargs)
        try:
            if function in READS:
                return await self._lanes.read(work, SECONDS)
            lane = str(args[0]) if args else str(kwargs.get("name", ""))
            return await self._lanes.change(lane.partition("@")[0], work, SECONDS)
        except TooSlow as exc:
            text = f"{function} takes longer than {SECONDS:.0f} s and goes on; see operations"
            raise Refused(text, "OperationInProgress") from exc


async def _body(request: web.Request) -> JSON:
    try:
        body = json.loads(await request.text())
    except web.HTTPRequestEntityTooLarge:
        raise Refused("The request is too large", "InvalidInput") from None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refused("The request has no JSON object as its body", "InvalidInput")
    return body


def _read(body: JSON) -> tuple[str, list[Any], JSON]:
    function, args, kwargs = body.get("function"), body.get("args", []), body.get("kwargs", {})
    if not (isinstance(function, str) and isinstance(args, list) and isinstance(kwargs, dict)):
        raise Refused(
            'A call is {"function": text, "args": [...], "kwargs": {...}}', "InvalidInput"
        )
    return function, args, kwargs


def _asker(request: web.Request) -> JSON:
    """Whom the kernel tells to be at the other end."""
    peer = request.get_extra_info("socket")
    told = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    uid = CREDENTIALS.unpack(told)[1]
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return {"door": "cli", "user": user}


def _said(status: int, answer: JSON) -> web.Response:
    return web.Response(status=status, text=json.dumps(answer), content_type="application/json")
