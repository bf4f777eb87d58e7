"""States of QoS: profiles, and which volumes they limit; what they foretell they do."""

from typing import Any

import pytest
from loaded import States
from situations import KINDS, nothing_is_written
from test_states import foretold, refused

from lab.site import Site

BOTH = pytest.mark.parametrize("test", [False, True], ids=["real", "test"])
EXT4 = KINDS["ext4"]
SLOW = {"read_bw": 2000, "weight": 777}


def volume(site: Site, name: str = "v") -> dict[str, Any]:
    return site.values("volumes/")[f"volumes/{name}"]


# -- profiles ------------------------------------------------------------------------------------


def test_a_profile_is_made_changed_and_removed(states: States, site: Site) -> None:
    answer = foretold(states, site, "qos_profile_present", "slow", **SLOW)
    assert answer["comment"] == "QoS profile slow would be created."
    assert answer["changes"] == {
        "Profile": {"old": None, "new": "slow"},
        "ReadIOPS": {"old": None, "new": 100},
        "ReadBW": {"old": None, "new": 2000},
        "WriteIOPS": {"old": None, "new": 100},
        "WriteBW": {"old": None, "new": 10000},
        "Weight": {"old": None, "new": 777},
    }
    answer = foretold(states, site, "qos_profile_present", "slow", read_bw=3000, weight=777)
    assert answer["changes"] == {"ReadBW": {"old": 2000, "new": 3000}}
    assert answer["comment"] == "QoS profile slow would be edited."
    assert foretold(states, site, "qos_profile_present", "slow")["changes"] == {}
    answer = foretold(states, site, "qos_profile_absent", "slow")
    assert answer["changes"]["Profile"] == {"old": "slow", "new": None}
    assert foretold(states, site, "qos_profile_absent", "slow")["changes"] == {}


def test_the_default_can_be_declared(states: States, site: Site) -> None:
    answer = foretold(states, site, "qos_profile_present", "default", read_iops=7)
    assert answer["changes"] == {"ReadIOPS": {"old": 200, "new": 7}}


@BOTH
def test_a_profile_in_use_and_the_default_stay(states: States, site: Site, test: bool) -> None:
    states.qos_profile_present("slow", **SLOW)
    states.present("v", **EXT4, qos_profile="slow")
    answer = refused(states, site, test, "qos_profile_absent", "slow")
    assert answer["comment"].startswith("QoS profile slow is in use by v; apply another")
    assert "stays" in refused(states, site, test, "qos_profile_absent", "default")["comment"]


@BOTH
@pytest.mark.parametrize(
    ("name", "limits", "words"),
    [
        ("slow", {"weight": 1}, "weight must be a whole number from 10 to 1000, not '1'"),
        ("slow", {"read_bw": "fast"}, "read_bw must be a whole number"),
        ("a b", {}, "Not a profile name: 'a b'"),
    ],
)
def test_a_bad_profile_is_refused(
    states: States, site: Site, test: bool, name: str, limits: dict[str, Any], words: str
) -> None:
    states.present("v", **EXT4)
    assert words in refused(states, site, test, "qos_profile_present", name, **limits)["comment"]


# -- volumes -------------------------------------------------------------------------------------


def test_present_applies_qos(states: States, site: Site) -> None:
    states.qos_profile_present("slow", **SLOW)
    answer = foretold(states, site, "present", "v", **EXT4, qos_profile="slow")
    assert answer["changes"]["QoSProfile"] == {"old": None, "new": "slow"}
    assert answer["changes"]["QoSState"] == {"old": None, "new": True}
    answer = foretold(states, site, "present", "v", **EXT4, qos_profile="default", labels="a=1")
    assert answer["changes"] == {
        "Labels": {"old": {}, "new": {"a": "1"}},
        "QoSProfile": {"old": "slow", "new": "default"},
    }
    assert answer["comment"] == "Volume v would be labelled and limited by default."
    answer = foretold(states, site, "present", "v", **EXT4, qos=False)
    assert answer["comment"] == "Volume v would be limited no more."
    assert foretold(states, site, "present", "v", **EXT4)["changes"] == {}


