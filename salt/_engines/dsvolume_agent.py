"""
The agent of this node, in a minion: it does what other nodes ask of this one, finishes or undoes
what dead processes have left, and follows changes of limits.

:depends: the package ``libstorage`` and the module ``dsvolume`` (``saltutil.sync_all``)
:configuration: none of its own; it works with the settings of ``dsvolume``, as they are when it
    starts, and waits for pillar.

.. code-block:: yaml

    # /etc/salt/minion.d/dsvolume.conf
    engines:
      - dsvolume_agent: {}

A node has one agent: where another runs already (the bridge hosts one too), this one waits until it
ends. Code that is synchronised later is used after a restart of the minion.
"""

import logging
import signal
import threading

import salt.utils.sdb

try:
    import dsvolume_pillar
    import libstorage
    from libstorage import config
    from libstorage.errors import LibstorageError
    from libstorage.managers import open_manager

    MISSING = ""
except ImportError as exc:
    MISSING = str(exc)

VERSION = "0.1.0"

log = logging.getLogger(__name__)

PAUSE = 15.0
"""Seconds until an agent that could not start tries again."""


def __virtual__():
    if MISSING:
        return False, f"dsvolume_agent needs libstorage ({MISSING}); run saltutil.sync_all"
    if unfit := libstorage.unfit(VERSION):
        return False, f"dsvolume_agent {unfit}"
    return "dsvolume_agent"


def start():
    """Run the agent until the minion ends."""
    stopped = threading.Event()
    running = []

    def stop(*_):
        stopped.set()
        for agent in running:
            agent.stop()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
    while not stopped.is_set():
        try:
            _run(running)
        except LibstorageError as exc:
            log.warning("%s; trying again in %.0f s", exc, PAUSE)
            stopped.wait(PAUSE)


def _run(running):
    # What has been imported goes on together; no more may be imported beside it.
    if unfit := libstorage.unfit(VERSION):
        raise LibstorageError(f"The agent {unfit}")
    pillar = dsvolume_pillar.fetch(__opts__, "the agent")
    settings = config.of_salt(__opts__, pillar, salt.utils.sdb.sdb_get)
    manager = open_manager(settings)
    try:
        agent = manager.agent()
        running[:] = [agent]
        agent.run(lambda says: log.info("%s", says))
    finally:
        running.clear()
        manager.close()
