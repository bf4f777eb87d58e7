"""The stories of a store that holds 10,000 records."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from benchmarks.floors import BareFile
from benchmarks.measure import Step, Story
from benchmarks.place import Place
from libstorage.records import Volume, now
from libstorage.store.contract import MAX_WRITES, Put

RECORDS = 10_000
POLICIES = ("local", "ram", "secure")
NODES = 40
LAST = "volume-04711"  # the one among them that is asked for


def stories(place: Place) -> list[Story]:
    """
    ``ls`` of records as a create leaves them, and of such as were all mounted once, which leaves
    a second key for each; ``info`` among the latter.
    """
    return [
        Story(("store.ls_10000",), lambda: _begin(place, "store.ls_10000", used=False)),
        Story(("store.ls_10000_used",), lambda: _begin(place, "store.ls_10000_used", used=True)),
        Story(("store.info_10000",), lambda: _begin(place, "store.info_10000", used=True)),
    ]


def _begin(place: Place, step: str, *, used: bool) -> Callable[[int], Iterator[Step]]:
    _fill(place, used=used)
    file = BareFile(place.root / "store" / "libstorage.db")
    manager = place.manager
    found = manager.ls()
    assert len(found) == RECORDS and file.value(f"volumes/{LAST}")["Name"] == LAST
    if "info" in step:
        ours, floor = partial(manager.info, LAST), partial(file.value, f"volumes/{LAST}")
    else:
        ours, floor = manager.ls, partial(file.values, "volumes/")
    return lambda number: iter([Step(step, ours, floor)])


def _fill(place: Place, *, used: bool) -> None:
    """Write the records as a create does, but many in each transaction."""
    store = place.site.store
    template = Volume.from_json(place.record)
    store.delete_range("access/", "access0")
    puts = []
    for number in range(RECORDS):
        name = f"volume-{number:05}"
        record = replace(
            template,
            name=name,
            id=str(uuid.uuid4()),
            policy=POLICIES[number % 3],
            created_by=f"node{number % NODES}",
            labels={"team": f"team{number % 7}"},
        )
        puts.append(Put(f"volumes/{name}", record.to_json()))
        if used:
            puts.append(Put(f"access/{name}", {"volume": name, "at": now()}))
    for start in range(0, len(puts), MAX_WRITES):
        store.transact([], puts[start : start + MAX_WRITES])
