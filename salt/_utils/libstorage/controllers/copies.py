"""Copies of records in files beside the data, for controllers whose data are files."""

import time
from collections.abc import Iterator
from pathlib import Path

from ..host import files
from ..records import JSON, Snapshot, Volume
from .contract import Found


def put(path: Path, volume: Volume, cluster: str, trashed: JSON | None = None) -> None:
    """Write a record's copy; it is on the disk when this returns."""
    state = {} if trashed is None else {"trashed": trashed}
    files.write_json(path, {"cluster": cluster, "record": volume.to_json(), **state})


def put_snapshot(path: Path, volume: Volume, snapshot: Snapshot, cluster: str) -> None:
    """Write a snapshot's copy, with the Id of its volume."""
    record = snapshot.to_json()
    files.write_json(path, {"cluster": cluster, "record": record, "volume": volume.id})


def drop(path: Path) -> None:
    """Remove a copy, and what a killed put has left of one."""
    files.remove_json(path)


def all_in(folder: Path) -> list[JSON]:
    """All copies in a directory, as they were put: ``{"cluster", "record"}``, snapshots' too."""
    read = (files.read_json(path) for path in sorted(folder.glob("*.json")))
    return [copy for copy in read if copy and "cluster" in copy and "record" in copy]


def found(id: str, path: Path, copy: Path, what: str) -> Iterator[Found]:
    """A backend object at ``path`` as an inventory lists it; nothing where it has just gone."""
    held = files.read_json(copy) or {}
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return
    yield Found(
        id=id,
        what=f"{what} {path}",
        age=age,
        copy=held.get("record"),
        trashed=held.get("trashed"),
        cluster=held.get("cluster", ""),
    )
