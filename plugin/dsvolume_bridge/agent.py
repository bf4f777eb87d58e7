"""The node's agent, in a thread of the bridge."""

import logging
import threading
from collections.abc import Callable

from libstorage.config import Config
from libstorage.errors import LibstorageError
from libstorage.manager.agent import Agent
from libstorage.managers import open_manager

log = logging.getLogger(__name__)

PAUSE = 5.0
"""Seconds until an agent that could not start, or has another one before it, tries again."""


class HostedAgent:
    """
    Runs until it is stopped; what fails is tried again.

    settings
        The node's configuration, read anew for each try.
    """

    def __init__(self, settings: Callable[[], Config]) -> None:
        self._settings = settings
        self._stopped = threading.Event()
        self._agent: Agent | None = None
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)

    @property
    def runs(self) -> bool:
        """Is it at work now?"""
        return self._agent is not None

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Let it finish what it has begun, for so long."""
        self._stopped.set()
        if self._agent is not None:
            self._agent.stop()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._once()
            except LibstorageError as exc:
                log.warning("%s; trying again in %.0f s", exc, PAUSE)
            except Exception:
                log.exception("The agent failed; it is started again in %.0f s", PAUSE)
            self._stopped.wait(PAUSE)

    def _once(self) -> None:
        manager = open_manager(self._settings())
        try:
            self._agent = agent = manager.agent()
            if not self._stopped.is_set():
                agent.run(lambda says: log.info("%s", says))
        finally:
            self._agent = None
            manager.close()
