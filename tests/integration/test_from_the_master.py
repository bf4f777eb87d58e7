"""Driven from the master: states on all minions, orchestrations, targets by grains."""

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from checkout import ROOT
from cluster import NODES, Salt, states

from lab.site import Site
from libstorage.manager import keys

EXAMPLE = ("cluster-pages", "cluster-cache")


@pytest.fixture
def example(salt: Salt, cluster_site: Site) -> Iterator[None]:
    """What examples.cluster leaves goes."""
    yield
    for name in EXAMPLE:
        salt("dsvolume.unmount", name)
        salt("dsvolume.rm", name)
    assert cluster_site.values("volumes/") == {}


@pytest.fixture
def agents(cluster_site: Site) -> Iterator[None]:
    """Each node's agent, which does what other nodes ask of it."""
    running = [cluster_site.python(AGENT, node=node) for node in NODES]
    for agent in running:
        assert agent.stdout and agent.stdout.readline() == "here\n"
    yield
    for agent in running:
        agent.send_signal(signal.SIGTERM)
        agent.communicate(timeout=20)
        assert agent.returncode == 0


AGENT = """
import signal, threading
agent = manager.agent()
signal.signal(signal.SIGTERM, lambda *_: agent.stop())
def tell():
    while not any(n["Name"] == node and n["Alive"] for n in manager.nodes()): time.sleep(0.05)
    print("here", flush=True)
threading.Thread(target=tell, daemon=True).start()
agent.run()
"""


def applied(salt: Salt, *arguments: str, to: str = "*") -> dict[str, dict[str, Any]]:
    """``salt TARGET state.apply ...``: the results by minion and ID."""
    return {node: states(ret) for node, ret in salt("state.apply", *arguments, to=to).items()}


def changes(results: dict[str, Any]) -> dict[str, Any]:
    return {id: result["changes"] for id, result in results.items()}


def entries(site: Site) -> dict[str, int]:
    """Every key with its revision, once the owners of jobs that have ended have lapsed."""
    end = time.monotonic() + 30
    while any(True for _ in site.store.list(keys.OWNERS)):
        assert time.monotonic() < end, "an owner stays"
        time.sleep(0.1)
    return {entry.key: entry.revision for entry in site.store.list("")}


def test_a_test_run_on_all_minions_foretells_and_writes_nothing(
    salt: Salt, cluster_site: Site, example: None
) -> None:
    before = entries(cluster_site)
    foretold = applied(salt, "examples.cluster", "test=True")
    assert entries(cluster_site) == before
    assert sorted(foretold) == list(NODES)
    assert all(r["result"] is None for results in foretold.values() for r in results.values())
    real = applied(salt, "examples.cluster")
    assert all(r["result"] is True for results in real.values() for r in results.values())
    for id in foretold["node1"]:
        did = [node for node in NODES if real[node][id]["changes"]]
        # Who comes late finds the volume made; each mounts for itself.
        assert did == list(NODES) if id.endswith("is mounted") else did
        for node in did:
            assert real[node][id]["changes"] == foretold[node][id]["changes"]
    made = cluster_site.values("events/").values()
    made = [e["Volume"] for e in made if e["Verb"] == "create" and e["Volume"] in EXAMPLE]
    assert sorted(made) == sorted(EXAMPLE)
    before = entries(cluster_site)
    again = applied(salt, "examples.cluster")
    assert not any(result["changes"] for r in again.values() for result in r.values())
    assert entries(cluster_site) == before


