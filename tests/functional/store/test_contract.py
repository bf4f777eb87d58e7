"""What every store promises."""

import threading
import time
from collections.abc import Callable

import pytest

from libstorage.store.contract import (
    MAX_READS,
    MAX_WRITES,
    Change,
    Changed,
    Compare,
    Delete,
    Entry,
    KeyAbsent,
    KeyAtRevision,
    PrefixEmpty,
    Put,
    Store,
)


def put(store: Store, key: str, number: int = 0) -> int:
    revision = store.transact([], [Put(key, {"n": number})])
    assert revision is not None
    return revision


def numbers(store: Store, prefix: str) -> list[int]:
    return [value["n"] for value in store.values(prefix)]


def keys(store: Store, prefix: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix)]


def changes(store: Store, prefix: str, revision: int) -> list[tuple[str, int | None, int]]:
    return [
        (change.key, change.value["n"] if change.value else None, change.revision)
        for change in store.watch(prefix, revision, timeout=0)
    ]


class TestReading:
    def test_absent_key_is_none(self, store: Store) -> None:
        assert store.get("volumes/db") is None
        assert store.get("volumes/db", linearizable=True) is None

    def test_what_was_put_is_read_with_its_revision(self, store: Store) -> None:
        value = {"Name": "db", "Größe": 2**60, "Labels": {"a": None, "b": [1, 2.5, True, "\ud800"]}}
        revision = store.transact([], [Put("volumes/db", value)])
        assert revision is not None
        put(store, "volumes/other")
        assert store.get("volumes/db") == Entry("volumes/db", value, revision)

    def test_put_is_seen_by_other_instances_at_once(self, make_store: Callable[[], Store]) -> None:
        one, two = make_store(), make_store()
        for number in range(5):
            put(one, "k", number)
            assert numbers(two, "k") == [number]

    def test_several_keys_are_read_together(self, store: Store) -> None:
        assert list(store.read("a", "b/")) == []
        for key in ("a", "a0", "b", "b/1", "b/2", "b0", "c/1/x"):
            put(store, key, len(key))
        found = store.read("b/", "a", "none", "c/1", "c/1/x", "b/2")
        assert [entry.key for entry in found] == ["a", "b/1", "b/2", "c/1/x"]
        assert list(found) == [store.get(entry.key) for entry in found]
        assert len(store.read(*(f"none/{n}" for n in range(MAX_READS)))) == 0
        assert list(store.read()) == []

    def test_what_was_changed_since_a_revision(self, store: Store) -> None:
        assert store.changed("a/") == Changed(store.revision(), 0, ())
        for key in ("a", "a/1", "a/2", "a/3", "a0"):
            put(store, key)
        first = store.changed("a/")
        assert first == Changed(store.revision(), 3, ("a/1", "a/2", "a/3"))
        put(store, "a/2", 7)
        put(store, "b")
        assert store.changed("a/", first.revision) == Changed(store.revision(), 3, ("a/2",))
        second = store.changed("a/")
        store.transact([], [Delete("a/3")])
        assert store.changed("a/", second.revision) == Changed(store.revision(), 2, ())
        put(store, "a/3")
        assert store.changed("a/", second.revision) == Changed(store.revision(), 3, ("a/3",))

    def test_list_keeps_to_prefix_and_key_order(self, store: Store) -> None:
        for key in ("a/2", "a/10", "a/1", "a0", "a", "b/1", "a/1/x", "a/Z"):
            put(store, key)
        assert keys(store, "a/") == ["a/1", "a/1/x", "a/10", "a/2", "a/Z"]
        assert keys(store) == sorted(keys(store))
        assert len(keys(store)) == 8

    def test_list_and_values_of_several_pages_miss_nothing(self, store: Store) -> None:
        wanted = [f"many/{n:04}" for n in range(2500)]
        for start in range(0, 2500, MAX_WRITES):
            store.transact(
                [], [Put(f"many/{n:04}", {"n": n}) for n in range(start, start + MAX_WRITES)]
            )
        put(store, "many0")
        assert keys(store, "many/") == wanted
        assert numbers(store, "many/") == list(range(2500))
        assert list(store.changed("many/").keys) == wanted
        assert len(store.changed("many/", store.revision() - 3).keys) > MAX_WRITES
        since = store.revision()
        put(store, "many/2400")
        put(store, "many/0000")
        assert store.changed("many/", since).keys == ("many/0000", "many/2400")

    def test_values_of_a_part_keep_to_its_ends_and_to_the_prefix(self, store: Store) -> None:
        for number, key in enumerate(("a/1", "a/2", "a/3", "b/1")):
            put(store, key, number)
        for start, end, wanted in (
            ("", "", [0, 1, 2]),
            ("a/2", "", [1, 2]),
            ("", "a/2", [0]),
            ("a/2", "a/3", [1]),
            ("0", "c", [0, 1, 2]),
        ):
            assert [value["n"] for value in store.values("a/", start, end)] == wanted

    def test_values_of_nothing_is_an_empty_list(self, store: Store) -> None:
        assert store.values("none/") == []
        assert store.values("none/", "none/b", "none/a") == []
        assert list(store.list("none/")) == []


