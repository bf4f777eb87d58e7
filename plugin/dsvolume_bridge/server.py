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

from . import systemd
from .admin import Admin
from .agent import HostedAgent
from .begun import Begun
from .cache import Cache
from .driver import Driver
from .engine import Engine
from .lanes import Lanes, TooSlow
from .metrics import Metrics
from .module import ASKER, Module, Refused
from .places import Places
from .reconcile import Reconciler
from .references import References

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
SILENCE = 1.0
"""Seconds that a connection may take to its request while the bridge is being stopped."""


class Sockets:
    """
    The listening sockets: those that systemd holds for us, else our own.

    A socket that systemd holds outlives a restart of the bridge, and with it the requests that
    wait there.
    """

    def __init__(self, driver: Path, podman: Path, admin: Path) -> None:
        self._paths = {"driver": driver, "podman": podman, "admin": admin}
        self._held = systemd.held()

    def open(self, name: str) -> socket.socket:
        """A listening socket, which is root's alone."""
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


async def serve(module: Module, sockets: Sockets, engine: Engine) -> None:
    """Answer until SIGTERM or SIGINT; what was begun is then finished."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    run_dir = module.settings().run_dir
    lanes, cache, begun = Lanes(), Cache(run_dir / "volumes.json"), Begun(run_dir / "begun")
    metrics = Metrics(module.node, __version__)
    places, references = Places(module, lanes, engine), References(module, lanes, engine)
    reconciler = Reconciler(module, lanes, engine, begun, references, places.wake)
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
    runners, listening = [], []
    docker, podman = (
        Driver(engine, module, lanes, cache, metrics, begun, references, activated)
        for engine, activated in (("docker", reconciler.activated), ("podman", _nothing))
    )
    admin = Admin(module, lanes, metrics, references)
    for name, app in (("driver", docker.app()), ("podman", podman.app()), ("admin", admin.app())):
        app.on_response_prepare.append(_one_call_each)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE)
        await runner.setup()
        listening.append(sockets.open(name))
        await web.SockSite(runner, listening[-1], backlog=BACKLOG).start()
        runners.append(runner)
    log.info("Serving the volumes of %s", module.node)
    agent.start()
    beside = [
        asyncio.create_task(work)
        for work in (_save(cache), _refresh(cache, module, lanes), reconciler.run(), places.run())
    ]
    systemd.tell("READY=1")
    await stopped.wait()
    systemd.tell("STOPPING=1")
    for task in beside:
        task.cancel()
    log.info("Stopping: what was begun is finished first")
    for one in listening:
        loop.remove_reader(one)
    await asyncio.gather(*(_end(runner) for runner in runners))
    await asyncio.wait_for(lanes.idle(), GRACE)
    await asyncio.to_thread(agent.stop, GRACE)
    lanes.close()
    cache.save()
    begun.close()


def _nothing() -> None:
    """Podman activates its driver with every command."""


async def _one_call_each(_: web.Request, response: web.StreamResponse) -> None:
    """
    A connection ends with its answer.

    On one that were kept, a request could be on its way while a bridge that is being stopped closes
    it; one that is still to be connected waits in the socket for the next bridge.
    """
    response.headers["Connection"] = "close"  # aiohttp has made the headers already
    response.force_close()


async def _end(runner: web.AppRunner) -> None:
    """
    Answer whoever has been let in; nobody is any more.

    The listening socket is closed afterwards: asyncio drops those whom it has accepted, and not yet
    given a transport, when it closes a server.
    """
    await runner.shutdown()  # whoever listens to events would be waited for
    loop = asyncio.get_running_loop()
    until = loop.time() + SILENCE
    # The first look comes when those who have just been let in are known.
    await asyncio.sleep(0.05)
    while runner.server and runner.server.connections and loop.time() < until:
        await asyncio.sleep(0.01)
    await runner.cleanup()


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
