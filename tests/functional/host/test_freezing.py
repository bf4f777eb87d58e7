"""Frozen filesystems: held still for as long as it counts, and never left frozen."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import libstorage
from lab.site import Site
from libstorage.errors import BackendError, CommandFailed, Unsupported
from libstorage.host import files, filesystems, freezer, freezing, mounts, processes
from libstorage.host.commands import TOKEN, Work
from libstorage.host.filesystems import KINDS

MADE = [name for name, kind in KINDS.items() if kind.mkfs]
NOT_HELD = "could not be held frozen; nothing was kept, try again"
LIMIT = 1.0

PARENT = """
import sys, time
from pathlib import Path
from libstorage.errors import BackendError
from libstorage.host import freezing
from libstorage.host.commands import Work
try:
    with freezing.frozen(Work("tok"), Path(sys.argv[1]), float(sys.argv[2])):
        print("frozen", flush=True)
        time.sleep(float(sys.argv[3]))
except BackendError as exc:
    print(exc)
else:
    print("held")
"""


def mounted(site: Site, fstype: str = "ext4", options: str = "loop") -> Path:
    image, point = site.root / f"{fstype}.img", site.root / "a point"
    size = max(KINDS[fstype].smallest, 8)
    files.make_sparse(image, size * 2**20)
    filesystems.make(Work(), image, fstype, size)
    point.mkdir()
    mounts.mount(Work(), str(image), point, fstype, options)
    return point


def is_frozen(point: Path) -> bool:
    """Does a writer wait?"""
    writer = subprocess.Popen(["touch", str(point / "probe")])
    try:
        return writer.wait(timeout=0.2) != 0
    except subprocess.TimeoutExpired:
        # It dies as soon as it is let go.
        writer.kill()
        return True


def helpers() -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if str(freezing._FREEZER) in _command(p)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def soon(reached: Callable[[], bool], limit: float) -> None:
    until = time.monotonic() + limit
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.02)


def start(site: Site, point: Path, limit: float, sleep: float) -> "subprocess.Popen[str]":
    """A process that holds it frozen."""
    process = site.ends(
        subprocess.Popen(
            [sys.executable, "-c", PARENT, str(point), str(limit), str(sleep)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"PYTHONPATH": str(Path(libstorage.__file__).parent.parent), TOKEN: "tok"},
        )
    )
    assert process.stdout
    assert process.stdout.readline() == "frozen\n"
    assert is_frozen(point)
    return process


@pytest.mark.parametrize("fstype", MADE)
def test_a_writer_waits_and_goes_on_afterwards(site: Site, fstype: str) -> None:
    point = mounted(site, fstype)
    with freezing.frozen(Work(), point):
        writer = site.ends(subprocess.Popen(["touch", str(point / "late")], text=True))
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=0.3)
        assert not (point / "late").exists()
    assert writer.wait(timeout=5) == 0
    assert (point / "late").exists()
    assert helpers() == []


def test_it_is_quick(site: Site) -> None:
    point, took = mounted(site), []
    for _ in range(5):
        begun = time.monotonic()
        with freezing.frozen(Work(), point):
            pass
        took.append(time.monotonic() - begun)
    assert min(took) < 0.25


def test_the_work_in_the_block_has_no_more_time_than_the_freeze(site: Site) -> None:
    point = mounted(site)
    with freezing.frozen(Work("tok"), point, limit=3) as work:
        assert work.token == "tok"
        assert 0 < work.left() <= 3
    with freezing.frozen(Work(seconds=2), point) as work:
        assert work.left() <= 2


def test_the_helper_is_out_of_reach_of_whoever_ends_us(site: Site) -> None:
    point = mounted(site)
    extra = os.open(point.parent, os.O_RDONLY)
    os.set_inheritable(extra, True)
    with freezing.frozen(Work("tok"), point):
        (helper,) = helpers()
        assert os.getsid(helper.pid) == helper.pid
        assert helper.pid not in processes.carrying("tok")
        assert os.readlink(f"/proc/{helper.pid}/cwd") == "/"
        held = {os.readlink(f"/proc/{helper.pid}/fd/{fd}") for fd in _descriptors(helper.pid)}
        assert {name for name in held if "[" not in name and "pipe:" not in name} == {
            "/dev/null",
            str(point),
        }
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            helper.send_signal(number)
        assert is_frozen(point)
    os.close(extra)


def _descriptors(pid: int) -> list[str]:
    return os.listdir(f"/proc/{pid}/fd")


def test_an_error_of_the_block_passes_after_the_thaw(site: Site) -> None:
    point = mounted(site)
    with pytest.raises(ZeroDivisionError), freezing.frozen(Work(), point):
        raise ZeroDivisionError
    assert not is_frozen(point)
    with pytest.raises(CommandFailed), freezing.frozen(Work(), point) as work:
        work.run("false")
    assert not is_frozen(point)
    assert helpers() == []


def test_a_slow_block_does_not_count(site: Site) -> None:
    point = mounted(site)
    with pytest.raises(BackendError, match=NOT_HELD), freezing.frozen(Work(), point, limit=0.5):
        time.sleep(0.6)
        assert not is_frozen(point)
    assert helpers() == []


def test_a_killed_parent_leaves_it_thawed(site: Site) -> None:
    point = mounted(site)
    parent = start(site, point, limit=30, sleep=30)
    parent.kill()
    soon(lambda: not is_frozen(point), 1)
    soon(lambda: helpers() == [], 5)


def test_a_parent_that_is_killed_under_a_fork_of_its_own_leaves_it_thawed(site: Site) -> None:
    """The fork keeps the pipe open: end of file never comes."""
    point = mounted(site)
    child = site.ends(
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                PARENT.replace(
                    'print("frozen", flush=True)',
                    'import os; os.fork() or time.sleep(30); print("frozen", flush=True)',
                ),
                str(point),
                "30",
                "30",
            ],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(Path(libstorage.__file__).parent.parent)},
        )
    )
    assert child.stdout
    assert child.stdout.readline() == "frozen\n"
    assert is_frozen(point)
    child.kill()
    soon(lambda: not is_frozen(point), 1)


def test_a_stopped_parent_s_filesystem_is_thawed_in_time_and_it_is_told(site: Site) -> None:
    point = mounted(site)
    begun = time.monotonic()
    parent = start(site, point, limit=LIMIT, sleep=LIMIT / 2)
    parent.send_signal(signal.SIGSTOP)
    soon(lambda: not is_frozen(point), LIMIT + 1 - (time.monotonic() - begun))
    parent.send_signal(signal.SIGCONT)
    assert parent.communicate(timeout=5)[0] == f"The filesystem of {point} {NOT_HELD}\n"


def test_a_parent_that_is_asleep_is_told_too(site: Site) -> None:
    parent = start(site, mounted(site), limit=LIMIT, sleep=LIMIT + 0.2)
    assert NOT_HELD in parent.communicate(timeout=5)[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_helper_that_is_killed_or_stopped_does_not_count(site: Site, number: int) -> None:
    point = mounted(site)
    with pytest.raises(BackendError, match=NOT_HELD), freezing.frozen(Work(), point):
        (helper,) = helpers()
        helper.send_signal(number)
        time.sleep(0.05)
        assert is_frozen(point)
    assert not is_frozen(point)
    assert helpers() == []


def test_an_error_of_the_block_passes_also_when_the_helper_was_killed(site: Site) -> None:
    point = mounted(site)
    with pytest.raises(ZeroDivisionError), freezing.frozen(Work(), point):
        helpers()[0].kill()
        raise ZeroDivisionError
    assert not is_frozen(point)


def test_a_thaw_by_somebody_else_does_not_count(site: Site) -> None:
    point = mounted(site)
    with pytest.raises(BackendError, match=NOT_HELD), freezing.frozen(Work(), point):
        freezing.thaw(point)
        assert not is_frozen(point)


def test_what_somebody_else_has_frozen_stays_frozen(site: Site) -> None:
    point = mounted(site)
    Work().run("fsfreeze", "--freeze", str(point))
    try:
        with (
            pytest.raises(BackendError, match=r"was frozen by somebody else; thaw it with: "),
            freezing.frozen(Work(), point),
        ):
            pytest.fail("never frozen by us")
        assert is_frozen(point)
    finally:
        freezing.thaw(point)
    assert not is_frozen(point)


@pytest.mark.parametrize("fstype", MADE)
def test_thawing_what_is_not_frozen_is_success(site: Site, fstype: str) -> None:
    freezing.thaw(mounted(site, fstype))


def test_thawing_nothing_is_success_and_touches_nothing_around_it(site: Site) -> None:
    point = mounted(site)
    (point / "inside").mkdir()
    Work().run("fsfreeze", "--freeze", str(point))
    try:
        for nothing in (point / "inside", point / "absent", site.root):
            freezing.thaw(nothing)
        assert is_frozen(point)
    finally:
        freezing.thaw(point)


def test_only_a_mount_point_is_ever_frozen(site: Site) -> None:
    point = mounted(site)
    (point / "inside").mkdir()
    with (
        pytest.raises(BackendError, match=r"Nothing is mounted at .*/inside"),
        freezing.frozen(Work(), point / "inside"),
    ):
        pytest.fail("never frozen")
    # Also where the mount goes just before the helper looks.
    for path in (point / "inside", site.root):
        argv = [sys.executable, str(freezing._FREEZER), str(path), "1"]
        out = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
        assert out.decode() == f"failed {errno.ENOENT}\n"
    assert not is_frozen(point)


def test_a_read_only_mount_can_be_frozen(site: Site) -> None:
    point = mounted(site, options="loop,ro")
    with freezing.frozen(Work(), point):
        pass


def test_a_filesystem_that_cannot_be_frozen_is_named(site: Site) -> None:
    point = site.root / "t"
    point.mkdir()
    mounts.mount(Work(), "tmpfs", point, "tmpfs", "size=1m")
    with (
        pytest.raises(Unsupported, match=f"of {point} is tmpfs, which cannot be frozen"),
        freezing.frozen(Work(), point),
    ):
        pytest.fail("never frozen")
    freezing.thaw(point)


HANGS = """
import os, sys, time
sys.path.insert(0, os.path.dirname({freezer!r}))
import freezer, fcntl
real = fcntl.ioctl
def slow(*arguments):
    if arguments[1] == freezer.FIFREEZE:
        time.sleep({seconds})
    return real(*arguments)
