"""What is special about the etcd store: members that die or hang, secrets, forks, other users."""

import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lab.etcd import Cluster, Member, free_ports
from libstorage.errors import Compacted, ConfigInvalid, StoreUnavailable
from libstorage.records import JSON
from libstorage.store import etcd_client
from libstorage.store.contract import Delete, KeyAbsent, KeyAtRevision, Put
from libstorage.store.etcd import EtcdStore
from libstorage.store.etcd_client import Client, Endpoint, Failed
from libstorage.store.etcd_settings import EtcdSettings

Make = Callable[..., EtcdStore]
Run = Callable[..., "subprocess.Popen[str]"]

NAMED = (("cert", ""), ("key", "-key"))

WITHIN = 10.5
"""Seconds in which a store that cannot be reached says so."""


def line(process: "subprocess.Popen[str]") -> str:
    """The next line that a process prints, or '' at its end."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def put(store: EtcdStore, key: str, number: int = 0) -> int:
    revision = store.transact([], [Put(key, {"n": number})])
    assert revision is not None
    return revision


def keys(store: EtcdStore, prefix: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix)]


def numbers(store: EtcdStore, prefix: str) -> list[int]:
    return [value["n"] for value in store.values(prefix)]


def open_on(settings: dict[str, Any], lease: float = 1) -> "closing[EtcdStore]":
    return closing(
        EtcdStore(EtcdSettings.read(settings), describe=lambda: {"node": "here"}, lease=lease)
    )


def in_use(store: EtcdStore, cluster: Cluster) -> Member:
    """The member that the store asks."""
    port = store._client.endpoint.port
    return next(member for member in cluster.members if member.port == port)


def wait_until_dead(observer: EtcdStore, owner: str, limit: float) -> float:
    """Seconds until the observer holds the owner for dead."""
    began = time.monotonic()
    while observer.alive(owner):
        assert time.monotonic() - began < limit
        time.sleep(0.02)
    return time.monotonic() - began


def in_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked child; its exit status is 0 where it returned."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def store(make_etcd: Make) -> EtcdStore:
    return make_etcd()


@pytest.fixture(scope="module")
def three_members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("etcd") / "three", 3) as cluster:
        yield cluster


@pytest.fixture
def three(three_members: Cluster) -> Iterator[Cluster]:
    """Three members, all well before and after the test."""
    yield three_members
    for member in three_members.members:
        assert member.process is not None
        member.thaw()
        if member.process.poll() is not None:
            member.start()
    three_members.wait()


class TestFailOver:
    def test_the_member_in_use_dies_and_nothing_is_noticed(
        self, make_etcd: Make, three: Cluster
    ) -> None:
        store = make_etcd(three)
        put(store, "k", 1)
        in_use(store, three).kill()
        began = time.monotonic()
        assert numbers(store, "k") == [1]
        put(store, "k", 2)
        assert numbers(store, "k") == [2]
        assert time.monotonic() - began < 5

    def test_the_leader_is_killed_between_two_writes(self, make_etcd: Make, three: Cluster) -> None:
        store = make_etcd(three)
        revision = put(store, "k", 1)
        three.leader().kill()
        began = time.monotonic()
        second = store.transact([KeyAtRevision("k", revision)], [Put("k", {"n": 2})])
        assert second is not None
        assert time.monotonic() - began < 8
        assert store.transact([KeyAtRevision("k", second)], [Put("k", {"n": 3})])

    def test_a_member_that_hangs_is_left(self, make_etcd: Make, three: Cluster) -> None:
        store = make_etcd(three)
        revision = put(store, "k", 1)
        in_use(store, three).freeze()
        began = time.monotonic()
        assert store.transact([KeyAtRevision("k", revision)], [Put("k", {"n": 2})])
        assert time.monotonic() - began < 9
        began = time.monotonic()
        assert numbers(store, "k") == [2]
        assert time.monotonic() - began < 1, "and is not asked first again"

    @pytest.mark.parametrize("way", ["killed", "hanging"])
    def test_two_of_three_away_is_told_in_time_and_well_when_they_are_back(
        self, make_etcd: Make, three: Cluster, way: str
    ) -> None:
        store = make_etcd(three)
        put(store, "k", 1)
        for member in three.members[:2]:
            member.kill() if way == "killed" else member.freeze()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"cannot be reached .*start etcd, or"):
            put(store, "k", 2) if way == "killed" else store.get("k")
        assert time.monotonic() - began < WITHIN
        for member in three.members[:2]:
            member.start() if way == "killed" else member.thaw()
        three.wait()
        assert numbers(store, "k") in ([1], [2]), "it was not told whether it was written"
        put(store, "k", 3)
        assert numbers(store, "k") == [3]

    def test_eight_writers_lose_nothing_while_members_die(
        self, make_etcd: Make, three: Cluster, run_etcd: Run
    ) -> None:
        store = make_etcd(three)
        put(store, "counter", 0)
        code = """
