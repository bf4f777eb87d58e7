"""The publisher: every event is handed out, in order, whatever dies, is compacted or restored."""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lab.etcd import Cluster
from lab.site import Site
from libstorage.errors import BackendError, ConfigInvalid
from libstorage.manager import Given, publishing
from libstorage.manager.context import Context
from libstorage.manager.events import Events
from libstorage.manager.publishing import BATCH, Publisher
from libstorage.records import JSON
from libstorage.store import tables
from libstorage.store.contract import Put

TAKER = """
import signal
some, fatal = arguments
count = 0
for batch in manager.publisher().batches(lambda says: print(says, file=sys.stderr)):
    if batch:
        count += 1
        print(json.dumps([event["Id"] for event in batch]), flush=True)
    if count == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    if not batch and count >= some:
        break
"""


class Place:
    """A site, what is written to its store, and what a publisher there hands out."""

    def __init__(self, site: Site, cluster: Cluster | None) -> None:
        self.site = site
        self.cluster = cluster
        self.manager = site.manager()
        self.events = Events(Context(site.config, site.store))
        self.written: list[str] = []
        self.told: list[str] = []

    @property
    def publisher(self) -> Publisher:
        return self.manager.publisher()

    def write(self, *sizes: int, time: str = "") -> list[str]:
        """One transaction of so many events for each size; their ids, in order."""
        ids = []
        for size in sizes:
            puts = [self.events.success(f"v{n}", "mount", {}) for n in range(size)]
            if time:
                puts = [
                    Put(f"events/{time}-{put.value['Id']}", {**put.value, "Time": time})
                    for put in puts
                ]
            # In the order in which both stores tell one transaction.
            puts.sort(key=lambda put: put.key)
            self.site.store.transact([], puts)
            ids += [put.value["Id"] for put in puts]
        self.written += ids
        return ids

    def take(self, count: int, publisher: Publisher | None = None) -> list[JSON]:
        """What is handed out until so many are and nothing follows; all of it counts as sent."""
        taken: list[JSON] = []
        with closing((publisher or self.publisher).batches(self.told.append)) as batches:
            for batch in batches:
                assert len(batch) <= BATCH
                taken += batch
                if not batch and len(taken) >= count:
                    return taken
        raise AssertionError("it ended")

    def compact(self) -> None:
        """Forget all changes but the last, which is none of an event."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tables, "TRIM_EVERY", 1)
            patch.setattr(tables, "KEEP_CHANGES", 1)
            self.site.store.transact([], [Put("other", {})])
        if self.cluster is not None:
            self.cluster.compact(self.site.store.revision())


def ids(events: list[JSON]) -> list[str]:
    return [event["Id"] for event in events]


def gaps(events: list[JSON]) -> list[JSON]:
    return [event for event in events if event["Verb"] == "gap"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An etcd of this module's own: it is compacted."""
    with Cluster(tmp_path_factory.mktemp("publishing") / "etcd") as made:
        yield made


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "POLL", 0.1)
    monkeypatch.setattr(publishing, "RETRY", 0.1)


