"""
The store's events on Salt's event bus: the tag is
``libstorage/<node>/<volume>/<subject>/<verb>/<success|failed>``, the data are the event's record.
``docs/events.md`` says what reactors may rely on.

:depends: the package ``libstorage`` (``saltutil.sync_all``, on a master by ``salt-run``)
:configuration: the settings of ``dsvolume`` (a master's own have them too), and these:

.. code-block:: yaml

    # /etc/salt/master.d/dsvolume.conf or /etc/salt/minion.d/dsvolume.conf
    engines:
      - libstorage_events:
          cursor: /var/lib/dsvolume/published/host1.json   # how far it has got; the default
          rate: 200         # messages a second, at most
          coalesce: True    # successes that wait share a message

A bus needs one: on the master, or on a minion of it; with the embedded store on the minion of the
store's host.

What counts as sent
    On a master: what its bus has taken. On a minion: what the master has confirmed. These are
    requests, not the minion's own events, which nobody confirms and which are lost while the
    master is away. A master that was started again gets once more what its former life had
    confirmed in the last seconds, since perhaps nobody heard it; it is known by its AES key. Before
    that, and when the engine starts, there is a pause in which the reactor may begin to listen.
"""

import logging
import os
import pathlib
import sys
import time
from collections import deque

import salt.channel.client
import salt.minion
import salt.utils.event
import salt.utils.master
import salt.utils.sdb
from salt.exceptions import SaltException

try:
    import dsvolume_pillar
    import libstorage
    from libstorage import bus, config
    from libstorage.errors import ConfigInvalid, LibstorageError
    from libstorage.managers import open_manager

    MISSING = ""
except ImportError as exc:
    MISSING = str(exc)

VERSION = "0.1.0"

log = logging.getLogger(__name__)

PAUSE = 15.0
"""Seconds until an engine that could not start tries again."""
SETTLE = 10.0
"""Seconds until those who listen on a master that has just started do so."""
PATIENCE = 60.0
"""Seconds to wait for a reactor that does not answer."""
RETRY = 1.0
REQUEST = 10.0
"""Seconds that a request to the master may take."""
SLOW = 1.0
"""A request that takes longer may have waited for a master that starts; a start takes more."""
ALIVE = 2.0
"""Seconds between requests, at most, so that a master that is started again is noticed."""
KEEP, LAST = 5.0, 50
"""For so many seconds confirmed batches, the last ones, are kept for a master that starts again."""


def __virtual__():
    if MISSING:
        return False, f"libstorage_events needs libstorage ({MISSING}); run saltutil.sync_all"
    if unfit := libstorage.unfit(VERSION):
        return False, f"libstorage_events {unfit}"
    if __opts__.get("__role") != "master" and _masterless():
        return False, "libstorage_events needs a master, and this minion has none"
    return "libstorage_events"


def _masterless():
    local = __opts__.get("file_client") == "local" and not __opts__.get("use_master_when_local")
    return local or __opts__.get("master_type") == "disable"


def start(cursor=None, rate=200, coalesce=True):
    """
    Send events until the daemon ends that this engine belongs to.

    cursor
        The file that keeps how far they were sent; default: one below the setting ``root``.
    rate
        Messages a second, at most.
    coalesce
        False: every event has a message of its own, whatever waits.
    """
    daemon = os.getppid()
    while os.getppid() == daemon:
        try:
            _run(daemon, cursor, rate, coalesce)
        except LibstorageError as exc:
            log.warning("%s; trying again in %.0f s", exc, PAUSE)
            time.sleep(PAUSE)


def _run(daemon, cursor, rate, coalesce):
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 1 <= rate <= 10000:
        raise ConfigInvalid(
            f"libstorage_events:rate must be a number from 1 to 10000, not {rate!r}"
        )
    # What has been imported goes on together; no more may be imported beside it.
    if unfit := libstorage.unfit(VERSION):
        raise LibstorageError(f"The engine {unfit}")
    master = __opts__["__role"] == "master"
    pillar = None if master else dsvolume_pillar.fetch(__opts__, "the engine libstorage_events")
    settings = config.of_salt(__opts__, pillar, salt.utils.sdb.sdb_get)
    manager = open_manager(settings)
    publisher = manager.publisher(_cursor(settings, cursor))
    to = (_MasterBus if master else _MinionBus)(daemon)
    free = 0.0  # when the rate allows for more
    try:
        for batch in publisher.batches(lambda says: log.warning("%s", says)):
            to.check()
            messages = bus.messages(batch, __opts__["id"], coalesce=coalesce)
            time.sleep(max(0.0, free - time.monotonic()))
            free = time.monotonic() + len(messages) / rate
            to.send(messages)
    finally:
        to.close()
        manager.close()


