"""A real master and three minions, each a node of one cluster: one Salt job is one request."""

import os
from typing import Any

from cluster import IMAGE, NODES, Salt

from lab.site import Site, assert_clean

MANY = int(os.environ.get("DSVOLUME_NAMES", "10"))


def events(site: Site, verb: str) -> list[dict[str, Any]]:
    found = site.values("events/").values()
    return [event for event in found if event["Verb"] == verb]


def test_the_code_comes_with_the_sync(salt: Salt, cluster_site: Site) -> None:
    versions = salt("dsvolume.version")
    assert sorted(versions) == list(NODES)
    assert {v["store"] for v in versions.values()} == {"etcd"}
    assert len({v["mount_root"] for v in versions.values()}) == len(NODES)


def test_each_of_many_names_is_created_once(salt: Salt, cluster_site: Site) -> None:
    before = len(events(cluster_site, "create"))
    for number in range(MANY):
        record = salt.alike("dsvolume.create", f"many{number}", "policy=local")
        assert (record["Name"], record["Revision"]) == (f"many{number}", 1)
    assert len(events(cluster_site, "create")) - before == MANY
    kept = [v for v in cluster_site.values("volumes/").values() if v["Name"].startswith("many")]
    assert len(kept) == MANY and all(v["CreatedBy"] in NODES for v in kept)


def test_every_verb_answers_the_same_from_all(salt: Salt, cluster_site: Site) -> None:
    agents = [cluster_site.python("manager.agent().run()", node=node) for node in NODES]
    once = ("snapshot_create", "clone", "rollback", "resize", "label", "qos_create", "qos_enable")
    before = {verb: len(events(cluster_site, verb)) for verb in once}
    created = salt.alike("dsvolume.create", "v", *IMAGE)
    assert salt.alike("dsvolume.create", "v", *IMAGE) == created
    assert salt.alike("dsvolume.label", "v", "team=web")["Revision"] == 2
    assert salt.alike("dsvolume.protect", "v")["Protected"] is True
    assert salt.alike("dsvolume.rm", "v") == ("ERROR: Volume is protected: v; unprotect it first")
    assert salt.alike("dsvolume.unprotect", "v")["Protected"] is False
    assert salt.alike("dsvolume.snapshot_create", "v@s")["Name"] == "s"
    assert salt.alike("dsvolume.snapshot_clone", "v@s", "w")["ParentSnapshot"] == "v@s"
    assert salt.alike("dsvolume.rollback", "v@s")["Children"] == ["w"]
    assert salt.alike("dsvolume.resize", "v", "24")["MBSize"] == 24
    assert salt.alike("dsvolume.qos_create", "slow", "read_bw=1000000")["ReadBW"] == 1000000
    assert salt.alike("dsvolume.qos_apply", "v", "profile=slow")[0]["QoSProfile"] == "slow"
    assert salt.alike("dsvolume.qos_enable", "v")[0]["QoSState"] is True
    assert salt.alike("dsvolume.rm", "w")["Name"] == "w"
    assert salt.alike("dsvolume.snapshot_rm", "v@s")["Name"] == "s"
    assert salt.alike("dsvolume.rm", "v")["Name"] == "v"
    for verb in once:
        assert len(events(cluster_site, verb)) - before[verb] == 1, verb
    assert all("jid" in event["By"] for event in events(cluster_site, "resize"))
    for agent in agents:
        agent.terminate()
        agent.wait(20)


def test_verbs_on_nodes_answer_the_same_from_all(salt: Salt, cluster_site: Site) -> None:
    agents = [cluster_site.python("manager.agent().run()", node=node) for node in NODES]
    salt.alike("dsvolume.create", "n", "policy=local")
    salt("dsvolume.mount", "n")
    assert salt.alike("dsvolume.force_detach", "n", "node3")["Users"] == ["salt:salt"]
    assert salt.alike("dsvolume.drain", "node2", "force=True")["Drained"] is True
    refused = salt("dsvolume.mount", "n", "id=more")["node2"]
    assert refused.startswith("ERROR: node2 is drained since")
    assert salt.alike("dsvolume.undrain", "node2")["Changed"] is True
    said = salt.alike("dsvolume.fence", "node9", "confirmed=True")
    assert said == "ERROR: No such node: node9; there are: node1, node2, node3"
    done = {verb: len(events(cluster_site, verb)) for verb in ("drain", "undrain")}
    assert done == {"drain": 1, "undrain": 1}
    salt("dsvolume.unmount", "n")
    salt("dsvolume.unmount", "n", "id=more")
    for agent in agents:
        agent.terminate()
        agent.wait(20)


def test_another_request_for_the_name_is_told_the_difference(
    salt: Salt, cluster_site: Site
) -> None:
    salt.alike("dsvolume.create", "x", "policy=ram", "size=8")
    said = salt.alike("dsvolume.create", "x", "policy=ram", "size=9")
    assert said == "ERROR: Volume exists with other options: size 8, asked 9"


def test_a_state_on_all_minions_changes_once_in_effect(salt: Salt, cluster_site: Site) -> None:
    answers = salt("state.single", "dsvolume.present", "name=y", "policy=local")
    results = [next(iter(answer.values())) for answer in answers.values()]
    assert len(results) == len(NODES) and all(result["result"] is True for result in results)
    assert len([e for e in events(cluster_site, "create") if e["Volume"] == "y"]) == 1
    again = salt("state.single", "dsvolume.present", "name=y", "policy=local")
    assert all(next(iter(answer.values()))["changes"] == {} for answer in again.values())


def test_each_mounts_for_itself(salt: Salt, cluster_site: Site) -> None:
    salt.alike("dsvolume.create", "z", "policy=local")
    mounted = salt("dsvolume.mount", "z")
    assert sorted(answer["Mountpoint"] for answer in mounted.values()) == sorted(
        str(cluster_site.configured(node).mount_root / "z") for node in NODES
    )
    [info] = salt("dsvolume.info", "z")["node2"]
    assert sorted(info["Inuse"]) == list(NODES)
    salt("dsvolume.unmount", "z")
    for record in cluster_site.values("volumes/").values():
        salt.alike("dsvolume.rm", record["Name"])
    salt("dsvolume.doctor", "fix=True")
    assert cluster_site.values("volumes/") == {}


def test_nothing_is_left(cluster_site: Site) -> None:
    # A job's process ends without a goodbye: what it was registered as lapses.
    for node in NODES:
        manager = cluster_site.manager(node)
        manager.doctor(fix=True)
        manager.close()
    assert_clean(cluster_site, *NODES)
