"""
A mounted filesystem held still, so that its image can be copied.

The freeze belongs to a helper process (``freezer``), not to the process that asks: this one may be
killed or stopped at any moment, and a filesystem that stays frozen stops every application on it.
The helper leads a session of its own and does not carry the operation's token, so that neither a
signal to our group nor recovery ends it. In turn:

    helper killed            its output ends; we thaw, and the block does not count
    we are killed            its input ends; it thaws
    we are stopped or slow   its limit is over; it thaws, and the block does not count
    both killed              recovery calls ``thaw`` before anything else
"""

import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import BackendError, CommandTimeout, LibstorageError, Unsupported
from . import mounts
from .commands import PATH, Work
from .mounts import Mount

LIMIT = 10.0
"""Seconds for which a filesystem may be frozen at most."""

_PATIENCE = 2.0
"""Seconds that a helper may take to answer, and to end."""
_THAWING = 12.0
"""Seconds that a thaw may take: a helper that still holds it lets go after 10."""

_FREEZER = Path(__file__).with_name("freezer.py")


@contextmanager
def frozen(work: Work, mountpoint: Path, limit: float = LIMIT) -> Iterator[Work]:
    """
    Hold the filesystem that is mounted at ``mountpoint`` frozen for the block.

    limit
        Seconds after which it is thawed whatever happens.

    Gives the work to do meanwhile, which has no more time than that. What is written to the
    filesystem waits until the end of the block: write nothing there.

    The block counts only when this returns. It raises BackendError where the filesystem was not
    frozen throughout, Unsupported where its type cannot be frozen. An error of the block passes;
    the filesystem is thawed before.
    """
    mounted = mounts.at(mountpoint)
    if mounted is None:
        raise BackendError(f"Nothing is mounted at {mountpoint} that could be frozen")
    # What is dirty is written while applications still go on; the freeze itself is then short.
    work.run("sync", "--file-system", str(mountpoint), limit=limit)
    helper = _Helper(mounted, min(limit, work.left()))
    helper.freeze()
    try:
        yield Work(work.token, helper.left())
    finally:
        held = helper.thaw()
    if not held:
        raise BackendError(_not_held(mountpoint))


def thaw(mountpoint: Path) -> None:
    """
    Thaw the filesystem that is mounted there; not frozen, or nothing there, is as good.

    Raises BackendError where it stays frozen.
    """
    # The kernel may let a thaw wait for ever behind an unmount: not in this process.
    argv = (*_argv(mountpoint), "0")
    try:
        word, _, number = Work().run(*argv, limit=_THAWING).strip().partition(" ")
    except CommandTimeout as exc:
        raise BackendError(_stays(mountpoint, "that takes too long")) from exc
    gone = (errno.EINVAL, errno.ENOENT, errno.ENOTDIR)
    if word != "thawed" and not (number and int(number) in gone):
        why = os.strerror(int(number)) if number else "the helper gave no answer"
        raise BackendError(_stays(mountpoint, why))


def _not_held(mountpoint: Path) -> str:
    return f"The filesystem of {mountpoint} could not be held frozen; nothing was kept, try again"


def _stays(mountpoint: Path, why: str) -> str:
    return (
        f"The filesystem of {mountpoint} cannot be thawed ({why}); "
        f"thaw it with: fsfreeze --unfreeze {mountpoint}"
    )


def _explain(mounted: Mount, number: int) -> LibstorageError:
    """Why it could not be frozen."""
    where = f"The filesystem of {mounted.path}"
    if number == errno.EOPNOTSUPP:
        return Unsupported(f"{where} is {mounted.fstype}, which cannot be frozen; unmount it first")
    if number == errno.EBUSY:
        thaw_it = f"fsfreeze --unfreeze {mounted.path}"
        return BackendError(f"{where} was frozen by somebody else; thaw it with: {thaw_it}")
    return BackendError(f"{where} cannot be frozen: {os.strerror(number)}")


def _argv(mountpoint: Path) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(_FREEZER), str(mountpoint))


class _Helper:
    """The helper process, seen from its parent."""

    def __init__(self, mounted: Mount, limit: float) -> None:
        self._mounted = mounted
        self._until = time.monotonic() + limit
        self._heard = b""
        self._ended = False
        self._process = subprocess.Popen(
            [*_argv(mounted.path), str(limit)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": PATH, "LC_ALL": "C"},
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout
        self._in, self._out = self._process.stdin, self._process.stdout

    def left(self) -> float:
        """Seconds until it thaws by itself."""
        return max(0.0, self._until - time.monotonic())

    def freeze(self) -> None:
        """Wait until it has frozen the filesystem."""
        word, _, number = self._hear(self.left()).partition(" ")
        if word == "frozen":
            return
        if number:
            self._let_go()
            raise _explain(self._mounted, int(number))
        path = self._mounted.path
        if not self._ended:
            # Stuck in the kernel: whenever it has frozen, it finds its input closed and thaws.
            # Killed meanwhile, it could not.
            self._process.send_signal(signal.SIGCONT)
            self._let_go(0)
            raise BackendError(f"{path} cannot be frozen in time; is its storage reachable?")
        self._let_go()
        thaw(path)
        raise BackendError(_not_held(path))

    def thaw(self) -> bool:
        """Have it thawed, by whomever; was it frozen until this request?"""
        with suppress(OSError):
            self._in.write(b"t")
        word = self._hear(_PATIENCE)
        if word not in ("thawed", "late"):
            # Killed, stopped, or not able to.
            self._process.kill()
            thaw(self._mounted.path)
        self._let_go()
        return word == "thawed"

    def _hear(self, seconds: float) -> str:
        """The next line that it says; none when it ends, or says nothing for so long."""
        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        while b"\n" not in self._heard:
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                return ""
            if not (more := self._out.read(64)):
                self._ended = True
                return ""
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def _let_go(self, patience: float = _PATIENCE) -> None:
        self._in.close()
        self._out.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