class TestTransactions:
    def test_each_writing_transaction_raises_the_revision_by_one(self, store: Store) -> None:
        before = store.revision()
        assert put(store, "a") == before + 1
        assert store.transact([], [Put("b", {}), Put("c", {}), Delete("a")]) == before + 2
        assert store.revision() == before + 2

    def test_a_transaction_that_changes_nothing_keeps_the_revision(self, store: Store) -> None:
        before = put(store, "a")
        assert store.transact([KeyAbsent("b")], []) == before
        assert store.transact([], [Delete("b")]) == before
        assert store.delete_range("x", "y") == 0
        assert store.transact([KeyAbsent("a")], [Put("b", {})]) is None
        assert store.revision() == before

    def test_key_absent(self, store: Store) -> None:
        assert store.transact([KeyAbsent("k")], [Put("k", {"n": 1})])
        assert store.transact([KeyAbsent("k")], [Put("k", {"n": 2})]) is None
        assert numbers(store, "k") == [1]
        store.transact([], [Delete("k")])
        assert store.transact([KeyAbsent("k")], [Put("k", {"n": 3})])

    def test_key_at_revision(self, store: Store) -> None:
        first = put(store, "k", 1)
        put(store, "other")
        second = store.transact([KeyAtRevision("k", first)], [Put("k", {"n": 2})])
        assert second is not None
        assert store.transact([KeyAtRevision("k", first)], [Put("k", {"n": 3})]) is None
        assert store.transact([KeyAtRevision("absent", first)], [Put("k", {"n": 3})]) is None
        assert store.transact([KeyAtRevision("k", second)], [Delete("k")])
        assert store.transact([KeyAtRevision("k", second)], [Put("k", {"n": 3})]) is None

    def test_prefix_empty(self, store: Store) -> None:
        put(store, "attachments/dbx/n1")
        claim = [Put("attachments/db/n1", {})]
        assert store.transact([PrefixEmpty("attachments/db/")], claim)
        assert store.transact([PrefixEmpty("attachments/db/")], claim) is None
        store.transact([], [Delete("attachments/db/n1")])
        assert store.transact([PrefixEmpty("attachments/db/")], claim)

    def test_one_failed_compare_writes_nothing_at_all(self, store: Store) -> None:
        put(store, "there")
        compares: list[Compare] = [KeyAbsent("a"), KeyAbsent("there"), PrefixEmpty("p/")]
        assert store.transact(compares, [Put("a", {}), Delete("there")]) is None
        assert keys(store) == ["there"]

    def test_more_writes_than_allowed_are_refused(self, store: Store) -> None:
        writes = [Put(f"k/{n}", {}) for n in range(MAX_WRITES + 1)]
        with pytest.raises(ValueError):
            store.transact([], writes)
        assert keys(store) == []
        assert store.transact([], writes[:MAX_WRITES])

    def test_two_writes_of_one_key_are_refused(self, store: Store) -> None:
        with pytest.raises(ValueError):
            store.transact([], [Put("k", {}), Delete("k")])

    def test_delete_range_takes_start_and_spares_end(self, store: Store) -> None:
        for key in ("a", "b", "b/1", "c", "d"):
            put(store, key)
        before = store.revision()
        assert store.delete_range("b", "d") == 3
        assert keys(store) == ["a", "d"]
        assert store.revision() == before + 1

    def test_threads_lose_no_update(self, store: Store) -> None:
        put(store, "counter", 0)

        def add() -> None:
            done = 0
            while done < 25:
                entry = store.get("counter")
                assert entry is not None
                write = Put("counter", {"n": entry.value["n"] + 1})
                done += bool(store.transact([KeyAtRevision("counter", entry.revision)], [write]))

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert numbers(store, "counter") == [100]