def test_present_grows_labels_and_limits_in_one(states: States, site: Site) -> None:
    states.present("v", **EXT4)
    larger = {**EXT4, "size": EXT4["size"] + 8}
    answer = foretold(states, site, "present", "v", **larger, labels="a=1", qos=True)
    assert sorted(answer["changes"]) == ["Labels", "MBSize", "QoSState"]
    assert answer["comment"] == "Volume v would be resized, labelled and limited by default."


def test_qos_applied_to_a_volume_in_use(states: States, site: Site) -> None:
    states.qos_profile_present("slow", **SLOW)
    states.present("v", **EXT4)
    states.mounted("v")
    answer = foretold(states, site, "qos_applied", "v", profile="slow")
    assert answer["changes"] == {
        "QoSProfile": {"old": "", "new": "slow"},
        "QoSState": {"old": False, "new": True},
    }
    assert foretold(states, site, "qos_applied", "v")["changes"] == {}
    answer = foretold(states, site, "qos_applied", "v", enabled=False)
    assert answer["changes"] == {"QoSState": {"old": True, "new": False}}
    assert (volume(site)["QoSState"], volume(site)["QoSProfile"]) == (False, "slow")


@BOTH
@pytest.mark.parametrize("kind", ["directory", "ram", "secure"])
def test_what_cannot_be_limited_is_refused(
    states: States, site: Site, test: bool, kind: str
) -> None:
    states.present("v", **KINDS[kind])
    for function, name, arguments in (
        ("qos_applied", "v", {}),
        ("present", "v", {**KINDS[kind], "qos": True}),
        ("present", "w", {**KINDS[kind], "qos_profile": "default"}),
    ):
        answer = refused(states, site, test, function, name, **arguments)
        assert "limit" in answer["comment"]


@BOTH
def test_what_is_not_there_is_refused(states: States, site: Site, test: bool) -> None:
    states.present("v", **EXT4)
    assert refused(states, site, test, "qos_applied", "w")["comment"] == "No such volume: w."
    for function in ("qos_applied", "present"):
        argument = "profile" if function == "qos_applied" else "qos_profile"
        answer = refused(states, site, test, function, "v", **{argument: "nope"})
        assert answer["comment"] == "No such QoS profile: nope; there are default."
    answer = refused(states, site, test, "qos_applied", "v", enabled="yes")
    assert answer["comment"] == "enabled must be true or false, not 'yes'."
    answer = refused(states, site, test, "present", "v", qos="maybe")
    assert answer["comment"] == "qos must be true or false, not 'maybe'."
    answer = refused(states, site, test, "present", "v", size="many")
    assert answer["comment"] == "size must be a whole number of MB, not 'many'."


# -- several in one run --------------------------------------------------------------------------

RUNS: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "profile, then volume": [
        ("qos_profile_present", "slow", SLOW),
        ("present", "v", {**EXT4, "qos_profile": "slow"}),
        ("mounted", "v", {}),
    ],
    "profile and volume, then applied": [
        ("qos_profile_present", "slow", SLOW),
        ("present", "v", EXT4),
        ("qos_applied", "v", {"profile": "slow"}),
        ("qos_applied", "v", {"profile": "slow"}),
        ("qos_applied", "v", {"enabled": False}),
    ],
    "a profile of the volume's name": [
        ("qos_profile_present", "v", SLOW),
        ("present", "v", EXT4),
        ("qos_applied", "v", {"profile": "v"}),
    ],
    "not before the profile": [
        ("present", "v", EXT4),
        ("qos_applied", "v", {"profile": "slow"}),
        ("qos_profile_present", "slow", SLOW),
    ],
}


@pytest.mark.parametrize("run", RUNS)
def test_a_test_run_foretells_the_whole_run(states: States, site: Site, run: str) -> None:
    states.present("other", policy="local")
    with nothing_is_written(site):
        told = states.run(RUNS[run], test=True)
    real = states.run(RUNS[run])
    assert [answer["changes"] for answer in told] == [answer["changes"] for answer in real]
    expected = [None if answer["changes"] else answer["result"] for answer in real]
    assert [answer["result"] for answer in told] == expected
