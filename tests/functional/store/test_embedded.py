"""What is special about the embedded store: processes, signals, files."""

import os
import signal
import sqlite3
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libstorage.errors import Compacted, StoreUnavailable
from libstorage.store import sqlite, tables
from libstorage.store.contract import KeyAtRevision, Put
from libstorage.store.embedded import EmbeddedStore

Make = Callable[..., EmbeddedStore]
Run = Callable[..., "subprocess.Popen[str]"]

STOP_INSIDE_A_TRANSACTION = """
import sqlite3
database = sqlite3.connect(path, isolation_level=None)
database.execute("BEGIN IMMEDIATE")
database.execute("INSERT INTO kv VALUES ('half', '{}', 99, NULL)")
print(os.getpid(), flush=True)
time.sleep(60)
"""


def line(process: "subprocess.Popen[str]") -> str:
    """The next line that a process prints, or '' at its end."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def put(store: EmbeddedStore, key: str, number: int = 0) -> int:
    revision = store.transact([], [Put(key, {"n": number})])
    assert revision is not None
    return revision


def keys(store: EmbeddedStore, prefix: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix)]


def numbers(store: EmbeddedStore, prefix: str) -> list[int]:
    return [value["n"] for value in store.values(prefix)]


def changes(store: EmbeddedStore, prefix: str, revision: int) -> list[tuple[str, int | None, int]]:
    return [
        (change.key, change.value["n"] if change.value else None, change.revision)
        for change in store.watch(prefix, revision, timeout=0)
    ]


def wait_until_dead(observer: EmbeddedStore, owner: str, limit: float) -> float:
    """Seconds until the observer holds the owner for dead."""
    began = time.monotonic()
    while observer.alive(owner):
        assert time.monotonic() - began < limit
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.fixture
def store(make_embedded: Make) -> EmbeddedStore:
    return make_embedded()


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


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestForks:
    def test_parent_and_child_both_write_and_lose_nothing(self, store: EmbeddedStore) -> None:
        put(store, "parent/0")

        def child() -> None:
            for number in range(20):
                put(store, f"child/{number}")

        pid = os.fork()
        if pid == 0:
            try:
                child()
            finally:
                os._exit(0)
        for number in range(1, 20):
            put(store, f"parent/{number}")
        store.close()
        os.waitpid(pid, 0)
        assert len(keys(store, "parent/")) == len(keys(store, "child/")) == 20

    def test_a_childs_write_outlives_the_parents_close(self, store: EmbeddedStore) -> None:
        put(store, "before")
        ready, go = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            store.revision()
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            put(store, "child")
            os._exit(0)
        os.read(ready[0], 1)
        store.close()
        os.write(go[1], b"x")
        os.waitpid(pid, 0)
        assert keys(store) == ["before", "child"]

    def test_a_fork_waits_for_the_other_threads_transactions(self, store: EmbeddedStore) -> None:
        put(store, "k")
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                put(store, f"thread/{threading.get_ident()}")

        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            began = time.monotonic()
            outcomes = [in_child(lambda: put(store, "child")) for _ in range(10)]
            took = time.monotonic() - began
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert outcomes == [0] * 10
        assert took < 5

    def test_owner_is_made_anew_in_the_child(self, store: EmbeddedStore, lease: float) -> None:
        owner = store.owner()

        def child() -> None:
            assert store.alive(owner)
            own = store.owner()
            assert own != owner
            value = store.get(f"owners/{own}")
            assert value is not None and value.value["pid"] == os.getpid()
            time.sleep(lease * 0.8)
            assert store.alive(own)
            store.close()

        assert in_child(child) == 0
        assert keys(store, "owners/") == [f"owners/{owner}"]
        assert store.owner() == owner

    def test_a_child_with_a_connection_stuck_at_the_fork_refuses(
        self, store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite, "_FORK_PATIENCE", 0.1)
        entered, leave = threading.Event(), threading.Event()

        def hang(connection: sqlite3.Connection) -> None:
            connection.execute("SELECT 1")
            entered.set()
            leave.wait()

        thread = threading.Thread(target=store._database.run, args=(hang,))
        thread.start()
        entered.wait()

        def child() -> None:
            with pytest.raises(StoreUnavailable, match="forked while"):
                store.get("k")
            with pytest.raises(StoreUnavailable, match="forked while"):
                EmbeddedStore(store._database.path, describe=dict).get("k")

        try:
            assert in_child(child) == 0
        finally:
            leave.set()
            thread.join()
        assert store.get("k") is None


class TestManyProcesses:
    def test_eight_processes_open_a_fresh_store_and_lose_no_update(
        self, store: EmbeddedStore, run: Run
    ) -> None:
        code = """
