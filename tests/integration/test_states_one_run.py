"""Several states of one volume in one run: a test run foretells what the real run does."""

from typing import Any

import pytest
from loaded import States
from situations import KINDS, nothing_is_written

from lab.site import NODE, Site

EXT4 = KINDS["ext4"]
Step = tuple[str, str, dict[str, Any]]

RUNS: dict[str, tuple[list[Step], list[Step]]] = {
    "created, then mounted": (
        [],
        [("present", "v", EXT4), ("mounted", "v", {})],
    ),
    "created, then mounted for two": (
        [],
        [("present", "v", EXT4), ("mounted", "v", {"id": "a"}), ("mounted", "v", {"id": "b"})],
    ),
    "unmounted, then removed": (
        [("present", "v", EXT4), ("mounted", "v", {})],
        [("unmounted", "v", {}), ("absent", "v", {})],
    ),
    "unmounted for two, then removed": (
        [("present", "v", EXT4), ("mounted", "v", {"id": "a"}), ("mounted", "v", {"id": "b"})],
        [
            ("unmounted", "v", {"id": "a"}),
            ("unmounted", "v", {"id": "b"}),
            ("absent", "v", {}),
        ],
    ),
    "unmounted for one of two, so not removed": (
        [("present", "v", EXT4), ("mounted", "v", {"id": "a"}), ("mounted", "v", {"id": "b"})],
        [("unmounted", "v", {"id": "a"}), ("absent", "v", {})],
    ),
    "unmounted for two of three": (
        [("present", "v", EXT4), *(("mounted", "v", {"id": id}) for id in "abc")],
        [("unmounted", "v", {"id": "c"}), ("unmounted", "v", {"id": "a"}), ("absent", "v", {})],
    ),
    "mounted for two": (
        [("present", "v", EXT4)],
        [("mounted", "v", {"id": "a"}), ("mounted", "v", {"id": "b"})],
    ),
    "handed over": (
        [("present", "v", EXT4), ("mounted", "v", {"id": "a"})],
        [("mounted", "v", {"id": "b"}), ("unmounted", "v", {"id": "a"})],
    ),
    "created, then protected": (
        [],
        [("present", "v", EXT4), ("protected", "v", {}), ("protected", "v", {"protected": True})],
    ),
    "created, then left unprotected": (
        [],
        [("present", "v", EXT4), ("protected", "v", {"protected": False})],
    ),
    "protected, so not removed": (
        [("present", "v", EXT4)],
        [("protected", "v", {}), ("absent", "v", {})],
    ),
    "unprotected, then removed": (
        [("present", "v", EXT4), ("protected", "v", {})],
        [("protected", "v", {"protected": False}), ("absent", "v", {})],
    ),
    "unprotected and unmounted, then removed": (
        [("present", "v", EXT4), ("protected", "v", {}), ("mounted", "v", {})],
        [("protected", "v", {"protected": False}), ("unmounted", "v", {}), ("absent", "v", {})],
    ),
    "unprotected but mounted, so not removed": (
        [("present", "v", EXT4), ("protected", "v", {}), ("mounted", "v", {})],
        [("protected", "v", {"protected": False}), ("absent", "v", {})],
    ),
    "unmounted but protected, so not removed": (
        [("present", "v", EXT4), ("protected", "v", {}), ("mounted", "v", {})],
        [("unmounted", "v", {}), ("absent", "v", {})],
    ),
    "protected, then unprotected, then removed": (
        [("present", "v", EXT4)],
        [("protected", "v", {}), ("protected", "v", {"protected": False}), ("absent", "v", {})],
    ),
    "removed, so not protected": (
        [("present", "v", EXT4)],
        [("absent", "v", {}), ("protected", "v", {})],
    ),
    "labelled twice, then removed": (
        [("present", "v", {**EXT4, "labels": "a=1"})],
        [
            ("present", "v", {"labels": "b=2,c=3"}),
            ("present", "v", {"labels": {"a": "4", "b": ""}}),
            ("present", "v", {"labels": ["a=4", "c=3"]}),
            ("absent", "v", {}),
        ],
    ),
    "labelled and back": (
        [("present", "v", {**EXT4, "labels": "a=1"})],
        [("present", "v", {"labels": "a=2"}), ("present", "v", {"labels": "a=1"})],
    ),
    "of another name": (
        [],
        [("present", "v", EXT4), ("mounted", "w", {}), ("absent", "w", {})],
    ),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_test_run_foretells_the_whole_run(states: States, site: Site, run: str) -> None:
    before, steps = RUNS[run]
    for function, name, arguments in before:
        assert getattr(states, function)(name, **arguments)["result"] is True
    with nothing_is_written(site):
        foretold = states.run(steps, test=True)
    real = states.run(steps)
    assert [answer["changes"] for answer in real] == [answer["changes"] for answer in foretold]
    expected = [None if answer["changes"] else answer["result"] for answer in real]
    assert [answer["result"] for answer in foretold] == expected


def test_a_present_that_fails_foretells_nothing(states: States, site: Site) -> None:
    steps: list[Step] = [("present", "v", {**EXT4, "size": 1}), ("mounted", "v", {})]
    for test in (True, False):
        assert [answer["result"] for answer in states.run(steps, test=test)] == [False, False]


def test_the_users_of_a_foretold_volume_are_named_with_their_node(
    states: States, site: Site
) -> None:
    steps: list[Step] = [("present", "v", EXT4), ("mounted", "v", {"id": "a"})]
    mounted = states.run(steps, test=True)[1]
    assert mounted["changes"] == {
        "Mountpoint": {"old": "", "new": str(site.root / "mounts" / "v")},
        "Containers": {"old": [], "new": [f"salt:a@{NODE}"]},
    }
