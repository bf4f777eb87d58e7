"""What was changed among the volumes, and who keeps a list by it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsvolume_bridge.cache import Cache
from libstorage.manager import VolumeManager

Create = Callable[..., dict[str, Any]]


def names(records: list[dict[str, Any]]) -> list[str]:
    return [record["Name"] for record in records]


def test_an_index_has_the_records_that_were_changed(manager: VolumeManager, create: Create) -> None:
    assert manager.index() == {"Revision": 0, "Count": 0, "Records": []}
    for name in ("db1", "db2", "db3"):
        create(name, policy="local")
    index = manager.index()
    assert names(index["Records"]) == ["db1", "db2", "db3"] and index["Count"] == 3
    later = manager.index(index["Revision"])
    assert later["Records"] == [] and later["Count"] == 3
    manager.label("db2", {"a": "b"})
    manager.rm("db3")
    create("db4", policy="local")
    later = manager.index(index["Revision"])
    assert names(later["Records"]) == ["db2", "db4"] and later["Count"] == 3
    # Whoever has seen more than there is has seen another store.
    assert len(manager.index(10**6)["Records"]) == 3


def test_a_list_that_is_kept_by_it_is_the_stores(
    manager: VolumeManager, create: Create, tmp_path: Path
) -> None:
    asked = []

    def read(since: int) -> dict[str, Any]:
        asked.append(since > 0)
        return manager.index(since)

    cache = Cache(tmp_path / "volumes.json")

    def follow() -> list[str]:
        asked.clear()
        return names(cache.follow(read))

    assert follow() == []
    for name in ("db1", "db2", "db3"):
        create(name)
    assert follow() == ["db1", "db2", "db3"]
    create("db4", policy="local")
    assert follow() == ["db1", "db2", "db3", "db4"] and asked == [True]
    # What is gone is in no answer: the count tells, also where another one has come.
    manager.rm("db1", purge=True)
    create("db5", policy="local")
    assert follow() == ["db2", "db3", "db4", "db5"] and asked == [True, False]
    manager.rm("db2", purge=True)
    create("db2", policy="ram", mb_size=7)
    assert follow() == ["db2", "db3", "db4", "db5"] and asked == [True]
    assert cache.all()[0]["Policy"] == "ram"
    cache.save()
    manager.rm("db5")
    again = Cache(tmp_path / "volumes.json")
    assert names(again.all()) == ["db2", "db3", "db4", "db5"]
    cache = again
    assert follow() == ["db2", "db3", "db4"] and len(asked) == 1
