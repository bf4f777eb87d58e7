"""
libstorage: volumes for container hosts, kept consistent through one store.

The way in is :func:`libstorage.managers.open_manager`. Arrows run one way:
manager -> controllers, store, host -> records, errors.

Salt replaces the files one by one, in alphabetical order, under processes that have loaded them or
are just loading them. A door therefore asks :func:`unfit` before it is used, so that old and new
code never work together.
"""

import os

from .version import VERSION

__version__ = "0.1.0"


def _stamp() -> frozenset[tuple[str, int, int]]:
    """The files of this package as they are now: path, time of the last change, size."""
    found = set()
    for folder, _, names in os.walk(os.path.dirname(__file__)):
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                entry = os.stat(path)
                found.add((path, entry.st_mtime_ns, entry.st_size))
    return frozenset(found)


_LOADED = _stamp()


def unfit(version: str) -> str:
    """
    Why a door must not use the package as this process has it; "" where it may.

    version
        The door's own.
    """
    if version != __version__:
        return f"{version} was loaded beside libstorage {__version__}; restart the minion"
    if version != VERSION:
        # This file comes first, that one last.
        return f"{version} came with a part of libstorage alone; run saltutil.sync_all again"
    try:
        same = _stamp() == _LOADED
    except FileNotFoundError:
        same = False
    if same:
        return ""
    return f"{version} was replaced under this process; call again, or restart the minion"
