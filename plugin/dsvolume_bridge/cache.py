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
Read = Callable[[int], JSON]
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
        self._revision = 0
        """Up to where the store's changes are in here."""
        self._changed = False
        self._lock = threading.Lock()
        self._following = threading.Lock()

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
                self._changed = True

    def drop(self, name: str) -> None:
        with self._lock:
            self._changed |= self._records.pop(name, None) is not None

    def follow(self, read: Read) -> list[JSON]:
        """
        Read what has changed of all volumes; returns all, by name.

        read
            Tells what was changed after a revision, and how many volumes there are.
        """
        with self._following:
            index = read(self._revision)
            if not self._revision:
                self._replace(index["Records"])
            elif not self._grow(index):
                # Some are gone, or the store is an older one.
                index = read(0)
                self._replace(index["Records"])
            self._revision = index["Revision"]
        return self.all()

    def _grow(self, index: JSON) -> bool:
        """Take in what was changed; False where that does not make it whole."""
        with self._lock:
            self._merge(index["Records"])
            count, revision = len(self._records), self._revision
            return bool(count == index["Count"] and revision <= index["Revision"])

    def _replace(self, records: list[JSON]) -> None:
        """Have these, and no others."""
        there = {record["Name"] for record in records}
        with self._lock:
            for name in self._records.keys() - there:
                del self._records[name]
                self._changed = True
            self._merge(records)

    def _merge(self, records: list[JSON]) -> None:
        for record in records:
            kept = _kept(record)
            if self._records.get(record["Name"]) != kept:
                self._records[record["Name"]] = kept
                self._changed = True

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
