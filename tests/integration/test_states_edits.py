"""Edits by states: present sets labels, protected protects; what they foretell they do."""

import os
import signal
from typing import Any

import pytest
from loaded import States
from situations import KINDS, leave_operation, nothing_is_written
from test_states import foretold, refused

from lab.site import Site

BOTH = pytest.mark.parametrize("test", [False, True], ids=["real", "test"])
EXT4 = KINDS["ext4"]


def labels(site: Site) -> dict[str, str]:
    made: dict[str, str] = site.values("volumes/")["volumes/v"]["Labels"]
    return made


# -- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("declared", "after"),
    [
        ({"team": "db"}, {"team": "db", "tier": "1"}),
        ({"new": 7}, {"team": "web", "tier": "1", "new": "7"}),
        ("team=db,new=x", {"team": "db", "tier": "1", "new": "x"}),
        (["tier=2", {"new": True}], {"team": "web", "tier": "2", "new": "true"}),
        ({"team": "", "never": ""}, {"tier": "1"}),
    ],
)
def test_present_sets_the_declared_labels_and_no_others(
    states: States, site: Site, kind: str, declared: Any, after: dict[str, str]
) -> None:
    before = {"team": "web", "tier": "1"}
    states.present("v", **KINDS[kind], labels=before)
    answer = foretold(states, site, "present", "v", **KINDS[kind], labels=declared)
    assert answer["changes"] == {"Labels": {"old": before, "new": after}}
    assert answer["comment"] == "Volume v would be labelled."
    assert labels(site) == after


@BOTH
@pytest.mark.parametrize("declared", [None, {}, "", [], {"team": "web"}, "tier=1", {"none": ""}])
def test_labels_that_are_as_declared_are_left(
    states: States, site: Site, test: bool, declared: Any
) -> None:
    states.present("v", **EXT4, labels={"team": "web", "tier": "1"})
    with nothing_is_written(site):
        answer = states.present("v", test=test, labels=declared)
    assert (answer["result"], answer["changes"]) == (True, {})
    assert answer["comment"] == "Volume v is present."


@BOTH
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"a b": "1"}, "Not a label: 'a b'"),
        ({"a": "1\n2"}, "The value of label a must be at most 255"),
        ("team", "labels must be KEY=VALUE, not 'team'"),
        ({"a": None}, "labels holds 'None'"),
        (7, "labels must be KEY=VALUE, not '7'"),
    ],
)
def test_bad_labels_are_refused(
    states: States, site: Site, test: bool, there: bool, declared: Any, words: str
) -> None:
    states.present("v" if there else "other", **EXT4)
    assert words in refused(states, site, test, "present", "v", **EXT4, labels=declared)["comment"]


@BOTH
def test_labels_are_not_set_where_anything_else_differs(
    states: States, site: Site, test: bool
) -> None:
    states.present("v", **EXT4)
    other = {**EXT4, "size": 4, "labels": {"team": "web"}}
    assert "size 8, asked 4" in refused(states, site, test, "present", "v", **other)["comment"]


def test_a_mounted_volume_is_labelled(states: States, site: Site) -> None:
    states.present("v", **EXT4)
    states.mounted("v")
    foretold(states, site, "present", "v", labels={"team": "web"})
    assert site.mounted() == [site.root / "mounts" / "v"]


# -- protected -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_protected_does_what_it_foretells(states: States, site: Site, kind: str) -> None:
    states.present("v", **KINDS[kind])
    answer = foretold(states, site, "protected", "v")
    assert answer["changes"] == {"Protected": {"old": False, "new": True}}
    assert answer["comment"] == "Volume v would be protected."
    answer = foretold(states, site, "protected", "v", protected=False)
    assert answer["changes"] == {"Protected": {"old": True, "new": False}}
    assert answer["comment"] == "Volume v would be unprotected."
    foretold(states, site, "absent", "v")


@BOTH
@pytest.mark.parametrize("protected", [True, False])
def test_protected_is_content_with_what_is_so(
    states: States, site: Site, test: bool, protected: bool
) -> None:
    states.present("v", **EXT4)
    states.protected("v", protected=protected)
    with nothing_is_written(site):
        answer = states.protected("v", test=test, protected=protected)
    assert (answer["result"], answer["changes"]) == (True, {})
    assert answer["comment"] == f"Volume v is {'' if protected else 'un'}protected."


@BOTH
def test_absent_is_refused_while_protected(states: States, site: Site, test: bool) -> None:
    states.present("v", **EXT4)
    states.protected("v")
    for arguments in ({}, {"force": True}):
        answer = refused(states, site, test, "absent", "v", **arguments)
        assert answer["comment"] == "Volume is protected: v; unprotect it first."


@BOTH
@pytest.mark.parametrize("protected", [True, False])
def test_protected_refuses_what_does_not_exist(
    states: States, site: Site, test: bool, protected: bool
) -> None:
    states.present("other", policy="local")
    answer = refused(states, site, test, "protected", "v", protected=protected)
    assert answer["comment"] == "No such volume: v."


@BOTH
@pytest.mark.parametrize("word", ["yes", 1, None, "true"])
def test_protected_is_true_or_false(states: States, site: Site, test: bool, word: Any) -> None:
    states.present("v", **EXT4)
    answer = refused(states, site, test, "protected", "v", protected=word)
    assert answer["comment"].startswith("protected must be true or false, not ")


# -- beside others -------------------------------------------------------------------------------

BUSY_RM = """
from libstorage.controllers.local import Local
def hangs(*_): print("at it", flush=True); time.sleep(60)
Local.destroy = hangs
manager.rm("v")
"""
EDITS: list[tuple[str, dict[str, Any]]] = [
    ("present", {**EXT4, "labels": {"team": "web"}}),
    ("protected", {}),
]


@BOTH
@pytest.mark.parametrize(("function", "arguments"), EDITS)
def test_a_removal_in_progress_is_waited_for_and_named(
    states: States, site: Site, test: bool, function: str, arguments: dict[str, Any]
) -> None:
    states.present("v", **EXT4)
    remover = site.python(BUSY_RM)
    assert remover.stdout is not None and remover.stdout.readline() == "at it\n"
    answer = refused(states, site, test, function, "v", **arguments, timeout=0.3)
    assert f"v is busy: rm by process {remover.pid}" in answer["comment"]
    os.killpg(remover.pid, signal.SIGKILL)


@BOTH
def test_protected_does_not_pretend_to_have_saved_what_was_being_removed(
    states: States, site: Site, test: bool
) -> None:
    states.present("v", **EXT4)
    leave_operation(site, "rm", "v")
    with nothing_is_written(site) if test else site.nothing_changes():
        answer = states.protected("v", test=test)
    assert (answer["result"], answer["changes"]) == (False, {})
    assert answer["comment"] == "No such volume: v."