done = 0
while done < 40:
    entry = store.get("counter")
    compare, write = KeyAtRevision("counter", entry.revision), {"n": entry.value["n"] + 1}
    done += bool(store.transact([compare], [Put("counter", write)]))
    time.sleep(0.02)
"""
        prefix = store._root.removesuffix("/v1/")
        writers = [run_etcd(code, three.store(prefix)) for _ in range(8)]
        for member in (three.leader(), *three.members):
            time.sleep(1)
            member.kill()
            time.sleep(0.5)
            member.start()
            three.wait()
        assert [writer.wait(60) for writer in writers] == [0] * 8
        assert numbers(store, "counter") == [320]

    @pytest.mark.parametrize("others", [0, 1, 3])
    def test_what_was_done_without_an_answer_is_not_done_twice(
        self, make_etcd: Make, etcd: Cluster, monkeypatch: pytest.MonkeyPatch, others: int
    ) -> None:
        """Nor taken for refused, where others have written over it before it is asked again."""
        store = make_etcd(etcd)
        revision = put(store, "counter", 0)
        ask, lost = store._client._ask, []

        def loses(endpoint: Endpoint, path: str, body: JSON, seconds: float) -> JSON:
            answer = ask(endpoint, path, body, seconds)
            if path == "kv/txn" and not lost:
                lost.append(int(answer["header"]["revision"]))
                for number in range(others):
                    put(store, "counter", 10 + number)
                raise Failed("the answer is lost", sent=True)
            return answer

        monkeypatch.setattr(store._client, "_ask", loses)
        mine = store.transact([KeyAtRevision("counter", revision)], [Put("counter", {"n": 1})])
        assert [mine] == lost
        late = store.transact([KeyAtRevision("counter", revision)], [Put("counter", {"n": 2})])
        assert late is None

    def test_nobody_there_names_the_endpoint_and_the_reason(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(etcd_client, "LIMIT", 2.0)
        port = free_ports(1)[0]
        with open_on({"kind": "etcd", "endpoints": [f"http://127.0.0.1:{port}"]}) as store:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=rf"127.0.0.1:{port}: Connection refused"):
                store.get("k")
            assert 1 < time.monotonic() - began < 3, "it may be starting just now"

    def test_a_store_that_comes_while_it_is_asked_is_used(
        self, make_etcd: Make, three: Cluster
    ) -> None:
        store = make_etcd(three)
        put(store, "k", 1)
        for member in three.members:
            member.kill()
        found: list[int] = []
        asking = threading.Thread(target=lambda: found.extend(numbers(store, "k")))
        asking.start()
        time.sleep(1)
        for member in three.members:
            member.start()
        asking.join()
        assert found == [1]

    def test_many_threads_are_told_together(
        self, make_etcd: Make, three: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(etcd_client, "LIMIT", 2.0)
        store = make_etcd(three)
        store.owner()
        for member in three.members:
            member.freeze()
        told: list[float] = []

        def ask() -> None:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                store.owner()
            told.append(time.monotonic() - began)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == 8
        assert max(told) < 4

    def test_members_of_two_clusters_are_refused_before_anything_is_written(
        self, three: Cluster, etcd: Cluster
    ) -> None:
        endpoints = [three.members[0].endpoint, etcd.members[0].endpoint]
        with open_on(three.store("/apart", endpoints=endpoints)) as store:
            put(store, "k", 1)
            store._client.leave(store._client.endpoint)
            with pytest.raises(ConfigInvalid, match="not members of one etcd cluster"):
                put(store, "k", 2)
        with open_on(three.store("/apart")) as one, open_on(etcd.store("/apart")) as other:
            assert sorted([numbers(one, ""), numbers(other, "")]) == [[], [1]]


class Cut:
    """A wire to etcd that breaks, once, after the request has gone or before it arrives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: str, *, delivered: bool) -> None:
        self.count = 0
        true_ask = Client.ask

        def ask(client: Client, endpoint: Any, where: str, *args: Any) -> Any:
            if where != path or self.count:
                return true_ask(client, endpoint, where, *args)
            self.count += 1
            if delivered:
                true_ask(client, endpoint, where, *args)
            raise Failed("cut", sent=True)

        monkeypatch.setattr(Client, "ask", ask)


