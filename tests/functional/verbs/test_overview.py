"""The cluster as a whole: what is used most, the history of a name, what several doctors found."""

from typing import Any

import pytest

from lab.site import KEEPS_TRASH, Site
from libstorage import display
from libstorage.errors import InvalidInput, NoSuchVolume
from libstorage.manager import Given, VolumeManager
from libstorage.overview import history, merged, top

HANGS = """
from libstorage.controllers.local import Local
def hangs(*_): print("at it", flush=True); time.sleep(60)
Local.create = hangs
manager.create("v", Given(policy="local", fstype="ext4", mb_size=8))
"""


@pytest.fixture
def manager(site: Site) -> VolumeManager:
    return site.manager(trash=KEEPS_TRASH)


def test_the_volumes_with_the_most_users_come_first_then_the_last_used(
    site: Site, manager: VolumeManager
) -> None:
    other = site.manager("node2")
    for name in ("never", "before", "last", "one", "two"):
        manager.create(name, Given(policy="local"))
    for name in ("before", "last"):
        manager.mount(name)
        manager.unmount(name)
    other.mount("one")
    manager.mount("two", id="a")
    manager.mount("two", id="b")
    seen = top(manager, 10)
    assert [row["Name"] for row in seen["Top"]] == ["two", "one", "last", "before", "never"]
    assert seen["Top"][0] == {
        "Name": "two",
        "Policy": "local",
        "MBSize": 0,
        "Users": 2,
        "Nodes": ["node1"],
        "LastAccessTimestamp": manager.info("two")[0]["LastAccessTimestamp"],
    }
    assert [(n["Name"], n["Users"], n["Attached"]) for n in seen["Nodes"]] == [
        ("node1", 2, 1),
        ("node2", 1, 1),
    ]
    assert [row["Name"] for row in top(manager, 2)["Top"]] == ["two", "one"]
    here = top(manager, 10, "node2")
    assert [row["Name"] for row in here["Top"]] == ["one"]
    assert [row["Name"] for row in here["Nodes"]] == ["node2"]
    shown = display.cluster(seen, str)
    assert shown.splitlines()[-1].split() == ["never", "local", "0", "0", "-", "-"]


def test_a_history_goes_from_the_first_create_to_the_change_in_progress(
    site: Site, manager: VolumeManager
) -> None:
    with pytest.raises(NoSuchVolume):
        history(manager, "v")
    with pytest.raises(InvalidInput):
        history(manager, "v*")
    manager.create("v", Given(policy="local", fstype="ext4", mb_size=8))
    manager.snapshot_create("v@s")
    manager.snapshot_rm("v@s")
    manager.create("V", Given(policy="local"))  # another volume: filters know no case
    manager.qos.create("v", {})  # a profile has names of its own
    manager.rm("v")
    gone = history(manager, "v")
    verbs = ["create", "snapshot_create", "snapshot_rm", "rm"]
    assert [event["Verb"] for event in gone["Events"]] == verbs
    assert (gone["Volume"], gone["Operation"]) == (None, None)
    assert [row["Name"] for row in gone["Trash"]] == ["v"]

    process = site.python(HANGS)
    assert process.stdout and process.stdout.readline() == "at it\n"
    coming = history(manager, "v")
    assert coming["Volume"] is None
    assert (coming["Operation"]["Verb"], coming["Operation"]["Alive"]) == ("create", True)
    assert "Token" not in coming["Operation"]
    process.kill()
    process.wait(20)
    manager.doctor(fix=True)
    manager.undelete("v")
    back = history(manager, "v")
    assert back["Volume"]["Name"] == "v" and back["Trash"] == []
    assert [event["Verb"] for event in back["Events"]][: len(verbs)] == verbs
    assert back["Events"][-1]["Verb"] == "undelete"


def finding(kind: str, name: str, says: str, fixed: bool | None = None) -> dict[str, Any]:
    return {"Kind": kind, "Name": name, "Says": says, "Fixed": fixed}


def test_what_several_doctors_found_is_said_once_with_all_their_names() -> None:
    everywhere = finding("operation", "v", "The create of v was left.")
    rows = merged(
        {
            "node2": [everywhere, finding("mount", "w", "w is not mounted.", True)],
            "node1": [everywhere, finding("mount", "w", "w is not mounted.", False)],
            "node3": [],
        }
    )
    assert [(row["Nodes"], row["Kind"], row["Fixed"]) for row in rows] == [
        (["node1"], "mount", False),
        (["node1", "node2"], "operation", None),
        (["node2"], "mount", True),
    ]
    text = display.cluster({"Findings": rows, "Asked": ["node1", "node2", "node3"]}, str)
    assert text.splitlines() == [
        "node1: mount w: w is not mounted. (not mended)",
        "node1, node2: operation v: The create of v was left.",
        "node2: mount w: w is not mounted. (mended)",
        "",
        "asked: node1, node2, node3",
    ]
    assert merged({}) == []
