"""The states: what they make, what they leave alone, and what they refuse."""

from typing import Any

import pytest
from loaded import States
from promises import foretold, refused
from situations import KINDS, nothing_is_written

from lab.site import NODE, Site

BOTH = pytest.mark.parametrize("test", [False, True], ids=["real", "test"])
EXT4 = KINDS["ext4"]
USER = f"salt:salt@{NODE}"

# -- present -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_present_makes_what_it_foretells(states: States, site: Site, kind: str) -> None:
    answer = foretold(states, site, "present", "v", **KINDS[kind], labels={"team": "web"})
    assert answer["changes"]["Name"] == {"old": None, "new": "v"}
    assert answer["changes"]["Labels"] == {"old": None, "new": {"team": "web"}}
    [record] = site.values("volumes/").values()
    assert all(record[field] == change["new"] for field, change in answer["changes"].items())


def test_present_compares_only_what_is_declared(states: States, site: Site) -> None:
    states.present("v", **EXT4, shared=False, labels="team=web", opt="atime=false")
    for declared in ({}, {"policy": "local"}, {"size": 8}, {"labels": {"team": "web"}}, EXT4):
        answer = states.present("v", **declared)
        assert (answer["result"], answer["changes"]) == (True, {}), declared
        assert answer["comment"] == "Volume v is present."


DIFFERENCES = [
    ({"policy": "ram"}, "policy local, asked ram"),
    ({"fstype": "xfs", "size": 32}, "fstype ext4, asked xfs"),
    ({"fstype": "ext3"}, "fstype ext4, asked ext3"),
    ({"size": 4}, "size 8, asked 4"),
    ({"shared": False}, "shared true, asked false"),
    ({"automigrate": True}, "automigrate false, asked true"),
    ({"opt": {"exec": "false"}}, "options none, asked exec=false"),
]


@BOTH
@pytest.mark.parametrize(("other", "words"), DIFFERENCES)
def test_present_refuses_a_difference(
    states: States, site: Site, test: bool, other: dict[str, Any], words: str
) -> None:
    states.present("v", **EXT4, labels={"team": "web"})
    answer = refused(states, site, test, "present", "v", **{**EXT4, **other})
    assert answer["comment"].startswith("Volume exists with other options: ")
    assert words in answer["comment"]


@BOTH
@pytest.mark.parametrize(
    ("name", "declared", "words"),
    [
        ("v", {"policy": "golden"}, "Unknown policy 'golden'"),
        ("v", {}, "Policy distributed is served by no controller"),
        ("../v", {"policy": "local"}, "Not a volume name"),
        ("v", {**EXT4, "size": 0}, "size must be a number of MB from 1 up"),
        ("v", {**EXT4, "size": 10**12}, "MB free, asked"),
        ("v", {"policy": "secure", "shared": True}, "A secure volume cannot be shared"),
        ("v", {"policy": "local", "timeout": "soon"}, "timeout must be a number of seconds"),
    ],
)
def test_present_refuses_what_cannot_be(
    states: States, site: Site, test: bool, name: str, declared: dict[str, Any], words: str
) -> None:
    states.present("other", policy="local")
    assert words in refused(states, site, test, "present", name, **declared)["comment"]


@BOTH
def test_what_cannot_be_had_is_a_warning_each_time(states: States, site: Site, test: bool) -> None:
    for _ in range(2):
        answer = states.present("v", test=test, policy="local", size=100, automigrate=True)
        assert answer["result"] is not False
        assert len(answer["warnings"]) == 2 and "plain directory" in answer["warnings"][0]
    assert "warnings" not in states.present("w", test=test, policy="local")


def test_present_leaves_a_mounted_volume_alone(states: States, site: Site) -> None:
    states.present("v", **EXT4)
    states.mounted("v")
    answer = states.present("v", **EXT4)
    assert (answer["result"], answer["changes"]) == (True, {})
    assert site.mounted() == [site.root / "mounts" / "v"]


# -- absent --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_absent_removes_what_it_foretells(states: States, site: Site, kind: str) -> None:
    states.present("v", **KINDS[kind])
    states.mounted("v")
    states.unmounted("v")
    answer = foretold(states, site, "absent", "v")
    assert answer["changes"]["Name"] == {"old": "v", "new": None}
    assert site.values("volumes/") == {} and site.mounted() == []