done = 0
while done < 100:
    entry = store.get("counter")
    value = {"n": entry.value["n"] + 1 if entry else 1}
    compare = KeyAtRevision("counter", entry.revision) if entry else KeyAbsent("counter")
    done += bool(store.transact([compare], [Put("counter", value)]))
"""
        processes = [run(code, lease=5) for _ in range(8)]
        assert [process.wait(30) for process in processes] == [0] * 8
        assert numbers(store, "counter") == [800]
        assert store.revision() == 800

    def test_a_change_by_another_process_is_seen_within_half_a_second(
        self, store: EmbeddedStore, run: Run
    ) -> None:
        watch = store.watch("v/", 1, timeout=10)
        run('time.sleep(0.5)\nstore.transact([], [Put("v/a", {"t": time.time()})])\ntime.sleep(9)')
        change = next(watch)
        assert change.value is not None
        assert time.time() - change.value["t"] < 0.5

    def test_a_killed_writer_leaves_all_of_a_transaction_or_nothing(
        self, store: EmbeddedStore, run: Run
    ) -> None:
        code = """
n = 0
while True:
    n += 1
    store.transact([], [Put("pair/a", {"n": n}), Put("pair/b", {"n": n})])
    if n == 20:
        print("writing", flush=True)
"""
        for delay in (0.0, 0.013, 0.029):
            writer = run(code)
            assert line(writer) == "writing"
            time.sleep(delay)
            writer.kill()
            writer.wait()
            one, two = numbers(store, "pair/")
            assert one == two >= 20
            last = [(key, number) for key, number, _ in changes(store, "", store.revision())]
            assert last == [("pair/a", one), ("pair/b", one)]

    def test_a_writer_killed_inside_a_transaction_leaves_nothing(
        self, store: EmbeddedStore, run: Run, lease: float
    ) -> None:
        put(store, "k", 1)
        writer = run(STOP_INSIDE_A_TRANSACTION)
        assert line(writer)
        writer.kill()
        began = time.monotonic()
        put(store, "k", 2)
        assert time.monotonic() - began < lease
        assert keys(store) == ["k"]

    def test_a_writer_stopped_inside_a_transaction_is_ended(
        self, store: EmbeddedStore, run: Run, lease: float
    ) -> None:
        put(store, "k", 1)
        writer = run(STOP_INSIDE_A_TRANSACTION)
        assert line(writer)
        writer.send_signal(signal.SIGSTOP)
        assert numbers(store, "k") == [1]
        began = time.monotonic()
        put(store, "k", 2)
        assert lease <= time.monotonic() - began < lease + 2
        assert writer.wait(5) == -signal.SIGKILL
        assert keys(store) == ["k"]

    def test_a_writer_that_runs_is_never_ended(self, make_embedded: Make, run: Run) -> None:
        store = make_embedded(lease=0.3, busy_timeout=0.3)
        put(store, "k", 1)
        writer = run(STOP_INSIDE_A_TRANSACTION)
        assert line(writer)
        with pytest.raises(StoreUnavailable, match="locked by another process"):
            put(store, "k", 2)
        assert writer.poll() is None
        writer.kill()
        writer.wait()
        put(store, "k", 3)

    def test_no_owner_lapses_while_nobody_can_write(
        self, store: EmbeddedStore, make_embedded: Make, run: Run, lease: float
    ) -> None:
        observer = make_embedded()
        observer.owner()
        owner = store.owner()
        writer = run(STOP_INSIDE_A_TRANSACTION)
        assert line(writer)
        end = time.monotonic() + 3 * lease
        while time.monotonic() < end:
            assert observer.alive(owner)
            time.sleep(0.02)


class TestOwners:
    def test_a_killed_owner_lapses_after_its_lease_time(
        self, store: EmbeddedStore, run: Run, lease: float
    ) -> None:
        other = run("print(store.owner(), flush=True)\ntime.sleep(60)")
        owner = line(other)
        store.owner()
        time.sleep(lease)
        assert store.alive(owner)
        other.kill()
        other.wait()
        assert lease * 0.6 < wait_until_dead(store, owner, 10 * lease)
        assert keys(store, f"owners/{owner}"), "an observer changes nothing"
        store.release(owner)
        assert not keys(store, f"owners/{owner}")

    def test_a_new_observer_waits_a_whole_lease_time(
        self, make_embedded: Make, run: Run, lease: float
    ) -> None:
        other = run("print(store.owner(), flush=True)\ntime.sleep(60)")
        owner = line(other)
        other.kill()
        other.wait()
        time.sleep(lease)
        assert lease <= wait_until_dead(make_embedded(), owner, 10 * lease)

    def test_a_failed_read_begins_the_observation_anew(
        self, store: EmbeddedStore, run: Run, monkeypatch: pytest.MonkeyPatch, lease: float
    ) -> None:
        other = run("print(store.owner(), flush=True)\ntime.sleep(60)")
        owner = line(other)
        other.kill()
        other.wait()
        assert store.alive(owner)
        time.sleep(lease)
        with monkeypatch.context() as patch:
            gone = OSError("gone")
            patch.setattr(store._database, "_connection", lambda _: (_ for _ in ()).throw(gone))
            with pytest.raises(StoreUnavailable):
                store.alive(owner)
        assert store.alive(owner)

    def test_a_process_that_ends_takes_its_owner_along(
        self, store: EmbeddedStore, run: Run
    ) -> None:
        code = 'store.transact([], [Put("k", {}, leased=True)])\nprint(store.owner(), flush=True)'
        other = run(code)
        owner = line(other)
        assert other.wait(10) == 0
        assert keys(store) == []
        assert not store.alive(owner)

    def test_an_exit_is_not_held_up_by_a_locked_store(self, store: EmbeddedStore, run: Run) -> None:
        # What a shell starts in the background ignores an interrupt.
        listening = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
        waiting = "print(store.owner(), flush=True)\ntime.sleep(60)"
        other = run(f"{listening}\n{waiting}", lease=15)
        assert line(other)
        locked = run(STOP_INSIDE_A_TRANSACTION)
        assert line(locked)
        began = time.monotonic()
        other.send_signal(signal.SIGINT)
        other.wait(10)
        assert time.monotonic() - began < 2

    def test_a_failed_heartbeat_is_tried_again(
        self,
        store: EmbeddedStore,
        make_embedded: Make,
        monkeypatch: pytest.MonkeyPatch,
        lease: float,
    ) -> None:
        owner = store.owner()
        with monkeypatch.context() as patch:
            odd = RuntimeError("odd")
            patch.setattr(store._database, "run", lambda *_: (_ for _ in ()).throw(odd))
            time.sleep(lease / 2)
        observer = make_embedded()
        end = time.monotonic() + 2 * lease
        while time.monotonic() < end:
            assert observer.alive(owner)
            time.sleep(0.05)


class TestChangeLog:
    @pytest.fixture(autouse=True)
    def trim_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tables, "TRIM_EVERY", 10)
        monkeypatch.setattr(tables, "KEEP_CHANGES", 25)

    def test_a_watch_from_a_trimmed_revision_is_told(self, store: EmbeddedStore) -> None:
        for number in range(100):
            put(store, "k", number)
        with pytest.raises(Compacted, match="no longer keeps"):
            changes(store, "k", 75)
        with pytest.raises(Compacted):
            changes(store, "k", 0)
        kept = changes(store, "k", 76)
        assert [revision for _, _, revision in kept] == list(range(76, 101))

    def test_a_running_watch_that_falls_behind_is_told(self, store: EmbeddedStore) -> None:
        watch = store.watch("k", put(store, "k"), timeout=1)
        next(watch)
        for number in range(100):
            put(store, "k", number)
        with pytest.raises(Compacted):
            list(watch)

    def test_a_running_watch_that_keeps_up_is_not(self, store: EmbeddedStore) -> None:
        watch = store.watch("k", 1, timeout=1)
        for number in range(100):
            put(store, "k", number)
            put(store, "elsewhere", number)
            change = next(watch)
            assert change.value == {"n": number}

    def test_what_is_too_old_is_trimmed(
        self, store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(9):
            put(store, "k", number)
        monkeypatch.setattr(tables, "KEEP_SECONDS", 0.05)
        time.sleep(0.1)
        put(store, "k", 9)
        with pytest.raises(Compacted):
            changes(store, "k", 9)
        assert changes(store, "k", 10) == [("k", 9, 10)]

    def test_before_anything_is_trimmed_every_revision_can_be_asked(
        self, store: EmbeddedStore
    ) -> None:
        put(store, "k", 1)
        assert changes(store, "k", 0) == changes(store, "k", 1) == [("k", 1, 1)]

    def test_a_transaction_is_trimmed_whole(self, store: EmbeddedStore) -> None:
        for number in range(10):
            store.transact([], [Put(f"k/{n}", {"n": number}) for n in range(10)])
        with pytest.raises(Compacted):
            changes(store, "", 8)
        assert len(changes(store, "", 9)) == 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 2 MiB."""
    point = tmp_path / "small"
    point.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)