class TestWatch:
    def test_reports_changes_from_a_past_revision_in_order(self, store: Store) -> None:
        put(store, "v/a", 1)
        first = put(store, "v/a", 2)
        put(store, "other", 3)
        both = store.transact([], [Put("v/b", {"n": 4}), Put("v/c", {"n": 5})])
        store.transact([], [Delete("v/a")])
        assert changes(store, "v/", first) == [
            ("v/a", 2, first),
            ("v/b", 4, both),
            ("v/c", 5, both),
            ("v/a", None, first + 3),
        ]

    def test_reports_each_key_of_a_deleted_range(self, store: Store) -> None:
        for key in ("v/a", "v/b", "w"):
            put(store, key)
        after = store.revision() + 1
        store.delete_range("v/", "x")
        assert changes(store, "v/", after) == [("v/a", None, after), ("v/b", None, after)]

    def test_reports_more_than_a_page_without_gap(self, store: Store) -> None:
        start = store.revision() + 1
        for first in range(0, 2400, 80):
            store.transact([], [Put(f"v/{n:04}", {"n": n}) for n in range(first, first + 80)])
        reported = [number for _, number, _ in changes(store, "v/", start)]
        assert reported == list(range(2400))

    def test_sees_what_its_own_thread_writes_meanwhile(self, store: Store) -> None:
        watch = store.watch("v/", put(store, "v/a", 1), timeout=2)
        assert next(watch).key == "v/a"
        put(store, "v/b", 2)
        assert next(watch).key == "v/b"

    def test_reports_a_later_change_within_half_a_second(self, store: Store) -> None:
        watch = store.watch("v/", store.revision() + 1, timeout=5)
        written: list[float] = []

        def write() -> None:
            time.sleep(0.6)
            written.append(time.monotonic())
            put(store, "v/a", 1)

        thread = threading.Thread(target=write)
        thread.start()
        change = next(watch)
        thread.join()
        assert change == Change("v/a", {"n": 1}, store.revision())
        assert time.monotonic() - written[0] < 0.5

    def test_ends_after_its_time_without_a_change(self, store: Store) -> None:
        began = time.monotonic()
        assert list(store.watch("v/", store.revision() + 1, timeout=0.3)) == []
        assert 0.25 < time.monotonic() - began < 1.5

    def test_waits_for_a_revision_that_is_not_there_yet(self, store: Store) -> None:
        later = store.revision() + 2
        put(store, "v/a", 1)
        assert changes(store, "v/", later) == []
        put(store, "v/a", 2)
        assert changes(store, "v/", later) == [("v/a", 2, later)]


class TestOwners:
    def test_owner_is_there_before_it_is_named(self, store: Store) -> None:
        owner = store.owner()
        entry = store.get(f"owners/{owner}")
        assert entry is not None
        assert entry.value["node"] == "here"
        assert store.owner() == owner

    def test_own_and_others_owners_are_alive(self, make_store: Callable[[], Store]) -> None:
        one, two = make_store(), make_store()
        assert one.owner() != two.owner()
        assert one.alive(one.owner())
        assert one.alive(two.owner())

    def test_unknown_owner_is_not_alive(self, store: Store) -> None:
        assert not store.alive("nobody")

    def test_a_living_owner_outlasts_its_lease_time(self, make_store: Callable[[], Store]) -> None:
        one, two = make_store(), make_store()
        owner = one.owner()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            assert two.alive(owner)
            time.sleep(0.05)

    def test_release_deletes_the_owner_and_what_is_leased(
        self, make_store: Callable[[], Store]
    ) -> None:
        one, two = make_store(), make_store()
        owner = one.owner()
        one.transact([], [Put("nodes/n1", {}, leased=True), Put("volumes/db", {})])
        two.transact([], [Put("nodes/n2", {}, leased=True)])
        before = two.revision()
        two.release(owner)
        assert keys(two, "nodes/") == ["nodes/n2"]
        assert keys(two, "volumes/") == ["volumes/db"]
        assert keys(two, "owners/") == [f"owners/{two.owner()}"]
        assert not two.alive(owner)
        assert not one.alive(owner)
        gone = {change.key for change in two.watch("", before + 1, timeout=0)}
        assert gone == {"nodes/n1", f"owners/{owner}"}
        two.release(owner)

    def test_a_put_without_lease_frees_the_key(self, store: Store) -> None:
        store.transact([], [Put("k", {"n": 1}, leased=True)])
        put(store, "k", 2)
        store.release(store.owner())
        assert numbers(store, "k") == [2]

    def test_an_owner_ended_by_others_is_made_anew(self, make_store: Callable[[], Store]) -> None:
        one, two = make_store(), make_store()
        old = one.owner()
        two.release(old)
        one.transact([], [Put("k", {}, leased=True)])
        assert one.owner() != old
        assert two.alive(one.owner())
        two.release(one.owner())
        assert keys(two, "k") == []

    def test_close_ends_the_owner(self, make_store: Callable[[], Store]) -> None:
        one, two = make_store(), make_store()
        owner = one.owner()
        one.transact([], [Put("k", {}, leased=True)])
        one.close()
        assert not two.alive(owner)
        assert keys(two) == []