@BOTH
def test_absent_leaves_what_does_not_exist(states: States, site: Site, test: bool) -> None:
    states.present("other", policy="local")
    with nothing_is_written(site) if test else site.nothing_changes():
        answer = states.absent("v", test=test)
    assert (answer["result"], answer["changes"]) == (True, {})
    assert answer["comment"] == "Volume v is absent."


@BOTH
def test_absent_is_refused_while_mounted(states: States, site: Site, test: bool) -> None:
    states.present("v", **EXT4)
    states.mounted("v")
    answer = refused(states, site, test, "absent", "v")
    assert answer["comment"] == f"Volume in use by {USER}."
    assert refused(states, site, test, "absent", "v", force=True)["comment"] == answer["comment"]


# -- mounted, unmounted --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_mounted_and_unmounted_do_what_they_foretell(states: States, site: Site, kind: str) -> None:
    point = str(site.root / "mounts" / "v")
    states.present("v", **KINDS[kind])
    answer = foretold(states, site, "mounted", "v")
    assert answer["changes"] == {
        "Mountpoint": {"old": "", "new": point},
        "Containers": {"old": [], "new": [USER]},
    }
    assert site.root / "mounts" / "v" in site.mounted()
    answer = foretold(states, site, "unmounted", "v")
    assert answer["changes"] == {
        "Mountpoint": {"old": point, "new": ""},
        "Containers": {"old": [USER], "new": []},
    }
    assert site.root / "mounts" / "v" not in site.mounted()


def test_users_come_and_go_one_by_one(states: States, site: Site) -> None:
    a, b = f"salt:a@{NODE}", f"salt:b@{NODE}"
    states.present("v", **EXT4)
    states.mounted("v", id="a")
    assert foretold(states, site, "mounted", "v", id="b")["changes"] == {
        "Containers": {"old": [a], "new": [a, b]}
    }
    assert foretold(states, site, "unmounted", "v", id="a")["changes"] == {
        "Containers": {"old": [a, b], "new": [b]}
    }
    answer = states.unmounted("v", id="a")
    assert answer["comment"] == "Volume v is not mounted for salt:a."
    foretold(states, site, "unmounted", "v", id="b")
    foretold(states, site, "absent", "v")


@BOTH
def test_mounted_refuses_a_second_user_of_what_is_not_shared(
    states: States, site: Site, test: bool
) -> None:
    states.present("v", **EXT4, shared=False)
    states.mounted("v")
    answer = refused(states, site, test, "mounted", "v", id="other")
    assert answer["comment"] == f"Volume in use by {USER}."


@BOTH
def test_mounted_refuses_what_does_not_exist(states: States, site: Site, test: bool) -> None:
    states.present("other", policy="local")
    assert refused(states, site, test, "mounted", "v")["comment"] == "No such volume: v."


@BOTH
def test_unmounted_is_content_with_what_does_not_exist(
    states: States, site: Site, test: bool
) -> None:
    states.present("other", policy="local")
    with nothing_is_written(site) if test else site.nothing_changes():
        answer = states.unmounted("v", test=test)
    assert (answer["result"], answer["changes"]) == (True, {})
    assert answer["comment"] == "Volume v does not exist."


@BOTH
def test_unmounted_names_who_holds_the_mount(states: States, site: Site, test: bool) -> None:
    states.present("v", **EXT4)
    states.mounted("v")
    holder = site.python(
        "os.chdir(arguments[0]); print('there', flush=True); sys.stdin.read()",
        str(site.root / "mounts" / "v"),
    )
    assert holder.stdout is not None and holder.stdout.readline() == "there\n"
    answer = states.unmounted("v", test=test)
    if test:  # Whoever holds it now may be gone by then.
        assert answer["result"] is None
        return
    assert answer["result"] is False and f"{holder.pid}" in answer["comment"]
    assert site.mounted() == [site.root / "mounts" / "v"]
    holder.kill()
    holder.wait()
    assert states.unmounted("v")["result"] is True
    assert site.mounted() == []
