"""The doctor names the nodes whose settings or code are not those of the others."""

import time
from collections.abc import Callable

import pytest

from lab.site import NODE, Site, Values
from libstorage.manager import VolumeManager

AGENT = "manager.agent().run()"
OLD = f"import libstorage.manager.nodes as nodes; nodes.__version__ = '0.0.7'; {AGENT}"


@pytest.fixture
def start(site: Site) -> Callable[..., None]:
    """Starts the agent of a node, with settings of its own, and waits for it."""

    def begin(node: str, code: str = AGENT, **over: object) -> None:
        site.python(code, node=node, **over)
        end = time.monotonic() + 20
        while f"nodes/{node}" not in _nodes(site):
            assert time.monotonic() < end, "the agent did not come"
            time.sleep(0.02)

    return begin


def _nodes(site: Site) -> Values:
    return site.values("nodes/")


def said(manager: VolumeManager) -> dict[str, str]:
    found = manager.doctor()
    assert {(row["Kind"], row["Fixed"]) for row in found} <= {("node", None)}
    return {row["Name"]: row["Says"] for row in found}


def test_nodes_that_are_alike_are_no_finding(site: Site, start: Callable[..., None]) -> None:
    start(NODE)
    start("node2")
    for node in (NODE, "node2", "node3"):
        assert said(site.manager(node)) == {}


def test_the_settings_in_which_a_node_differs_are_named(
    site: Site, start: Callable[..., None]
) -> None:
    start("node2", timeout=7, qos={"cgroup": "/other"})
    assert said(site.manager()) == {
        "node2": "node2 has other settings (qos_cgroup, timeout) than the others: bring it up to "
        "date and restart its minion, unless it is meant so."
    }
    assert all("Settings" not in row for row in site.manager().nodes())


def test_of_several_nodes_the_odd_one_is_named_by_all(
    site: Site, start: Callable[..., None]
) -> None:
    odd = {"events": {"retention": 1}}
    start(NODE, **odd)
    start("node2")
    start("node3")
    says = (
        "node1 has other settings (retention) than the others: bring it up to date and restart "
        "its minion, unless it is meant so."
    )
    for node, over in ((NODE, odd), ("node2", {}), ("node3", {})):
        assert said(site.manager(node, **over)) == {NODE: says}


def test_an_agent_that_knows_older_settings_than_its_node_is_named(
    site: Site, start: Callable[..., None]
) -> None:
    start(NODE)
    says = "The agent of node1 has other settings (lease) than this call: restart the minion."
    assert said(site.manager(lease=2)) == {NODE: says}


def test_an_agent_of_another_version_is_named(site: Site, start: Callable[..., None]) -> None:
    start(NODE, OLD)
    assert [row["Versions"]["libstorage"] for row in site.manager().nodes()] == ["0.0.7"]
    says = "The agent of node1 has another libstorage (0.0.7) than this call: restart the minion."
    assert said(site.manager()) == {NODE: says}
    [found] = said(site.manager("node2")).values()
    assert found.startswith(
        "node1 has another libstorage (0.0.7) than the others: bring it up to date"
    )
