"""
The administration's socket: the module's functions as HTTP and JSON, for root alone.

``POST /v1/call`` with ``{"function": "create", "args": ["db"], "kwargs": {"size": 8}}`` answers
``{"return": ...}``, or with status 409 ``{"error": {"type": "VolumeExists", "text": ...}}``.
``GET /metrics`` answers in Prometheus' text format.

``GET /v1/events?since=PLACE`` answers with a line ``{"Place": ..., "Event": {...}}`` for each event
as it is committed, and every few seconds with ``{"Place": ...}``, for as long as somebody listens.
"""

import asyncio
import json
import logging
import pwd
import socket
import struct
from functools import partial
from typing import Any

from aiohttp import web

from .feed import Feed
from .lanes import Lanes, TooSlow
from .metrics import CONTENT_TYPE, Metrics
from .module import Module, Refused
from .references import References

log = logging.getLogger(__name__)

JSON = dict[str, Any]
SECONDS = 600.0
READS = frozenset(
    ("capacity", "events", "info", "ls", "nodes", "operations", "qos_info", "qos_ls")
) | frozenset(("snapshot_info", "snapshot_ls", "trash_ls", "usage", "version"))
"""Functions that only look: they wait for no change."""
CREDENTIALS = struct.Struct("3i")
"""``struct ucred``: pid, uid, gid (man 7 unix)."""


class Admin:
    """The handlers of the administration's calls."""

    def __init__(
        self, module: Module, lanes: Lanes, metrics: Metrics, references: References
    ) -> None:
        self._references = references
        self._feed = Feed(module.settings)
        self._module = module
        self._metrics = metrics
        self._lanes = lanes
        self._functions = module.functions()

    def app(self) -> web.Application:
        """What is served on the administration's socket."""
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/v1/call", self._call)
        app.router.add_get("/metrics", self._tell)
        app.router.add_get("/v1/events", self._feed.serve)
        app.on_shutdown.append(self._feed.close)
        return app

    async def _tell(self, _: web.Request) -> web.Response:
        text = await asyncio.to_thread(self._metrics.text)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    async def _call(self, request: web.Request) -> web.Response:
        try:
            function, args, kwargs = self._understood(await _body(request))
        except Refused as exc:
            return _refused(exc)
        with self._metrics.call("cli", function) as call:
            call.about(args[0] if args else kwargs.get("name"))
            try:
                answer = await self._do(function, args, kwargs, _asker(request))
                return _said(200, {"return": answer})
            except Refused as exc:
                call.refused = str(exc)
                return _refused(exc)
            except Exception:
                log.exception("%s failed", function)
                call.failed = True
                text = "The bridge failed at this call; see its log"
                return _said(500, {"error": {"type": "BridgeError", "text": text}})

    def _understood(self, body: JSON) -> tuple[str, list[Any], JSON]:
        """A function that there is, with arguments that it takes. Raises Refused."""
        function, args, kwargs = _read(body)
        signature = self._functions.get(function)
        if signature is None:
            raise Refused(f"dsvolume has no function {function}", "InvalidInput")
        try:
            signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise Refused(f"{function}: {exc}", "InvalidInput") from None
        return function, args, kwargs

    async def _do(self, function: str, args: list[Any], kwargs: JSON, asker: JSON) -> Any:
        work = partial(self._module.call, function, asker, *args, **kwargs)
        try:
            if function in READS:
                return await self._lanes.read(work, SECONDS)
            lane = str(args[0]) if args else str(kwargs.get("name", ""))
            if function == "rm":
                await self._references.look_at(lane, by_engine=False)
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


def _refused(exc: Refused) -> web.Response:
    return _said(409, {"error": {"type": exc.kind, "text": str(exc)}})


def _said(status: int, answer: JSON) -> web.Response:
    return web.Response(status=status, text=json.dumps(answer), content_type="application/json")