class TestFiles:
    def test_file_and_directory_are_private(self, store: EmbeddedStore, path: Path) -> None:
        put(store, "k")
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_nothing_is_made_before_the_first_use(self, store: EmbeddedStore, path: Path) -> None:
        assert not path.parent.exists()
        store.close()
        assert not path.parent.exists()

    def test_reading_what_was_never_written_makes_nothing(
        self, store: EmbeddedStore, tmp_path: Path
    ) -> None:
        assert store.get("k") is None
        assert keys(store) == []
        assert store.values("") == []
        assert changes(store, "", 0) == []
        assert store.revision() == 0
        assert not store.alive("nobody")
        assert list(store.watch("", 1, timeout=0.05)) == []
        store.close()
        assert not list(tmp_path.iterdir())

    def test_a_reader_from_before_the_first_write_sees_it(
        self, store: EmbeddedStore, make_embedded: Make, path: Path
    ) -> None:
        watch = store.watch("", 1, timeout=5)
        writer = threading.Timer(0.3, put, (make_embedded(), "k", 1))
        writer.start()
        assert store.revision() == 0
        assert next(watch).value == {"n": 1}
        writer.join()
        assert numbers(store, "") == [1]
        assert store.revision() == 1

    def test_a_full_disk_is_told_and_survived(self, make_embedded: Make, small_disk: Path) -> None:
        store = make_embedded(path=small_disk / "store.db")
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(1 << 20))
        written = 0
        with pytest.raises(
            StoreUnavailable, match=r"store\.db cannot be written, the disk is full"
        ):
            while True:
                store.transact([], [Put(f"k/{written:03}", {"n": written, "pad": "x" * 50_000})])
                written += 1
        assert numbers(store, "k/") == list(range(written))
        ballast.unlink()
        put(store, "k/z", written)
        assert numbers(store, "k/") == list(range(written + 1))

    def test_no_room_even_to_begin_is_told(self, make_embedded: Make, small_disk: Path) -> None:
        (small_disk / "ballast").write_bytes(bytes(2 << 20))
        with pytest.raises(StoreUnavailable, match="disk is full"):
            put(make_embedded(path=small_disk / "store.db"), "k")

    @pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "ceph", "fuse.glusterfs", "ocfs2"])
    def test_a_shared_filesystem_is_refused(
        self, make_embedded: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
    ) -> None:
        share = tmp_path / "a share"
        share.mkdir()
        mounts = (
            "20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
            f"30 20 0:50 / {str(share).replace(' ', chr(92) + '040')} rw - {kind} host:/x rw\n"
        )
        monkeypatch.setattr(sqlite, "_mountinfo", lambda: mounts)
        with pytest.raises(StoreUnavailable, match=f"cannot be kept on {kind} "):
            make_embedded(path=share / "deep" / "store.db").revision()
        assert not list(share.iterdir())
        assert make_embedded(path=tmp_path / "a share 2" / "store.db").revision() == 0

    def test_of_two_mounts_on_one_point_the_later_counts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mounts = (
            "1 0 8:1 / / rw - ext4 a rw\n2 1 0:5 / /s rw - nfs b rw\n3 2 8:2 / /s rw - xfs c rw"
        )
        monkeypatch.setattr(sqlite, "_mountinfo", lambda: mounts)
        assert sqlite._filesystem(Path("/s/t")) == (Path("/s"), "xfs")

    def test_a_damaged_store_is_told(
        self, store: EmbeddedStore, make_embedded: Make, path: Path
    ) -> None:
        put(store, "k")
        store.close()
        path.write_bytes(b"no database " * 1000)
        with pytest.raises(StoreUnavailable, match=r"is damaged: restore it from a copy"):
            make_embedded().get("k")

    def test_a_newer_schema_is_refused(
        self, store: EmbeddedStore, make_embedded: Make, path: Path
    ) -> None:
        put(store, "k")
        store.close()
        with sqlite3.connect(path) as database:
            database.execute(f"PRAGMA user_version = {tables.SCHEMA + 1}")
        database.close()
        with pytest.raises(StoreUnavailable, match="upgrade"):
            make_embedded().get("k")

    def test_a_read_only_filesystem_is_told(self, make_embedded: Make, small_disk: Path) -> None:
        store = make_embedded(path=small_disk / "store.db")
        put(store, "k")
        store.close()
        remount = ["mount", "-o", "remount,{}", small_disk]
        subprocess.run([str(word).format("ro") for word in remount], check=True)
        with pytest.raises(StoreUnavailable, match="is read-only"):
            put(store, "k")
        subprocess.run([str(word).format("rw") for word in remount], check=True)
        put(store, "k")

    def test_a_path_that_cannot_be_is_told(self, make_embedded: Make, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            make_embedded(path=tmp_path / "file" / "store.db").revision()


def test_connections_of_ended_threads_are_let_go(store: EmbeddedStore) -> None:
    for _ in range(20):
        thread = threading.Thread(target=put, args=(store, "k"))
        thread.start()
        thread.join()
    assert len(store._database._links) <= 2


def test_compare_and_swap_after_a_refused_write_still_works(store: EmbeddedStore) -> None:
    revision = put(store, "k", 1)
    with pytest.raises(TypeError):
        store.transact([], [Put("k", {"n": object()})])
    assert store.transact([KeyAtRevision("k", revision)], [Put("k", {"n": 2})]) == revision + 1


def test_a_read_that_failed_half_way_does_not_show_the_past_afterwards(
    store: EmbeddedStore, make_embedded: Make, path: Path
) -> None:
    for first in range(0, 600, 100):
        store.transact([], [Put(f"k/{n:03}", {"n": n}) for n in range(first, first + 100)])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE kv SET value = 'no JSON' WHERE key = 'k/001'")
    database.close()
    with pytest.raises(ValueError) as failure:
        store.values("k/")
    put(make_embedded(), "k/001", 7)
    assert numbers(store, "k/")[1] == 7
    assert failure.value
