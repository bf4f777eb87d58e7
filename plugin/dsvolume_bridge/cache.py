"""
The volumes that this node has heard of, for the time in which the store is away.

Only *yes* is ever answered from here: that there is no such volume is told by the store alone. A
volume that was removed elsewhere meanwhile is answered for still, and its mount then refused.
"""

import logging
from pathlib import Path
from typing import Any

from libstorage.errors import LibstorageError
from libstorage.host import files

log = logging.getLogger(__name__)

JSON = dict[str, Any]
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
        self._changed = False

    def get(self, name: str) -> JSON | None:
        return self._records.get(name)

    def all(self) -> list[JSON]:
        return list(self._records.values())

    def put(self, record: JSON) -> None:
        kept = _kept(record)
        if self._records.get(record["Name"]) != kept:
            self._records[record["Name"]] = kept
            self._changed = True

    def drop(self, name: str) -> None:
        self._changed |= self._records.pop(name, None) is not None

    def replace(self, records: list[JSON]) -> None:
        """The store has told of all volumes."""
        fresh = {record["Name"]: _kept(record) for record in records}
        self._changed |= fresh != self._records
        self._records = fresh

    def save(self) -> None:
        """Write it, where it has changed; what cannot be written is tried again."""
        if not self._changed:
            return
        self._changed = False
        try:
            files.write_json(self._path, {"Volumes": dict(self._records)}, durable=False)
        except LibstorageError as exc:
            self._changed = True
            log.warning("The cache of volumes cannot be written: %s", exc)


def _kept(record: JSON) -> JSON:
    return {field: record[field] for field in FIELDS}