@pytest.fixture(params=["embedded", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A publisher has begun here and sent an event."""
    cluster = request.getfixturevalue("cluster") if request.param == "etcd" else None
    settings = {"store": cluster.store(f"/{tmp_path.name}")} if cluster else {}
    with Site(tmp_path / "site", **settings) as site:
        yield begun(Place(site, cluster))


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Place]:
    with Site(tmp_path / "site") as site:
        yield begun(Place(site, None))


def begun(place: Place) -> Place:
    assert place.manager._context.cluster
    place.write(1)
    assert place.take(0) == []  # it begins with the present
    first = place.write(1)
    assert ids(place.take(1)) == first
    place.written.clear()
    return place


def test_events_come_in_the_order_of_their_commits(place: Place) -> None:
    publisher = place.publisher
    place.write(1, 1, 70, 1)
    assert ids(place.take(73, publisher)) == place.written
    place.write(100, 3)
    assert ids(place.take(103, publisher)) == place.written[73:]
    assert place.told == []


def test_what_was_sent_is_not_sent_again_and_the_rest_is(place: Place) -> None:
    place.write(30, 100, 1)
    with closing(place.publisher.batches()) as batches:
        first = next(batch for batch in batches if batch)
        second = next(batches)  # the first counts as sent now, the second does not
    assert ids(first) == place.written[: len(first)]
    assert ids(first + place.take(131 - len(first))) == place.written
    assert second


@pytest.mark.parametrize("fatal", [1, 2, 3])
def test_a_killed_one_sends_one_batch_again_and_loses_none(place: Place, fatal: int) -> None:
    place.write(37, 100, 100, 13)
    killed = place.site.python(TAKER, 10**6, fatal)
    out, wrong = killed.communicate(timeout=30)
    assert killed.returncode == -9, wrong
    batches = [json.loads(line) for line in out.splitlines()]
    sent = [id for batch in batches[:-1] for id in batch]
    assert sent == place.written[: len(sent)] and 0 < len(batches[-1]) <= BATCH
    assert ids(place.take(250 - len(sent))) == place.written[len(sent) :]


def test_what_a_watch_no_longer_tells_is_listed(place: Place) -> None:
    place.write(100, 100, 20)
    place.compact()
    assert ids(place.take(220)) == place.written
    place.write(2)
    assert ids(place.take(2)) == place.written[220:]
    assert place.told == []


def test_a_listing_that_was_killed_goes_on_in_the_midst_of_a_transaction(place: Place) -> None:
    place.write(60, 100, 100)
    place.compact()
    with closing(place.publisher.batches()) as batches:
        first = next(batch for batch in batches if batch)
        next(batches)
    assert ids(first + place.take(260 - len(first))) == place.written


def test_a_compaction_under_an_idle_one_repeats_nothing(place: Place) -> None:
    publisher = place.publisher
    with closing(publisher.batches(place.told.append)) as batches:
        place.write(5)
        assert ids(next(batch for batch in batches if batch)) == place.written
        assert next(batches) == []
        for _ in range(3):
            place.compact()
            assert next(batches) == []
        place.write(2)
        assert ids(next(batch for batch in batches if batch)) == place.written[5:]
    assert place.told == []


# -- what retention has deleted


def retain(place: Place) -> None:
    """Delete events as the housekeeping does; those of the present stay."""
    manager = place.site.manager(events={"retention": 1})
    [finding] = [f for f in manager.doctor(fix=True) if f["Kind"] == "events"]
    assert finding["Fixed"] is True


OLD = "2020-01-01T00:00:00.000000Z"


def test_deleted_events_are_told_by_the_watch(place: Place) -> None:
    place.write(3, time=OLD)
    retain(place)
    place.write(1)
    assert ids(place.take(4)) == place.written


def test_what_was_deleted_before_it_was_sent_is_a_gap(place: Place) -> None:
    place.write(3, time=OLD)
    kept = place.write(2)
    retain(place)
    place.compact()
    taken = place.take(3)
    [gap] = gaps(taken)
    assert ids(taken)[:2] == kept
    assert (gap["Success"], gap["Subject"]) == (False, "events")
    assert gap["Volume"] == "libstorage_events"
    assert gap["Data"]["Reason"] == "retention"
    assert gap["Text"].startswith("Events may be missing: some that happened after 20")
    assert gap in place.manager.events(filters=["verb=gap"])
    assert place.take(0) == []


def test_what_was_deleted_after_it_was_sent_is_none(place: Place) -> None:
    place.write(3, time=OLD)
    place.take(3)
    retain(place)
    place.compact()
    kept = place.write(1)
    assert ids(place.take(1)) == kept
    assert place.take(0) == []


# -- the cursor


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"Cluster": "c", "Revision": "1", "Time": "x", "Sent": []}']
)
def test_a_cursor_that_cannot_be_read_is_a_gap_and_the_last_hour_comes_again(
    place: Place, content: str
) -> None:
    before = place.manager.events()
    place.publisher.path.write_text(content)
    place.write(3, time=OLD)
    new = place.write(5)
    taken = place.take(len(before) + 6)
    assert {event["Id"] for event in before} | set(new) <= set(ids(taken))
    assert not set(place.written[:3]) & set(ids(taken))
    [gap] = gaps(taken)
    assert gap["Data"]["Reason"] == "cursor" and str(place.publisher.path) in gap["Text"]
    assert place.take(0) == []


def test_two_publishers_do_not_share_a_cursor(place: Place) -> None:
    with closing(place.publisher.batches()) as first:
        next(first)
        with pytest.raises(ConfigInvalid, match=f"runs already .process {os.getpid()} holds"):
            next(place.publisher.batches())
    assert place.take(0) == []


def test_a_cursor_that_cannot_be_kept_is_refused_before_anything_is_sent(place: Place) -> None:
    (place.site.root / "file").touch()
    with pytest.raises(BackendError, match="cannot be opened: "):
        next(place.manager.publisher(place.site.root / "file" / "cursor.json").batches())


def test_an_event_that_was_written_twice_leaves_the_store_the_same(place: Place) -> None:
    [id] = place.write(1)
    assert ids(place.take(1)) == [id]
    # What a lost answer may do to a write without compares.
    [entry] = [e for e in place.site.store.list("events/") if e.value["Id"] == id]
    place.site.store.transact([], [Put(entry.key, entry.value)])
    assert ids(place.take(1)) == [id]
    place.site.store.transact([], [Put(entry.key, entry.value)])
    place.compact()
    new = place.write(1)
    assert ids(place.take(2)) == [id, *new]
    assert place.told == []


# -- another store


def test_a_store_that_was_restored_is_noticed(embedded: Place, tmp_path: Path) -> None:
    place = embedded
    database, backup = place.site.root / "store" / "libstorage.db", tmp_path / "backup"
    place.write(2)
    with (
        closing(sqlite3.connect(database)) as source,
        closing(sqlite3.connect(backup)) as to,
    ):
        source.backup(to)
    place.write(3)
    assert ids(place.take(5)) == place.written
    place.site.store.close()
    place.manager.close()
    for end in ("", "-wal", "-shm"):
        Path(f"{database}{end}").unlink(missing_ok=True)
    shutil.move(backup, database)
    # Beyond the revision that was reached before: it alone would say nothing.
    new = place.write(*[1] * 8)
    taken = place.take(9)
    assert set(new) <= set(ids(taken))
    [gap] = gaps(taken)
    assert gap["Data"]["Reason"] == "store"
    assert place.take(0) == []


def test_an_etcd_that_is_restored_under_a_living_publisher_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "CHECK", 0.2)
    with (
        Cluster(tmp_path / "etcd") as cluster,
        Site(tmp_path / "site", store=cluster.store("/a")) as site,
    ):
        place = begun(Place(site, cluster))
        member, data = cluster.members[0], tmp_path / "etcd" / "m0"
        member.kill(15)
        shutil.copytree(data, tmp_path / "backup")
        member.start()
        cluster.wait()
        with closing(place.publisher.batches(place.told.append)) as batches:
            place.write(5)
            assert ids(next(batch for batch in batches if batch)) == place.written
            assert next(batches) == []
            member.kill()
            shutil.rmtree(data)
            shutil.move(tmp_path / "backup", data)
            member.start()
            cluster.wait()
            new = place.write(1, 1)
            taken: list[JSON] = []
            while not (gaps(taken) and set(new) <= set(ids(taken))):
                taken += next(batches)
    assert any("restored" in text for text in place.told)


def test_an_empty_store_is_waited_for_and_another_cluster_taken_on(embedded: Place) -> None:
    place = embedded
    place.site.store.close()
    place.manager.close()
    for file in (place.site.root / "store").iterdir():
        file.unlink()
    with closing(place.publisher.batches(place.told.append)) as batches:
        assert next(batches) == []
        assert "it is empty; restore it" in place.told[-1]
        assert place.site.values() == {}
        assert place.site.manager()._context.cluster
        new = place.write(3)
        taken: list[JSON] = []
        while len(taken) < 4:
            taken += next(batches)
        assert next(batches) == []
    assert gaps(taken) and set(new) <= set(ids(taken))
    assert place.take(0) == []


def test_nothing_is_lost_while_etcd_is_away(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path / "etcd") as cluster,
        Site(tmp_path / "site", store=cluster.store("/a")) as site,
    ):
        place = begun(Place(site, cluster))
        publisher = place.publisher
        with closing(publisher.batches(place.told.append)) as batches:
            next(batches)
            taken: list[JSON] = []
            for number in (9, 15):
                place.write(20)
                cluster.members[0].kill(number)
                cluster.members[0].start()
                cluster.wait()
                place.write(20)
                while len(taken) < len(place.written):
                    taken += next(batches)
    assert ids(taken) == place.written


def test_a_volumes_life_is_handed_out(place: Place) -> None:
    place.manager.create("v", Given(policy="local"))
    place.manager.rm("v", purge=True)
    assert [event["Text"] for event in place.take(2)] == [
        "Volume create success",
        "Volume destroy success",
    ]