fcntl.ioctl = slow
freezer.main(sys.argv[1], float(sys.argv[2]))
"""


def test_a_freeze_that_hangs_is_given_up_and_undone_when_it_comes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = mounted(site)
    slow = site.root / "slow.py"
    slow.write_text(HANGS.format(freezer=freezer.__file__, seconds=1.5))
    monkeypatch.setattr(freezing, "_FREEZER", slow)
    begun = time.monotonic()
    with (
        pytest.raises(BackendError, match="cannot be frozen in time"),
        freezing.frozen(Work(), point, limit=0.5),
    ):
        pytest.fail("never frozen")
    assert time.monotonic() - begun < 0.5 + 2
    soon(lambda: helpers() == [], 5)
    assert not is_frozen(point)


@pytest.mark.parametrize("when", ["exit()", "time.sleep(99)"])
def test_a_helper_that_says_nothing_is_not_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    point = mounted(site)
    mute = site.root / "mute.py"
    mute.write_text(f"import sys, time\nif sys.argv[2] != '0': {when}\nprint('failed 22')")
    monkeypatch.setattr(freezing, "_FREEZER", mute)
    begun = time.monotonic()
    with pytest.raises(BackendError), freezing.frozen(Work(), point, limit=0.5):
        pytest.fail("never frozen")
    assert time.monotonic() - begun < 0.5 + 2
    for process in helpers():
        process.kill()