def _cursor(settings, given):
    """The cursor's file; a minion of several masters has an engine, hence a cursor, for each."""
    if given:
        return pathlib.Path(given)
    if not __opts__.get("beacons_leader", True):  # not the first one's
        return settings.root / "published" / f"{__opts__['id']}-{__opts__['master']}.json"
    return None


class _Bus:
    """Where messages go; ``daemon`` is the process that this engine belongs to."""

    def __init__(self, daemon):
        self._daemon = daemon

    def check(self):
        """End with the daemon, which may have been killed."""
        if os.getppid() != self._daemon:
            sys.exit()

    def pause(self):
        """Wait a little before trying again."""
        time.sleep(RETRY)
        self.check()


class _MasterBus(_Bus):
    """The bus of the master that this engine belongs to."""

    def __init__(self, daemon):
        super().__init__(daemon)
        self._event = salt.utils.event.get_master_event(
            __opts__, __opts__["sock_dir"], listen=False
        )
        time.sleep(SETTLE)
        if __opts__.get("reactor"):
            self._await_reactor()

    def _await_reactor(self):
        """Wait until the reactor answers: it hears nothing of what is sent before."""
        key = salt.utils.master.get_master_key("root", __opts__)
        end = time.monotonic() + PATIENCE
        with salt.utils.event.get_master_event(__opts__, __opts__["sock_dir"]) as heard:
            while time.monotonic() < end:
                heard.fire_event({"key": key}, "salt/reactors/manage/list")
                if heard.get_event(wait=1, tag="salt/reactors/manage/list-results"):
                    return
                self.check()
        log.warning("The reactor has not answered for %.0f s: it may miss events", PATIENCE)

    def send(self, messages):
        """Return when the bus has taken the messages."""
        for message in messages:
            while not self._fire(message):
                self.pause()

    def _fire(self, message):
        try:
            if self._event.fire_event(dict(message.data), message.tag):
                return True
            raise SaltException("nothing is there")
        except (SaltException, OSError) as exc:
            log.warning("The event bus of the master takes nothing: %s; trying again", exc)
            self._event.close_pull()
            return False

    def close(self):
        self._event.destroy()


class _MinionBus(_Bus):
    """The bus of a minion's master, by requests that the master answers."""

    def __init__(self, daemon):
        super().__init__(daemon)
        self._opts = dict(__opts__)
        master = __opts__["master"]
        self._masters = deque(master if isinstance(master, list) else [master])
        self._channel = None
        self._asked = 0.0
        self._confirmed = deque(maxlen=LAST)
        self._key = self._meet()
        time.sleep(SETTLE)

    def send(self, messages):
        """Return when the master has confirmed the messages; without any, look after it."""
        begun = time.monotonic()
        if not messages and begun - self._asked < ALIVE:
            return
        sent = messages
        while not self._request(sent) and self._is_started_anew():
            lately = [told for at, told in self._confirmed if begun - at < KEEP]
            sent = [message for told in (*lately, messages) for message in told]
            log.warning("The master was started again: it is sent %d messages again", len(sent))
            time.sleep(SETTLE)
        self._asked = time.monotonic()
        if messages:
            self._confirmed.append((self._asked, messages))

    def _request(self, messages):
        """Ask until the master has confirmed; False where that took long."""
        begun = time.monotonic()
        while not self._ask(messages):
            self.pause()
        return time.monotonic() - begun < SLOW

    def _is_started_anew(self):
        before, self._key = self._key, self._meet()
        return self._key != before

    def _meet(self):
        """Authenticate anew; returns the key that the master has made when it started."""
        while not self._ask([], anew=True):
            self.pause()
        return self._channel.auth.creds["aes"]

    def _ask(self, messages, *, anew=False):
        """Has the master confirmed the messages?"""
        events = [{"tag": message.tag, "data": message.data} for message in messages]
        load = {"id": __opts__["id"], "cmd": "_minion_event", "events": events}
        try:
            if self._channel is None:
                self._opts["master"] = self._masters[0]
                self._opts.update(salt.minion.prep_ip_port(self._opts))
                self._opts.update(salt.minion.resolve_dns(self._opts))
                self._channel = salt.channel.client.ReqChannel.factory(self._opts)
            if anew:
                self._channel.auth.invalidate()
            # What the master will not do it answers with an empty mapping, all else with None.
            if self._channel.send(load, tries=1, timeout=REQUEST) == {}:
                raise SaltException("it refuses events of this minion")
            return True
        except (SaltException, OSError) as exc:
            log.warning("The master confirms nothing: %s; trying again", exc or type(exc).__name__)
            self.close()
            self._masters.rotate(-1)
            return False

    def close(self):
        if self._channel is not None:
            self._channel.close()
            self._channel = None