class TestUnknownOutcomes:
    @pytest.fixture(params=[True, False], ids=["applied", "not-applied"])
    def cut(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
        return lambda path="kv/txn": Cut(monkeypatch, path, delivered=request.param)

    def test_a_put_whose_answer_is_lost_is_made_once(self, store: EtcdStore, cut: Any) -> None:
        cut()
        before = store.revision()
        revision = store.transact([KeyAbsent("k")], [Put("k", {"n": 1})])
        assert revision == before + 1 == store.revision()
        entry = store.get("k")
        assert entry is not None and entry.revision == revision

    def test_a_compare_and_swap_tells_its_revision(self, store: EtcdStore, cut: Any) -> None:
        first = put(store, "k", 1)
        cut()
        writes = [Put("k", {"n": 2}), Put("event", {"n": 3}), Delete("x")]
        second = store.transact([KeyAtRevision("k", first)], writes)
        assert second == first + 1
        assert store.transact([KeyAtRevision("k", second)], [Put("k", {"n": 4})])

    def test_a_deletion_is_known_as_done(self, store: EtcdStore, cut: Any) -> None:
        first = put(store, "k", 1)
        cut()
        assert store.transact([KeyAtRevision("k", first)], [Delete("k")]) == first + 1
        assert keys(store) == []

    def test_a_compare_that_does_not_hold_is_none(self, store: EtcdStore, cut: Any) -> None:
        put(store, "k", 1)
        cut()
        assert store.transact([KeyAbsent("k")], [Put("k", {"n": 1}), Put("l", {})]) is None
        assert store.transact([KeyAbsent("k")], [Delete("k")]) is None
        assert keys(store) == ["k"]

    def test_an_owner_is_made_once(self, store: EtcdStore, cut: Any) -> None:
        cut("lease/grant")
        owner = store.owner()
        assert keys(store) == [f"owners/{owner}"]
        store.release(owner)
        assert keys(store) == []

    def test_an_answer_that_never_comes_leaves_it_open(
        self, make_etcd: Make, three: Cluster
    ) -> None:
        store = make_etcd(three)
        revision = put(store, "k", 1)
        for member in three.members:
            member.freeze()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="no answer within"):
            store.transact([KeyAtRevision("k", revision)], [Put("k", {"n": 2})])
        assert time.monotonic() - began < WITHIN
        for member in three.members:
            member.thaw()
        three.wait()
        entry = store.get("k")
        assert entry is not None
        assert entry.value["n"] in (1, 2)
        assert store.transact([KeyAtRevision("k", entry.revision)], [Put("k", {"n": 3})])
        time.sleep(1)
        assert numbers(store, "k") == [3], "no member wakes up with what it was asked long ago"


