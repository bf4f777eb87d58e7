"""Processes: told apart, judged, ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from libstorage.host import processes
from libstorage.host.commands import TOKEN
from libstorage.host.processes import Process

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that none of the tests leaves behind."""
    started: list[subprocess.Popen[str]] = []

    def begin(*argv: str, token: str = "") -> "subprocess.Popen[str]":
        child = subprocess.Popen(
            argv, stdout=subprocess.PIPE, text=True, env=os.environ | {TOKEN: token}
        )
        started.append(child)
        return child

    yield begin
    for child in started:
        child.kill()
        child.communicate()


def seen(pid: int) -> Process:
    stat = processes._stat(pid)
    assert stat
    return Process(pid, stat[1], processes.namespace())


def wait_for(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_this_process_exists_and_is_visible() -> None:
    me = processes.myself()
    assert me.pid == os.getpid()
    assert processes.exists(me)
    assert processes.visible(me)
    assert not processes.stopped(me)


def test_one_of_another_pid_namespace_is_not_judged_here() -> None:
    assert not processes.visible(replace(processes.myself(), namespace="pid:[1]"))


def test_a_later_process_with_the_same_pid_is_another(start: Start) -> None:
    process = seen(start("sleep", "30").pid)
    assert processes.exists(process)
    earlier = replace(process, start=process.start - 1)
    assert not processes.exists(earlier)
    processes.end(earlier)
    assert processes.exists(process)


def test_a_zombie_does_not_exist(start: Start) -> None:
    child = start("sleep", "30")
    process = seen(child.pid)
    child.kill()
    wait_for(lambda: processes._stat(child.pid)[0] == "Z")  # type: ignore[index]
    assert not processes.exists(process)


def test_a_name_with_brackets_and_spaces_is_no_riddle(start: Start) -> None:
    code = "open('/proc/self/comm', 'w').write('a) S (b 1'); print('', flush=True); input()"
    child = start(sys.executable, "-c", code)
    assert child.stdout
    child.stdout.readline()
    assert processes.exists(seen(child.pid))


def test_a_stopped_process_is_ended(start: Start) -> None:
    child = start("sleep", "30")
    process = seen(child.pid)
    os.kill(child.pid, signal.SIGSTOP)
    wait_for(lambda: processes.stopped(process))
    assert processes.exists(process)
    processes.end(process)
    assert not processes.exists(process)
    assert child.wait(timeout=5) == -signal.SIGKILL


def test_ending_one_that_is_gone_is_as_good(start: Start) -> None:
    child = start("true")
    process = replace(processes.myself(), pid=child.pid)
    child.wait(timeout=5)
    processes.end(process)


def test_child_and_grandchild_that_carry_a_token_are_ended(start: Start) -> None:
    child = start("sh", "-c", "setsid sleep 30 & echo $!; wait", token="tok-1")
    other = start("sleep", "30", token="tok-10")
    assert child.stdout
    grandchild = int(child.stdout.readline())
    # While it becomes another program a process shows no environment.
    wait_for(lambda: Path(f"/proc/{grandchild}/comm").read_text() == "sleep\n")
    assert set(processes.carrying("tok-1")) == {child.pid, grandchild}
    processes.end_carrying("tok-1")
    assert processes.carrying("tok-1") == []
    assert processes.exists(seen(other.pid))


def test_no_token_ends_nobody(start: Start) -> None:
    child = start("sleep", "30", token="")
    processes.end_carrying("")
    assert processes.exists(seen(child.pid))


def test_this_process_never_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recoverer may itself run under the token of the work that it recovers."""
    monkeypatch.setattr(processes, "carrying", lambda token: [os.getpid()])
    processes.end_carrying("mine")
