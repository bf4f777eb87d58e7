"""The states on snapshots: idempotent, honest in a test run, and refused where the verbs refuse."""

from typing import Any

import pytest
from loaded import States
from promises import foretold, refused

from lab.site import NODE, Site, assert_clean

BOTH = pytest.mark.parametrize("test", [False, True], ids=["real", "test"])
EXT4 = {"policy": "local", "fstype": "ext4", "size": 8}


@pytest.fixture
def volume(states: States) -> str:
    states.present("v", **EXT4, opt="atime=false")
    return "v"


def test_a_snapshot_is_made_and_removed_as_foretold(
    states: States, site: Site, volume: str
) -> None:
    made = foretold(states, site, "snapshot_present", "v@s")
    assert made["changes"] == {"Name": {"old": None, "new": "v@s"}}
    gone = foretold(states, site, "snapshot_absent", "v@s")
    assert gone["changes"] == {"Name": {"old": "v@s", "new": None}}
    states.absent("v")
    assert_clean(site)


def test_a_clone_is_made_as_foretold(states: States, site: Site, volume: str) -> None:
    states.snapshot_present("v@s")
    answer = foretold(states, site, "cloned", "w", snapshot="v@s", opt="exec=false")
    new = {field: change["new"] for field, change in answer["changes"].items()}
    assert (new["Name"], new["ParentSnapshot"], new["MBSize"]) == ("w", "v@s", 8)
    assert new["Options"] == {"atime": "false", "exec": "false"}


@BOTH
def test_a_snapshot_with_clones_stays(states: States, site: Site, volume: str, test: bool) -> None:
    states.snapshot_present("v@s")
    states.cloned("w", snapshot="v@s")
    answer = refused(states, site, test, "snapshot_absent", "v@s")
    assert answer["comment"] == "Volume snapshot inuse."


@BOTH
@pytest.mark.parametrize(
    ("function", "name", "arguments", "says"),
    [
        ("snapshot_present", "nix@s", {}, "No such volume: nix."),
        ("snapshot_absent", "nix@s", {}, "No such volume: nix."),
        ("snapshot_present", "v", {}, "Not a snapshot"),
        ("snapshot_present", "plain@s", {}, "keeps no snapshots"),
        ("cloned", "w", {"snapshot": "v@nix"}, "No such snapshot: v@nix."),
        ("cloned", "plain", {"snapshot": "v@s"}, "Volume exists with other options"),
    ],
)
def test_what_cannot_be_is_refused(
    states: States,
    site: Site,
    volume: str,
    test: bool,
    function: str,
    name: str,
    arguments: dict[str, Any],
    says: str,
) -> None:
    states.present("plain", policy="local")
    states.snapshot_present("v@s")
    assert says in refused(states, site, test, function, name, **arguments)["comment"]


def test_one_run_makes_volume_snapshot_and_clone_and_foretells_it(
    states: States, site: Site
) -> None:
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("present", "v", {**EXT4, "labels": {"team": "web"}}),
        ("snapshot_present", "v@s", {}),
        ("cloned", "w", {"snapshot": "v@s"}),
        ("mounted", "w", {}),
    ]
    told = states.run(steps, test=True)
    assert [answer["result"] for answer in told] == [None] * 4
    done = states.run(steps)
    assert [answer["result"] for answer in done] == [True] * 4
    assert [a["changes"] for a in told] == [a["changes"] for a in done]
    assert all(not answer["changes"] for answer in states.run(steps))
    assert done[3]["changes"]["Containers"]["new"] == [f"salt:salt@{NODE}"]


@pytest.mark.parametrize("labels", [None, {"team": "db"}])
def test_present_grows_what_is_smaller_as_foretold(
    states: States, site: Site, volume: str, labels: dict[str, str] | None
) -> None:
    declared = {**EXT4, "size": 16, "labels": labels}
    answer = foretold(states, site, "present", "v", **declared)
    assert answer["changes"]["MBSize"] == {"old": 8, "new": 16}
    assert ("Labels" in answer["changes"]) == bool(labels)


@BOTH
@pytest.mark.parametrize("declared", [{"size": 4}, {"size": 16, "fstype": "xfs"}])
def test_present_neither_shrinks_nor_grows_what_differs(
    states: States, site: Site, volume: str, test: bool, declared: dict[str, Any]
) -> None:
    refused(states, site, test, "present", "v", **declared)