class TestWatches:
    def test_goes_on_at_another_member_and_misses_nothing(
        self, make_etcd: Make, three: Cluster
    ) -> None:
        watcher, writer = make_etcd(three), make_etcd(three)
        watch = watcher.watch("v/", put(writer, "v/k", 0), timeout=20)
        seen = [next(watch).value]
        for number, hurt in enumerate((Member.kill, Member.freeze), 1):
            member = in_use(watcher, three)
            hurt(member)
            put(writer, "v/k", number)
            seen.append(next(watch).value)
            member.thaw()
            if hurt is Member.kill:
                member.start()
            three.wait()
        assert seen == [{"n": 0}, {"n": 1}, {"n": 2}]

    def test_a_compaction_while_the_wire_is_down_is_told(
        self, make_etcd: Make, three: Cluster
    ) -> None:
        watcher, writer = make_etcd(three), make_etcd(three)
        watch = watcher.watch("v/", put(writer, "v/k", 0), timeout=20)
        next(watch)
        for number in range(5):
            put(writer, "v/k", number)
        # The watch has received nothing more: its connection is cut here.
        for connection in list(watcher._client._open):
            watcher._client.drop(connection)
        three.compact(writer.revision())
        with pytest.raises(Compacted, match="no longer keeps"):
            list(watch)
        now = watcher.revision()
        assert list(watcher.watch("v/", now + 1, timeout=0.1)) == []

    def test_from_a_compacted_revision_is_told_at_once(
        self, make_etcd: Make, three: Cluster
    ) -> None:
        store = make_etcd(three)
        first = put(store, "v/k", 1)
        last = put(store, "v/k", 2)
        three.compact(last)
        for revision in (0, first):
            with pytest.raises(Compacted):
                list(store.watch("v/", revision, timeout=0))
        assert [c.value for c in store.watch("v/", last, timeout=0)] == [{"n": 2}]

    def test_a_store_that_stays_away_is_told(
        self, make_etcd: Make, three: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(etcd_client, "LIMIT", 3.0)
        store = make_etcd(three)
        watch = store.watch("v/", put(store, "v/k"))
        next(watch)
        for member in three.members:
            member.kill()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            next(watch)
        assert time.monotonic() - began < 4

    def test_a_watch_that_is_left_closes_its_connection(self, store: EtcdStore) -> None:
        watch = store.watch("v/", put(store, "v/k"))
        next(watch)
        before = {c for c in store._client._open if c.sock}
        watch.close()  # type: ignore[attr-defined]
        assert len({c for c in store._client._open if c.sock}) == len(before) - 1


class TestOwners:
    def test_a_killed_owner_lapses_with_all_its_keys(
        self, store: EtcdStore, etcd: Cluster, run_etcd: Run
    ) -> None:
        code = 'store.transact([], [Put("n", {}, leased=True)])\nprint(store.owner(), flush=True)'
        prefix = store._root.removesuffix("/v1/")
        other = run_etcd(f"{code}\ntime.sleep(60)", etcd.store(prefix))
        owner = line(other)
        assert store.alive(owner)
        other.kill()
        other.wait()
        assert store.alive(owner)
        assert wait_until_dead(store, owner, 6) > 0.2
        assert keys(store) == []

    def test_a_stopped_owner_lapses_and_makes_a_new_one_when_it_wakes(
        self, store: EtcdStore, etcd: Cluster, run_etcd: Run
    ) -> None:
        code = """
while True:
    print(store.owner(), flush=True)
    time.sleep(0.1)
"""
        prefix = store._root.removesuffix("/v1/")
        process = run_etcd(code, etcd.store(prefix))
        owner = line(process)
        process.send_signal(signal.SIGSTOP)
        wait_until_dead(store, owner, 6)
        process.send_signal(signal.SIGCONT)
        while (woken := line(process)) == owner:
            pass
        assert woken and store.alive(woken)

    def test_an_outage_of_etcd_ends_nobodys_lease(self, make_etcd: Make, three: Cluster) -> None:
        store = make_etcd(three)
        owner = store.owner()
        for member in three.members:
            member.kill()
        time.sleep(3)
        for member in three.members:
            member.start()
        three.wait()
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert store.alive(owner)
            time.sleep(0.1)
        assert store.owner() == owner

    def test_the_leaders_death_ends_nobodys_lease(self, make_etcd: Make, three: Cluster) -> None:
        store = make_etcd(three)
        owner = store.owner()
        three.leader().kill()
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert store.alive(owner)
            time.sleep(0.1)

    def test_a_process_that_ends_takes_its_owner_along(
        self, store: EtcdStore, etcd: Cluster, run_etcd: Run
    ) -> None:
        code = 'store.transact([], [Put("k", {}, leased=True)])\nprint(store.owner(), flush=True)'
        other = run_etcd(code, etcd.store(store._root.removesuffix("/v1/")))
        owner = line(other)
        assert other.wait(10) == 0
        assert not store.alive(owner)
        assert keys(store) == []

    @pytest.mark.parametrize("way", ["killed", "hanging"])
    def test_an_exit_is_not_held_up_by_a_store_that_is_away(
        self, make_etcd: Make, three: Cluster, run_etcd: Run, way: str
    ) -> None:
        code = """
import threading
def watch():
    for _ in store.watch("v/", 1): pass
threading.Thread(target=watch, daemon=True).start()
print(store.owner(), flush=True)
time.sleep(3)
"""
        other = run_etcd(code, three.store("/exit"))
        assert line(other)
        for member in three.members:
            member.kill() if way == "killed" else member.freeze()
        began = time.monotonic()
        assert other.wait(10) == 0
        assert time.monotonic() - began < 5


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestForks:
    def test_a_hundred_children_write_while_threads_write_and_watch(self, store: EtcdStore) -> None:
        put(store, "k")
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                put(store, f"thread/{threading.get_ident()}")

        def watch() -> None:
            for _ in store.watch("thread/", store.revision()):
                if stop.is_set():
                    return

        threads = [threading.Thread(target=work) for work in (write, write, watch)]
        store.owner()
        for thread in threads:
            thread.start()
        try:
            outcomes = [in_child(lambda: put(store, "child")) for _ in range(100)]
        finally:
            stop.set()
            put(store, "thread/last")
            for thread in threads:
                thread.join()
        assert outcomes == [0] * 100

    def test_owner_is_made_anew_in_the_child(self, store: EtcdStore) -> None:
        owner = store.owner()

        def child() -> None:
            assert store.alive(owner)
            own = store.owner()
            assert own != owner
            time.sleep(1.5)
            assert store.alive(own)
            store.close()

        assert in_child(child) == 0
        assert keys(store, "owners/") == [f"owners/{owner}"]
        assert store.owner() == owner

    def test_a_child_leaves_the_parents_connections_alone(self, store: EtcdStore) -> None:
        put(store, "k", 1)
        watch = store.watch("k", store.revision(), timeout=5)
        next(watch)

        def child() -> None:
            put(store, "child", 1)
            store.close()

        assert in_child(child) == 0
        put(store, "k", 2)
        assert next(watch).value == {"n": 2}

    def test_a_watch_goes_on_in_the_child(self, store: EtcdStore) -> None:
        watch = store.watch("k", put(store, "k", 1), timeout=5)
        next(watch)

        def child() -> None:
            put(store, "k", 2)
            assert next(watch).value == {"n": 2}

        assert in_child(child) == 0


class TestManyKeys:
    def test_more_than_ten_thousand_keys_are_listed_whole(self, store: EtcdStore) -> None:
        for first in range(0, 12_000, 100):
            store.transact([], [Put(f"m/{n:05}", {"n": n}) for n in range(first, first + 100)])
        assert keys(store, "m/") == [f"m/{n:05}" for n in range(12_000)]
        assert numbers(store, "m/") == list(range(12_000))
        assert store.delete_range("m/", "m/06000") == 6000
        assert numbers(store, "m/") == list(range(6000, 12_000))

    def test_values_are_of_one_moment(self, store: EtcdStore) -> None:
        store.transact([], [Put("m/a", {"n": 0}), Put("m/z", {"n": 0})])
        for first in range(0, 4000, 100):
            store.transact([], [Put(f"m/b{n:04}", {"n": -1}) for n in range(first, first + 100)])
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                store.transact([], [Put("m/a", {"n": number}), Put("m/z", {"n": number})])

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(10):
                found = numbers(store, "m/")
                assert found[0] == found[-1]
        finally:
            stop.set()
            thread.join()

    def test_two_clusters_in_one_etcd_do_not_see_each_other(self, etcd: Cluster) -> None:
        with open_on(etcd.store("/two/a")) as one, open_on(etcd.store("/two/aa")) as two:
            put(one, "k", 1)
            assert keys(two) == []
            assert two.transact([KeyAbsent("k")], [Put("k", {"n": 2})])
            assert numbers(one, "") == [1]
            owner = one.owner()
            assert not two.alive(owner)
            assert {c.key for c in two.watch("", 1, timeout=0)} == {"k"}
            one.delete_range("", "~")
            assert numbers(two, "") == [2]


class TestNoSpace:
    def test_a_full_store_is_told_with_the_way_out(self, tmp_path: Path) -> None:
        with (
            Cluster(tmp_path / "etcd", quota_backend_bytes=400_000) as cluster,
            open_on(cluster.store("/a")) as store,
        ):
            with pytest.raises(StoreUnavailable, match=r"NOSPACE.*defrag"):
                for number in range(1000):
                    store.transact([], [Put("k", {"n": number, "pad": "x" * 20_000})])
            assert numbers(store, "k"), "it can still be read"
            with pytest.raises(StoreUnavailable, match="NOSPACE"):
                store.owner()
            cluster.compact(store.revision())
            cluster.members[0].request("maintenance/defragment", {}, timeout=30)
            alarms = cluster.members[0].request("maintenance/alarm", {"action": "GET"})["alarms"]
            for alarm in alarms:
                cluster.members[0].request("maintenance/alarm", alarm | {"action": "DEACTIVATE"})
            put(store, "k", 7)
            assert numbers(store, "k") == [7]

    def test_a_value_that_is_too_large_is_refused(self, store: EtcdStore) -> None:
        with pytest.raises(StoreUnavailable, match=r"larger than|too large"):
            store.transact([], [Put("k", {"pad": "x" * 3_000_000})])
        assert keys(store) == []


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """TLS with client certificates, and a password."""
    with Cluster(tmp_path_factory.mktemp("etcd") / "guarded", tls=True, auth=True) as cluster:
        yield cluster


class TestSecrets:
    def test_certificate_and_password_let_in(self, guarded: Cluster) -> None:
        with open_on(guarded.store("/a")) as store:
            revision = put(store, "k", 1)
            assert numbers(store, "k") == [1]
            assert [c.value for c in store.watch("k", revision, timeout=0)] == [{"n": 1}]
            assert store.alive(store.owner())
            time.sleep(2)
            assert store.alive(store.owner())

    def test_without_certificate_is_refused(self, guarded: Cluster) -> None:
        settings = guarded.store("/a", cert=None, key=None)
        with (
            open_on(settings) as store,
            pytest.raises(StoreUnavailable, match=r"refused this node's certificate.*cert and key"),
        ):
            store.get("k")

    def test_a_certificate_with_a_common_name_is_told(self, guarded: Cluster) -> None:
        files = {name: str(guarded.folder / f"named{end}.pem") for name, end in NAMED}
        with (
            open_on(guarded.store("/a", **files)) as store,
            pytest.raises(StoreUnavailable, match=r"no certificate that has a common name"),
        ):
            store.get("k")

    def test_a_foreign_authority_is_not_trusted(self, guarded: Cluster, tmp_path: Path) -> None:
        with Cluster(tmp_path / "other", tls=True) as other:
            pass
        settings = guarded.store("/a", ca=str(other.folder / "ca.pem"))
        with (
            open_on(settings) as store,
            pytest.raises(StoreUnavailable, match=r"certificate is not trusted.*store:ca"),
        ):
            store.get("k")

    @pytest.mark.parametrize(("scheme", "told"), [("http", "https://"), ("https", "http://")])
    def test_the_wrong_scheme_is_named(
        self,
        guarded: Cluster,
        etcd: Cluster,
        monkeypatch: pytest.MonkeyPatch,
        scheme: str,
        told: str,
    ) -> None:
        monkeypatch.setattr(etcd_client, "LIMIT", 1.0)
        port = (guarded if scheme == "http" else etcd).members[0].port
        settings = {"kind": "etcd", "endpoints": f"{scheme}://127.0.0.1:{port}"}
        with (
            open_on(settings) as store,
            pytest.raises(StoreUnavailable, match=f"write {told}"),
        ):
            store.get("k")

    def test_a_wrong_password_is_told_without_it(self, guarded: Cluster) -> None:
        settings = guarded.store("/a", password="not-this-one")
        with (
            open_on(settings) as store,
            pytest.raises(ConfigInvalid, match="refused user dsvolume: wrong password") as failure,
        ):
            store.get("k")
        assert "not-this-one" not in repr(failure.value) + repr(EtcdSettings.read(settings))

    def test_no_password_where_one_is_wanted_is_told(self, guarded: Cluster) -> None:
        with (
            open_on(guarded.store("/a", user=None, password=None)) as store,
            pytest.raises(ConfigInvalid, match="wants a password: set dsvolume:store:user"),
        ):
            store.get("k")

    def test_a_password_where_none_is_wanted_does_not_disturb(self, etcd: Cluster) -> None:
        with open_on(etcd.store("/pw", user="somebody", password="x")) as store:
            put(store, "k", 1)
            assert numbers(store, "k") == [1]

    def test_a_restart_forgets_tokens_and_the_store_asks_for_a_new_one(
        self, guarded: Cluster
    ) -> None:
        with open_on(guarded.store("/a")) as store:
            put(store, "k", 1)
            member = guarded.members[0]
            member.kill(signal.SIGTERM)
            member.start()
            assert numbers(store, "k") == [1]
            put(store, "k", 2)
            assert numbers(store, "k") == [2]

    def test_a_user_without_the_right_is_told_the_way_out(self, tmp_path: Path) -> None:
        with Cluster(tmp_path / "etcd", auth=True) as cluster:
            ask = cluster.members[0].request
            ask("auth/user/add", {"name": "guest", "password": "guest"})
            settings = cluster.store("/a", user="guest", password="guest")
            with (
                open_on(settings) as store,
                pytest.raises(ConfigInvalid, match=r"lets user guest not use .*grant-permission"),
            ):
                store.get("k")

    def test_a_password_file_is_read(self, guarded: Cluster, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.touch(mode=0o600)
        file.write_text(guarded.password + "\n")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        settings = guarded.store("/a", password_file=str(file))
        del settings["password"]
        with open_on(settings) as store:
            put(store, "k", 1)


def test_something_else_at_the_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        with (
            open_on({"kind": "etcd", "endpoints": f"http://127.0.0.1:{port}"}) as store,
            pytest.raises(StoreUnavailable, match="does not serve etcd's v3 API"),
        ):
            store.get("k")
        server.shutdown(socket.SHUT_RDWR)
