"""States of nodes: drained and not; what they foretell they do."""

from typing import Any

import pytest
from loaded import States
from situations import KINDS, nothing_is_written
from test_states import foretold, refused

from lab.site import NODE, Site

BOTH = pytest.mark.parametrize("test", [False, True], ids=["real", "test"])
DIRECTORY = KINDS["directory"]


def test_a_node_is_drained_and_open_again(states: States, site: Site) -> None:
    states.present("v", **DIRECTORY)
    answer = foretold(states, site, "drained", NODE)
    assert answer["changes"] == {"Drained": {"old": False, "new": True}}
    assert answer["comment"] == f"Node {NODE} would be drained."
    assert foretold(states, site, "drained", NODE)["changes"] == {}
    assert "is drained since" in states.mounted("v")["comment"]
    answer = foretold(states, site, "undrained", NODE)
    assert answer["changes"] == {"Drained": {"old": True, "new": False}}
    assert foretold(states, site, "undrained", NODE)["changes"] == {}
    assert states.mounted("v")["result"] is True


def test_a_drain_by_force_takes_what_is_mounted(states: States, site: Site) -> None:
    states.present("v", **DIRECTORY)
    states.mounted("v", id="web")
    answer = foretold(states, site, "drained", NODE, force=True)
    assert answer["changes"] == {
        "Drained": {"old": False, "new": True},
        "Attached": {"old": ["v"], "new": []},
    }
    assert site.mounted() == []


def test_users_that_stay_are_named(states: States, site: Site) -> None:
    states.present("v", **DIRECTORY)
    states.mounted("v", id="web")
    answer = states.drained(NODE, timeout=0)
    assert answer["result"] is False and "v by salt:web" in answer["comment"]


def test_what_the_same_run_unmounts_is_foreseen(states: States, site: Site) -> None:
    states.present("v", **DIRECTORY)
    states.mounted("v", id="web")
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("unmounted", "v", {"id": "web"}),
        ("drained", NODE, {}),
    ]
    with nothing_is_written(site):
        foreseen = [answer["changes"] for answer in states.run(steps, test=True)]
    assert [answer["changes"] for answer in states.run(steps)] == foreseen


@BOTH
@pytest.mark.parametrize("state", ["drained", "undrained"])
def test_an_unknown_node_is_refused(states: States, site: Site, test: bool, state: str) -> None:
    states.present("v", **DIRECTORY)
    answer = refused(states, site, test, state, "node9")
    assert answer["comment"].startswith("No such node: node9; there are: ")
