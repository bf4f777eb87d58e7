"""Events as they are committed: a listener that keeps its place loses none, and is told of gaps."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.etcd import Cluster
from lab.site import Site
from libstorage.errors import InvalidInput
from libstorage.manager import VolumeManager, following
from libstorage.manager.context import Context
from libstorage.manager.events import Events
from libstorage.manager.following import News
from libstorage.store import tables
from libstorage.store.contract import Put


class Place:
    """A site, and what is written to its store."""

    def __init__(self, site: Site, cluster: Cluster | None) -> None:
        self.site = site
        self.cluster = cluster
        self.manager: VolumeManager = site.manager()
        self.events = Events(Context(site.config, site.store))
        assert self.manager._context.cluster

    def write(self, *sizes: int) -> list[str]:
        """One transaction of so many events for each size; their Ids, in order."""
        written = []
        for size in sizes:
            puts = [self.events.success(f"v{n}", "mount", {}) for n in range(size)]
            puts.sort(key=lambda put: put.key)
            self.site.store.transact([], puts)
            written += [put.value["Id"] for put in puts]
        return written

    def here(self) -> str:
        return next(self.manager.follow()).place

    def read(self, place: str, count: int) -> list[News]:
        """So many events from a place on; none follows at once."""
        found = []
        for news in self.manager.follow(place):
            if news.event is not None:
                found.append(news)
            elif len(found) >= count:
                break
        return found

    def compact(self) -> None:
        """Forget all changes but the last, which is none of an event."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tables, "TRIM_EVERY", 1)
            patch.setattr(tables, "KEEP_CHANGES", 1)
            self.site.store.transact([], [Put("other", {})])
        if self.cluster is not None:
            self.cluster.compact(self.site.store.revision())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An etcd of this module's own: it is compacted."""
    with Cluster(tmp_path_factory.mktemp("following") / "etcd") as made:
        yield made


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "IDLE", 0.1)


@pytest.fixture(params=["embedded", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    cluster = request.getfixturevalue("cluster") if request.param == "etcd" else None
    settings = {"store": cluster.store(f"/{tmp_path.name}")} if cluster else {}
    with Site(tmp_path / "site", **settings) as site:
        yield Place(site, cluster)


def ids(found: list[News]) -> list[str]:
    return [news.event["Id"] for news in found if news.event]


def test_events_come_in_the_order_of_their_commits(place: Place) -> None:
    place.write(2)
    here = place.here()
    written = place.write(1, 3, 1)
    assert ids(place.read(here, 5)) == written


def test_from_any_events_place_on_none_is_lost(place: Place) -> None:
    here = place.here()
    written = place.write(1, 3, 1)
    found = place.read(here, 5)
    for number, news in enumerate(found):
        again = ids(place.read(news.place, 5 - number))
        assert written[number:] == again[-(5 - number) :]
        assert set(again) <= set(written)


def test_what_no_watch_tells_any_more_is_listed(place: Place) -> None:
    here = place.here()
    written = place.write(1, 3, 1)
    place.compact()
    assert ids(place.read(here, 5)) == written
    following_it = place.manager.follow(here)
    assert [next(following_it).event for _ in range(1)] == [None]
    assert [next(following_it).event["Id"] for _ in range(5)] == written  # type: ignore[index]
    place.compact()
    more = place.write(1)
    found = [news for news in (next(following_it) for _ in range(3)) if news.event]
    assert ids(found) == more


def test_what_was_deleted_unread_is_a_gap(place: Place) -> None:
    here = place.here()
    place.write(1, 1)
    place.site.store.transact([], [Put("forgotten", {"Revision": place.site.store.revision()})])
    place.site.store.delete_range("events/", "events0")
    place.compact()
    written = place.write(1)
    place.compact()
    gap, event = place.read(here, 2)
    assert gap.event and gap.event["Text"].startswith("Events may be missing: some were deleted")
    assert ids([event]) == written
    # It is told, and kept nowhere.
    assert [e["Id"] for e in place.manager.events()] == written


@pytest.mark.parametrize("which", ["cluster", "future"])
def test_a_place_in_another_store_is_a_gap(place: Place, which: str) -> None:
    revision, _, cluster = place.here().partition("@")
    other = f"{revision}@{'0' * 36}" if which == "cluster" else f"{10**9}@{cluster}"
    reading = place.manager.follow(other)
    first = next(reading)
    assert first.event and first.event["Verb"] == "gap"
    written = place.write(1)
    assert ids([next(n for n in reading if n.event)]) == written


def test_a_store_that_is_made_anew_is_noticed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "CHECK", 0.0)
    reading = place.manager.follow(place.here())
    next(reading)
    place.site.store.transact([], [Put("schema", {"version": 1, "cluster": "0" * 36})])
    found = next(news for news in reading if news.event)
    assert found.event and found.event["Verb"] == "gap" and found.cluster == "0" * 36
    written = place.write(1)
    assert ids([next(n for n in reading if n.event)]) == written


@pytest.mark.parametrize("text", ["x", "1", "@", "-1@", "1@x y", f"1@{'a' * 65}"])
def test_what_is_no_place(place: Place, text: str) -> None:
    with pytest.raises(InvalidInput, match="Not a place among the events"):
        next(place.manager.follow(text))
