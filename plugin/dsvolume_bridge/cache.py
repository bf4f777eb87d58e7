"""
The volumes that this node has heard of: for lists, and for the time in which the store is away.

Only *yes* is ever answered from here: that there is no such volume is told by the store alone. A
volume that was removed elsewhere meanwhile is answered for still, and its mount then refused.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from libstorage.errors import LibstorageError
from libstorage.host import files

log = logging.getLogger(__name__)

JSON = dict[str, Any]
Read = Callable[[dict[str, int]], JSON]
FIELDS = ("Name", "CreatedAt", "Policy", "Fstype", "MBSize", "Shared")


class Cache:
    """
    Records by name, in memory and in a file.

    The file may lag: what it lacks is not answered for, which is safe.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        held = files.read_json(path) or {}
        self._records: dict[str, JSON] = held.get("Volumes", {})
        self._revisions: dict[str, int] = {}
        self._changed = False
        self._lock = threading.Lock()

    def get(self, name: str) -> JSON | None:
        return self._records.get(name)

    def all(self) -> list[JSON]:
        """By name."""
        with self._lock:
            return [self._records[name] for name in sorted(self._records)]

    def put(self, record: JSON) -> None:
        kept = _kept(record)
        with self._lock:
            if self._records.get(record["Name"]) != kept:
                self._records[record["Name"]] = kept
                self._revisions.pop(record["Name"], None)
                self._changed = True

    def drop(self, name: str) -> None:
        with self._lock:
            self._revisions.pop(name, None)
            self._changed |= self._records.pop(name, None) is not None

    def follow(self, read: Read) -> list[JSON]:
        """
        Read what has changed of all volumes; returns all, by name.

        read
            Tells all volumes by their revisions, and the records of those that are not at the
            revisions that it is given.
        """
        index = read(dict(self._revisions))
        with self._lock:
            for record in index["Records"]:
                self._records[record["Name"]] = _kept(record)
            gone = self._records.keys() - index["Revisions"].keys()
            for name in gone:
                del self._records[name]
            # What was removed between the two reads has no record; the next look will tell.
            self._revisions = {
                name: at for name, at in index["Revisions"].items() if name in self._records
            }
            self._changed |= bool(index["Records"] or gone)
        return self.all()

    def save(self) -> None:
        """Write it, where it has changed; what cannot be written is tried again."""
        if not self._changed:
            return
        with self._lock:
            self._changed, records = False, dict(self._records)
        try:
            files.write_json(self._path, {"Volumes": records}, durable=False)
        except LibstorageError as exc:
            self._changed = True
            log.warning("The cache of volumes cannot be written: %s", exc)


def _kept(record: JSON) -> JSON:
    return {field: record[field] for field in FIELDS}
