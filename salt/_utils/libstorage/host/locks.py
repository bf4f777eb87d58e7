"""Lock files: one process at a time does what they stand for."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigInvalid
from .files import explain


@contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """
    Hold a lock file, which tells this process's id, until the block ends or the process does.

    what
        What runs then, as the beginning of a sentence: ``An agent of host1``.

    Raises ConfigInvalid where another process holds it, BackendError where it cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise explain(exc, f"{path} cannot be opened") from exc
    with os.fdopen(fd, "r+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = f"process {lock.read().strip()}"
            raise ConfigInvalid(f"{what} runs already ({holder} holds {path})") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
