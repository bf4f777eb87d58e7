"""The trash as Salt shows it: functions, and what the state ``absent`` foretells of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loaded import States
from promises import foretold, refused
from salt.exceptions import CommandExecutionError
from situations import KINDS, kill_during, leave_operation, nothing_is_written

from lab.site import KEEPS_TRASH, Site

BOTH = pytest.mark.parametrize("test", [False, True], ids=["real", "test"])
EXT4 = KINDS["ext4"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that keeps what is removed."""
    with Site(tmp_path / "site", trash=KEEPS_TRASH) as made:
        yield made


def ids(site: Site) -> list[str]:
    entries = sorted(site.values("trash/").values(), key=lambda entry: str(entry["At"]))
    return [entry["Volume"]["Id"] for entry in entries]


def test_a_life_after_the_removal(modules: Any, site: Site) -> None:
    made = modules["dsvolume.create"]("v", **EXT4)
    modules["dsvolume.rm"]("v")
    [row] = modules["dsvolume.trash_ls"]("v")
    assert row["Id"] == made["Id"] and row["By"]["door"] == "salt"
    assert modules["dsvolume.trash_ls"]("other") == []
    with pytest.raises(CommandExecutionError, match=r"^No removed volume: w; .* holds: v$"):
        modules["dsvolume.undelete"]("w")
    assert modules["dsvolume.undelete"]("v", id=row["Id"], new=7)["Name"] == "7"
    modules["dsvolume.rm"](7, purge=True)
    assert modules["dsvolume.trash_ls"]() == modules["dsvolume.doctor"]() == []


def test_no_room_is_told_with_what_the_trash_holds(modules: Any) -> None:
    modules["dsvolume.create"]("v", **EXT4)
    modules["dsvolume.rm"]("v")
    says = r"MB free, .*; the trash holds up to 8 MB, rm purge=True frees them$"
    with pytest.raises(CommandExecutionError, match=says):
        modules["dsvolume.create"]("w", **{**EXT4, "size": 10**8})


@pytest.mark.parametrize("kind", KINDS)
def test_absent_keeps_what_it_removes(states: States, site: Site, kind: str) -> None:
    states.present("v", **KINDS[kind])
    [record] = site.values("volumes/").values()
    answer = foretold(states, site, "absent", "v")
    assert answer["changes"]["Name"] == {"old": "v", "new": None}
    assert "Trash" not in answer["changes"]
    assert ids(site) == [record["Id"]]


@pytest.mark.parametrize("kind", KINDS)
def test_absent_with_purge_keeps_nothing(states: States, site: Site, kind: str) -> None:
    states.present("v", **KINDS[kind])
    answer = foretold(states, site, "absent", "v", purge=True)
    assert answer["comment"] == "Volume v would be removed."
    assert "Trash" not in answer["changes"]
    assert ids(site) == [] and site.values("volumes/") == {}


@pytest.mark.parametrize("there", [True, False])
def test_purge_takes_older_ones_too(states: States, site: Site, there: bool) -> None:
    for name in ("v", "v", "w"):
        states.present(name, policy="local")
        states.absent(name)
    first, second, other = ids(site)
    if there:
        states.present("v", policy="local")
    answer = foretold(states, site, "absent", "v", purge=True)
    assert answer["changes"].pop("Trash") == {"old": [first, second], "new": []}
    assert ("Name" in answer["changes"]) == there
    gone = "Volume v would be removed. " if there else ""
    assert answer["comment"] == f"{gone}What the trash held of v would be destroyed."
    assert ids(site) == [other]


@pytest.mark.parametrize("older", [False, True])
def test_what_the_dead_were_removing_is_purged_as_foretold(
    states: States, site: Site, older: bool
) -> None:
    if older:
        states.present("v", policy="local")
        states.absent("v")
    states.present("v", **EXT4)
    leave_operation(site, "rm", "v")
    answer = foretold(states, site, "absent", "v", purge=True)
    assert ("Trash" in answer["changes"]) == older
    assert ids(site) == [] and site.values("volumes/") == {}


def test_what_the_dead_were_purging_is_absent(states: States, site: Site) -> None:
    states.present("v", **EXT4)
    states.absent("v")
    for point in range(1, 10):
        kill_during(site, lambda manager: manager.rm("v", purge=True), point)
        if site.values("operations/"):
            break
    assert [value["Verb"] for value in site.values("operations/").values()] == ["purge"]
    with nothing_is_written(site):
        assert states.absent("v", test=True, purge=True)["result"] is True
    answer = states.absent("v", purge=True)
    assert (answer["result"], answer["changes"]) == (True, {})
    assert answer["comment"] == "Volume v is absent."
    assert ids(site) == [] and site.values("operations/") == {}


@BOTH
def test_purge_of_a_protected_volume_destroys_nothing(
    states: States, site: Site, test: bool
) -> None:
    states.present("v", policy="local")
    states.absent("v")
    states.present("v", policy="local")
    states.protected("v")
    answer = refused(states, site, test, "absent", "v", purge=True)
    assert answer["comment"] == "Volume is protected: v; unprotect it first."


@BOTH
@pytest.mark.parametrize("purge", ["no", 1, None])
def test_purge_is_true_or_false(states: States, site: Site, test: bool, purge: Any) -> None:
    states.present("v", policy="local")
    answer = refused(states, site, test, "absent", "v", purge=purge)
    assert answer["comment"].startswith("purge must be true or false, not ")


def test_a_test_run_unprotects_and_purges(states: States, site: Site) -> None:
    states.present("v", policy="local")
    states.absent("v")
    states.present("v", policy="local")
    states.protected("v")
    steps = [("protected", "v", {"protected": False}), ("absent", "v", {"purge": True})]
    with nothing_is_written(site):
        foreseen = states.run(steps, test=True)
    real = states.run(steps)
    assert [a["changes"] for a in foreseen] == [a["changes"] for a in real]
    assert ids(site) == []