def test_profiles_that_pillar_states_are_made(salt: Salt, cluster_site: Site) -> None:
    profiles = {"slow": {"read_bw": 2000}, "7": {"weight": 70}}
    pillar = f"pillar={json.dumps({'dsvolume': {'profiles': profiles}})}"
    foretold = applied(salt, "dsvolume.profiles", pillar, "test=True", to="node1")["node1"]
    real = applied(salt, "dsvolume.profiles", pillar, to="node1")["node1"]
    assert changes(real) == changes(foretold)
    assert all(result["result"] is True for result in real.values())
    kept = {v["Name"]: (v["ReadBW"], v["Weight"]) for v in profiles_of(cluster_site)}
    assert kept == {"slow": (2000, 500), "7": (10000, 70)}
    again = applied(salt, "dsvolume.profiles", pillar)
    assert not any(result["changes"] for r in again.values() for result in r.values())
    wrong = f"pillar={json.dumps({'dsvolume': {'profiles': {'slow': {'weight': 9}}}})}"
    [result] = applied(salt, "dsvolume.profiles", wrong, to="node2")["node2"].values()
    assert result["result"] is False
    assert result["comment"].startswith("dsvolume:profiles:slow: weight must be a whole number")
    for name in kept:
        salt("dsvolume.qos_rm", name)


def profiles_of(site: Site) -> list[dict[str, Any]]:
    return list(site.values("qos/profiles/").values())


def test_an_update_that_fails_on_one_node_is_rolled_back(
    salt: Salt, cluster_site: Site, agents: None
) -> None:
    failed = orchestrated(salt, "update_fails")
    assert {id: result["result"] for id, result in failed.items()} == {
        "the volume is there": True,
        "the snapshot is taken": True,
        "the update": False,
        "the volume is as before": True,
        "the snapshot is not needed any more": False,
    }
    [record] = cluster_site.values("volumes/").values()
    [point] = salt("dsvolume.mount", "db", to=record["Node"]).values()
    assert not (cluster_site.root / point["Mountpoint"] / "update").exists()
    salt("dsvolume.unmount", "db", to=record["Node"])
    verbs = [e["Verb"] for e in cluster_site.values("events/").values() if e["Volume"] == "db"]
    assert verbs.count("snapshot_create") == verbs.count("rollback") == 1
    assert salt.alike("dsvolume.snapshot_rm", "db@before-update")["Name"] == "before-update"

    worked = orchestrated(salt, "update_works")
    assert {id: result["result"] for id, result in worked.items()} == {
        "the volume is there": True,
        "the snapshot is taken": True,
        "the update": True,
        "the volume is as before": True,  # "not run": nothing failed
        "the snapshot is not needed any more": True,
    }
    assert cluster_site.values("snapshots/") == {}
    assert salt.alike("dsvolume.rm", "db")["Name"] == "db"


def orchestrated(salt: Salt, update: str) -> dict[str, Any]:
    pillar = json.dumps({"volume": "db", "update": update, "size": 8})
    answer = salt.run("state.orchestrate", "orch.update", f"pillar={pillar}")
    data = answer.get("data", answer)
    [results] = data.values()
    return states(results)


def test_nodes_are_reached_by_the_policies_that_they_serve(salt: Salt) -> None:
    salt("saltutil.refresh_grains")
    answer = salt("grains.get", "dsvolume", to="*")
    assert sorted(answer) == list(NODES)
    for grain in answer.values():
        assert grain == {"policies": ["local", "ram", "secure"], "store": "etcd"}
    assert sorted(salt("test.ping", grain="dsvolume:policies:ram")) == list(NODES)
    assert salt("test.ping", grain="dsvolume:policies:distributed") == {}


def test_what_dsvolume_bridge_installs_is_served(salt: Salt) -> None:
    """The plugin lies beside the tree that is served, and is reached by a link."""
    node = NODES[0]
    served = salt("cp.list_master", "prefix=dsvolume/plugin", to=node)[node]
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "plugin").rglob("*.py")}
    assert {f"dsvolume/{path}" for path in found} < set(served)
    unit = "plugin/systemd/dsvolume-bridge.socket"
    [text] = salt("cp.get_file_str", f"salt://dsvolume/{unit}", to=node).values()
    assert text == (ROOT / unit).read_text()
