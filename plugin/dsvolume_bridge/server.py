"""The two sockets, from the first request to the last."""

import asyncio
import logging
import os
import signal
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path

from aiohttp import web

from libstorage import __version__

from .admin import Admin
from .agent import HostedAgent
from .cache import Cache
from .driver import Driver
from .engine import Engine
from .lanes import Lanes, TooSlow
from .metrics import Metrics
from .module import Module, Refused
from .reconcile import Reconciler
from .references import ASKER, References

log = logging.getLogger(__name__)

GRACE = 90.0
"""Seconds that requests have to end after SIGTERM."""
BACKLOG = 1024
"""
Connections that may wait to be accepted: who meets a full queue of a local socket is refused at
once (EAGAIN, man 2 connect), and Docker starts its containers all at the same time.
"""
SAVE_SECONDS = 1.0
REFRESH_SECONDS = 10.0
AWAY_SECONDS = 1.0
"""Between looks whether a store that was away is back."""
FIRST_FD = 3
"""SD_LISTEN_FDS_START (man 3 sd_listen_fds)."""


class Sockets:
    """
    The listening sockets: those that systemd holds for us, else our own.

    A socket that systemd holds outlives a restart of the bridge, and with it the requests that
    wait there.
    """

    def __init__(self, driver: Path, admin: Path) -> None:
        self._paths = {"driver": driver, "admin": admin}
        self._held = _held()

    def open(self, name: str) -> socket.socket:
        """A listening socket; ``admin`` and ``driver`` are root's alone."""
        path = self._paths[name]
        if str(path) in self._held:
            return self._held[str(path)]
        path.parent.mkdir(parents=True, exist_ok=True)
        # Bound beside and moved into place: who connects meets the old one or this one.
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listening.bind(str(beside))
        finally:
            os.umask(mask)
        listening.listen(BACKLOG)
        beside.rename(path)
        return listening


def _held() -> dict[str, socket.socket]:
    """The sockets that systemd has passed to this process, by path."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(os.environ.get("LISTEN_FDS", "0"))
    passed = [socket.socket(fileno=fd) for fd in range(FIRST_FD, FIRST_FD + count)]
    return {one.getsockname(): one for one in passed}


async def serve(module: Module, sockets: Sockets, engine: Engine) -> None:
    """Answer until SIGTERM or SIGINT; what was begun is then finished."""
    lanes, cache = Lanes(), Cache(module.settings().run_dir / "volumes.json")
    metrics = Metrics(module.node, __version__)
    references = References(module, lanes, engine)
    reconciler = Reconciler(module, lanes, engine, references)
    agent = HostedAgent(module.settings)
    metrics.show(
        {
            "store": lambda: module.store_answers,
            "engine": lambda: engine.answers,
            "agent": lambda: agent.runs,
        },
        cache.all,
        module.remembered,
    )
    runners = []
    for name, app in (
        ("driver", Driver(module, lanes, cache, metrics, references, reconciler.activated).app()),
        ("admin", Admin(module, lanes, metrics, references).app()),
    ):
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE)
        await runner.setup()
        await web.SockSite(runner, sockets.open(name), backlog=BACKLOG).start()
        runners.append(runner)
    log.info("Serving the volumes of %s", module.node)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    agent.start()
    beside = [
        asyncio.create_task(work)
        for work in (_save(cache), _refresh(cache, module, lanes), reconciler.run())
    ]
    await stopped.wait()
    for task in beside:
        task.cancel()
    log.info("Stopping: what was begun is finished first")
    await asyncio.gather(*(runner.cleanup() for runner in runners))
    await asyncio.wait_for(lanes.idle(), GRACE)
    await asyncio.to_thread(agent.stop, GRACE)
    lanes.close()
    cache.save()


async def _save(cache: Cache) -> None:
    while True:
        await asyncio.sleep(SAVE_SECONDS)
        await asyncio.to_thread(cache.save)


async def _refresh(cache: Cache, module: Module, lanes: Lanes) -> None:
    """Volumes that were made and removed elsewhere."""
    while True:
        with suppress(Refused, TooSlow):
            read = partial(cache.follow, partial(module.call, "index", ASKER))
            await lanes.read(read, REFRESH_SECONDS)
        await asyncio.sleep(REFRESH_SECONDS if module.store_answers else AWAY_SECONDS)
