"""
A lost store is made anew from what lies with the data, and nothing mounted is touched.

``DSVOLUME_VOLUMES`` says how many volumes (24); the soak asks for 200.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from lab.site import NODE, Site, assert_clean
from libstorage.errors import ConfigInvalid, InvalidInput, StoreUnavailable
from libstorage.manager import Given, VolumeManager

KINDS: tuple[dict[str, Any], ...] = (
    {"policy": "local"},
    {"policy": "local", "fstype": "ext4", "mb_size": 4},
    {"policy": "local", "fstype": "xfs", "mb_size": 16},
    {"policy": "local", "fstype": "raw", "mb_size": 2},
    {"policy": "ram", "mb_size": 2},
    {"policy": "secure", "mb_size": 2},
)
KEPT = ("volumes/", "snapshots/", "attachments/")


def lose(site: Site, manager: VolumeManager) -> None:
    """The store's files are gone."""
    manager.close()
    site.lose_store()


def populate(manager: VolumeManager, count: int) -> None:
    """Volumes of every kind; some used, kept, cloned, labelled, mounted (one by two)."""
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        name = f"v{number}"
        manager.create(name, Given(**kind, labels={"n": str(number)}))
        if number % 3 == 0:
            manager.label(name, {"more": "x"})
        if "fstype" in kind and number % 2:
            manager.snapshot_create(f"{name}@a")
            manager.snapshot_clone(f"{name}@a", f"{name}-clone")
            manager.snapshot_clone(f"{name}@a", f"{name}-another")
            manager.snapshot_create(f"{name}@b")
        if number % 4 < 2:
            manager.mount(name, id="one")
        if number % 4 == 0 and kind["policy"] != "secure":
            manager.mount(name, id="two")


@pytest.mark.timeout(1200)
def test_records_snapshots_and_users_are_as_before(site: Site) -> None:
    manager = site.manager()
    populate(manager, int(os.environ.get("DSVOLUME_VOLUMES", "24")))
    before = {prefix: site.values(prefix) for prefix in KEPT}
    data = {key: value["id"] for key, value in site.values("data/").items()}
    made = {value["id"] for value in site.values("data/").values() if value["made"]}
    mounted = site.mounted()
    lose(site, manager)

    again = site.manager()
    with pytest.raises(StoreUnavailable, match="make it anew"):
        again.ls()
    told = again.doctor(rebuild=True)
    assert {finding["Fixed"] for finding in told} == {True}
    for prefix in KEPT:
        assert site.values(prefix) == before[prefix], prefix
    assert {k: v["id"] for k, v in site.values("data/").items()} == data
    assert {v["id"] for v in site.values("data/").values() if v["made"]} >= made
    assert site.mounted() == mounted
    assert again.doctor() == []
    assert [row["Name"] for row in again.ls()] == sorted(r["Name"] for r in again.ls())

    for record in again.ls():
        for user in record["Containers"] or ():
            again.unmount(record["Name"], id=user.removeprefix("salt:").removesuffix(f"@{NODE}"))
    assert_clean(site)


def test_a_mount_that_nobody_remembers_has_one_recovered_user(site: Site) -> None:
    manager = site.manager()
    for name, kind in (("image", KINDS[1]), ("directory", KINDS[0]), ("raw", KINDS[3])):
        manager.create(name, Given(**kind))
        manager.mount(name)
    lose(site, manager)
    for remembered in (site.config.run_dir / "attachments").iterdir():
        remembered.unlink()
    again = site.manager()
    again.doctor(rebuild=True)
    assert again.doctor() == []
    for name in ("image", "directory", "raw"):
        assert again.info(name)[0]["Containers"] == [f"salt:recovered@{NODE}"]
        again.unmount(name, id="recovered")
    assert_clean(site)


def test_only_an_empty_store_is_made_anew(site: Site) -> None:
    manager = site.manager()
    with pytest.raises(StoreUnavailable, match="No copy of a record"):
        manager.doctor(rebuild=True)
    manager.create("v", Given(policy="local"))
    with site.nothing_changes(), pytest.raises(InvalidInput, match="The store is not empty"):
        manager.doctor(rebuild=True)


def test_the_data_of_two_clusters_are_not_mixed(site: Site) -> None:
    manager = site.manager()
    manager.create("v", Given(**KINDS[1]))
    lose(site, manager)
    copy = next((site.root / "images").glob("*.json"))
    Path(copy.with_name("other.json")).write_text('{"cluster": "other", "record": {"Name": "w"}}')
    with pytest.raises(ConfigInvalid, match="several clusters"):
        site.manager().doctor(rebuild=True)
