"""The kernel's modules: loaded where this host has them, and never looked for elsewhere."""

import os
from pathlib import Path

from ..errors import CommandFailed, ToolMissing
from .commands import Work

_LOADED = Path("/sys/module")
_FOLDER = Path("/lib/modules")
SECONDS = 10.0


def need(name: str) -> None:
    """Load a module; one that is there is as good. Raises ToolMissing where it cannot be had."""
    if (_LOADED / name).is_dir():
        return
    if not available(name):
        raise ToolMissing(f"The kernel {os.uname().release} has no module {name} here")
    try:
        # Who has put it on modprobe's blacklist means it.
        Work(seconds=SECONDS).run("modprobe", "--use-blacklist", name)
    except CommandFailed as exc:
        raise ToolMissing(f"The kernel's module {name} cannot be loaded: {exc.words}") from exc
    if not (_LOADED / name).is_dir():
        raise ToolMissing(f"The kernel's module {name} is not to be loaded, says modprobe's list")


def available(name: str) -> bool:
    """Does this host have the module, for the kernel that runs?"""
    folder = _FOLDER / os.uname().release
    for list in ("modules.dep", "modules.builtin"):
        try:
            lines = (folder / list).read_text().splitlines()
        except OSError:
            continue
        # kernel/drivers/block/rbd.ko.xz: kernel/net/ceph/libceph.ko.xz
        files = (line.partition(":")[0].rpartition("/")[2] for line in lines)
        if any(file.partition(".ko")[0] == name for file in files):
            return True
    return False
