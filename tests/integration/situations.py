"""What states meet: volumes, mounts, what the dead left; and how to see that nothing changed."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import faults
from lab.site import Site
from libstorage.host import mounts
from libstorage.manager import VolumeManager

KINDS: dict[str, dict[str, Any]] = {
    "directory": {"policy": "local"},
    "ext4": {"policy": "local", "fstype": "ext4", "size": 8},
    "xfs": {"policy": "local", "fstype": "xfs", "size": 32},
    "raw": {"policy": "local", "fstype": "raw", "size": 8},
    "ram": {"policy": "ram", "size": 8},
    "secure": {"policy": "secure", "size": 8},
}

Seen = dict[str, Any]


def look(site: Site) -> Seen:
    """All that libstorage keeps on this host: every value, file, mount and loop device."""
    return {
        "revision": site.store.revision(),
        "values": {entry.key: (entry.revision, entry.value) for entry in site.store.list("")},
        "files": dict(_files(site)),
        "mounts": [mount for mount in mounts.table() if mount.path.is_relative_to(site.root)],
        "loops": sorted(site.loops().items()),
    }


def _files(site: Site) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Path -> mode, size, time of the last change. The store's are known by its revision."""
    # What the kernel writes behind a mounted image is nobody's doing here.
    mounted = set(site.loops().values())
    for folder, folders, names in os.walk(site.root):
        for name in (*folders, *names):
            path = Path(folder, name)
            entry = path.lstat()
            quiet = path in mounted or path.parent.name == "store"
            figures = (
                (entry.st_mode,) if quiet else (entry.st_mode, entry.st_size, entry.st_mtime_ns)
            )
            yield str(path.relative_to(site.root)), figures
        folders[:] = [name for name in folders if not os.path.ismount(Path(folder, name))]


@contextmanager
def nothing_is_written(site: Site) -> Iterator[None]:
    """Not even a failed event, a boot id or an owner."""
    before = look(site)
    yield
    after = look(site)
    for what, seen in before.items():
        assert after[what] == seen, f"{what} were changed"


def kill_during(site: Site, act: Callable[[VolumeManager], object], point: int) -> bool:
    """
    Let a process run a verb and be killed at its n-th point.

    Returns whether it was; a verb may have fewer points.
    """
    pid, pipe = faults.fork_victim(site.config, act, faults.Trap(point, "kill"))
    _, status = os.waitpid(pid, 0)
    os.close(pipe)
    return os.WIFSIGNALED(status)


DIES = """
import signal
from libstorage.manager import journal
verb, name, given = arguments
begin = journal.Journal.begin

def begin_and_die(*args, **kwargs):
    assert begin(*args, **kwargs) is not None
    os.kill(os.getpid(), signal.SIGKILL)

journal.Journal.begin = begin_and_die
manager.create(name, Given(**given)) if verb == "create" else getattr(manager, verb)(name)
"""


def leave_operation(site: Site, verb: str, name: str, **given: Any) -> None:
    """Leave the operation of a process that died as soon as it had begun."""
    process = site.python(DIES, verb, name, given)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -9, err
    assert f"operations/{name}" in site.values("operations/")
