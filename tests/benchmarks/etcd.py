"""
The stories of a store in etcd: the record part of verbs, and a store with many records.

The record part is a verb's time without what it does on the host: calls of the controller are left
out. Its floor sends as many requests of the same kinds, with values of the same size, over one bare
HTTP connection; that they are as many is checked.
"""

import http.client
import json
import threading
import time
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.measure import Step, Story
from benchmarks.place import EtcdPlace, Place
from libstorage.manager import Given, VolumeManager
from libstorage.records import Volume, in_days, now
from libstorage.store.contract import MAX_WRITES, Put, Store

RECORDS = 20_000
EVENTS = 100_000
RECENT = 60.0
"""Seconds back to which the events are asked for; a tenth of all is younger."""
DAY = 86400
JSON = dict[str, Any]


def stories(place: Place) -> list[Story]:
    """All of them."""
    life = ("etcd.create", "etcd.info", "etcd.ls", "etcd.snapshot")
    many = ("etcd.ls_20000", "etcd.ls_20000_used", "etcd.events_since", "etcd.events_100000")
    return [
        Story(life, lambda: _life(place.on_etcd())),
        *(Story((name,), partial(_many, place, name)) for name in many),
    ]


class Bare:
    """One HTTP connection to one member of etcd, without anything around it."""

    def __init__(self, port: int, prefix: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._prefix = f"{prefix}/v1/"

    def get(self, *keys: str) -> None:
        """One request for each key, present or absent."""
        for key in keys:
            for found in self._ask("range", {"key": self._encode(key)}).get("kvs", ()):
                json.loads(b64decode(found["value"]).partition(b"\n")[0])

    def together(self, *keys: str) -> None:
        """One transaction that reads keys, or what is below those that end in ``/``."""
        asked: list[JSON] = []
        for key in keys:
            below = {"range_end": self._encode(f"{key[:-1]}0")} if key.endswith("/") else {}
            asked.append({"request_range": {"key": self._encode(key), **below}})
        for answer in self._ask("txn", {"success": asked}).get("responses", ()):
            for kv in answer.get("response_range", {}).get("kvs", ()):
                json.loads(b64decode(kv["value"]).partition(b"\n")[0])

    def list(self, *prefixes: str, start: str = "") -> None:
        """All values below each prefix; as many pages as it takes."""
        for prefix in prefixes:
            last = prefix[:-1] + chr(ord(prefix[-1]) + 1)
            body = {"key": self._encode(start or prefix), "range_end": self._encode(last)}
            more = True
            while more:
                answer = self._ask("range", {**body, "limit": "2000"})
                found = answer.get("kvs", [])
                for kv in found:
                    json.loads(b64decode(kv["value"]).partition(b"\n")[0])
                more = answer.get("more", False)
                if more:
                    body["key"] = b64encode(b64decode(found[-1]["key"]) + b"\0").decode()

    def transact(self, absent: Sequence[str], puts: JSON, deletes: Sequence[str] = ()) -> None:
        """A transaction that compares keys as absent, puts values and deletes keys."""
        compares = [
            {"key": self._encode(key), "target": "CREATE", "create_revision": "0"} for key in absent
        ]
        writes: list[JSON] = [
            {"request_put": {"key": self._encode(key), "value": self._text(value)}}
            for key, value in puts.items()
        ]
        writes += [{"request_delete_range": {"key": self._encode(key)}} for key in deletes]
        assert self._ask("txn", {"compare": compares, "success": writes}).get("succeeded")

    def _ask(self, path: str, body: JSON) -> JSON:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", f"/v3/kv/{path}", json.dumps(body).encode(), headers)
        answer: JSON = json.loads(self._connection.getresponse().read())
        return answer

    def _encode(self, key: str) -> str:
        return b64encode((self._prefix + key).encode()).decode()

    def _text(self, value: JSON) -> str:
        return b64encode(f"{json.dumps(value)}\n{'0' * 32}".encode()).decode()


class Meter:
    """
    Counts a manager's requests to etcd, and the seconds that its controllers take.

    Only this manager's, and only in this thread: another keeps the lease.
    """

    def __init__(self, manager: VolumeManager) -> None:
        self._thread = threading.current_thread()
        self._requests = 0
        self._host = 0.0
        self._within = False
        client: Any = manager._store._client  # type: ignore[attr-defined]
        client.ask = self._counted(client.ask)
        for controller in manager._context.controllers.all():
            for name in dir(controller):
                if not name.startswith("_") and callable(getattr(controller, name)):
                    setattr(controller, name, self._timed(getattr(controller, name)))

    def aside(self) -> float:
        """The seconds since the last look that are not the record's."""
        host, self._host = self._host, 0.0
        return host

    def forget(self) -> None:
        """What was measured so far is of no interest."""
        self._requests, self._host = 0, 0.0

    def check(self, name: str, requests: int) -> None:
        """A floor is fair only if it sends as many requests as ours has sent."""
        made, self._requests = self._requests, 0
        assert made == requests, f"{name}: {made} requests, and {requests} of its floor"

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._requests += threading.current_thread() is self._thread
            return real(*arguments)

        return call

    def _timed(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if self._within:
                return real(*arguments, **named)
            self._within, start = True, time.perf_counter()
            try:
                return real(*arguments, **named)
            finally:
                self._within = False
                self._host += time.perf_counter() - start

        return call


def _life(place: EtcdPlace) -> Callable[[int], Iterator[Step]]:
    """A volume in an image is created, looked at, and kept as a snapshot."""
    manager, meter = place.manager, Meter(place.manager)
    reads, writes = Bare(place.port, place.prefix), Bare(place.port, "/floor")
    operation, record, event, snapshot = _samples(place)

    def create(name: str) -> None:
        key, about = f"operations/{name}", f"volumes/{name}"
        writes.get("schema", key, about, "owners/x")
        writes.transact([key, about], {key: operation})
        writes.transact([about], {about: record, f"events/{name}": event}, [key])

    def keep(name: str) -> None:
        key, kept, attached = f"operations/{name}", f"snapshots/{name}/s", f"attachments/{name}/n"
        writes.get("schema", key, f"volumes/{name}", kept, attached, "owners/x")
        writes.transact([key, kept, attached], {key: operation})
        writes.get(attached)
        writes.transact([kept], {kept: snapshot, f"events/{name}/s": event}, [key])

    def info(name: str) -> None:
        reads.get("schema")
        volume = (f"volumes/{name}", f"access/{name}", f"operations/{name}")
        reads.together(*volume, f"attachments/{name}/")

    def ls() -> None:
        reads.get("schema")
        reads.list("attachments/", "access/", "operations/", "volumes/")

    given = Given(policy="local", fstype="ext4", mb_size=8)

    def life(number: int) -> Iterator[Step]:
        name = f"db-{number}"
        for step, requests, ours, floor in (
            ("etcd.create", 6, partial(manager.create, name, given), create),
            ("etcd.info", 2, partial(manager.info, name), info),
            ("etcd.ls", 5, manager.ls, lambda _: ls()),
            ("etcd.snapshot", 9, partial(manager.snapshot_create, f"{name}@s"), keep),
        ):
            yield Step(step, ours, partial(floor, name), meter.aside)
            meter.check(step, requests)
        manager.snapshot_rm(f"{name}@s")
        manager.rm(name)
        meter.forget()

    meter.forget()
    return life


def _samples(place: EtcdPlace) -> tuple[JSON, JSON, JSON, JSON]:
    """An operation, a record, an event and a snapshot, as they really are."""
    store, manager = place.site.store, place.manager
    revision = store.revision()
    manager.create("sample", Given(policy="local", fstype="ext4", mb_size=8))
    manager.snapshot_create("sample@s")
    found: dict[str, JSON] = {}
    for change in store.watch("", revision + 1, timeout=1):
        if change.value is not None:
            found[change.key.split("/")[0]] = change.value
    manager.snapshot_rm("sample@s")
    manager.rm("sample")
    return found["operations"], found["volumes"], found["events"], found["snapshots"]


# -- many records -----------------------------------------------------------------------------


def _many(place: Place, step: str) -> Callable[[int], Iterator[Step]]:
    """``ls`` of records as a create leaves them, or all mounted once; events, some or all."""
    etcd = place.on_etcd()
    _fill(etcd, used=step.endswith("used"))
    reads, manager = Bare(etcd.port, etcd.prefix), etcd.manager
    assert len(manager.ls()) == RECORDS and len(manager.events()) >= EVENTS
    if "ls" in step:
        return lambda _: iter([Step(step, manager.ls, partial(reads.list, "volumes/"))])
    if step == "etcd.events_100000":
        return lambda _: iter([Step(step, manager.events, partial(reads.list, "events/"))])

    def since(number: int) -> Iterator[Step]:
        start = in_days(-RECENT / DAY)
        floor = partial(reads.list, "events/", start=f"events/{start}")
        yield Step(step, partial(manager.events, since=start), floor)

    return since


def _fill(place: EtcdPlace, *, used: bool) -> None:
    """Write the records as a create does, but many in each transaction."""
    store = place.site.store
    if not place.filled:
        place.filled = True
        _, sample, event, _ = _samples(place)
        template = Volume.from_json(sample)
        _put_all(
            store,
            {
                f"volumes/{name}": replace(template, name=name, id=str(uuid.uuid4())).to_json()
                for name in (f"volume-{number:05}" for number in range(RECORDS))
            },
        )
        # A tenth of them is younger than RECENT.
        times = (in_days(-10 * RECENT * n / EVENTS / DAY) for n in range(EVENTS))
        _put_all(store, {f"events/{at}-{uuid.uuid4().hex}": {**event, "Time": at} for at in times})
    if used:
        names = (value["Name"] for value in store.values("volumes/"))
        _put_all(store, {f"access/{name}": {"volume": name, "at": now()} for name in names})


def _put_all(store: Store, values: dict[str, JSON]) -> None:
    puts = [Put(key, value) for key, value in values.items()]
    for start in range(0, len(puts), MAX_WRITES):
        store.transact([], puts[start : start + MAX_WRITES])
