"""Clusters at clouds: made, changed, taken down; their data stay whatever becomes of hosts."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cloud import ATTACHMENT, BUCKET, INSTANCE, TARGETS, VOLUME, Cloud, changes
from lab.provider import Provider
from lab.provider.clouds import SECRET
from libstorage.bundles import Bundle
from libstorage.errors import InvalidInput, NotPlanned

PILLAR = "planted-secret-of-the-pillar"


@pytest.fixture(scope="module", params=TARGETS)
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    """A cluster that is applied; whoever changes it puts it back."""
    folder = tmp_path_factory.mktemp(request.param)
    pillar = folder / "pillar"
    pillar.mkdir()
    (pillar / "top.sls").write_text(f"# {PILLAR}\n")
    with Provider(request.param) as provider:
        cloud = Cloud(folder / "root", request.param, provider)
        cloud.terraform.variables |= {"pillar": str(pillar), "archive": archive(cloud.target)}
        cloud.terraform.apply()
        yield cloud


def test_disks_of_a_node_have_devices_of_their_own(tmp_path: Path) -> None:
    with Provider("aws") as provider:
        cloud = Cloud(tmp_path, "aws", provider)
        cloud.nodes["b"]["data_disks"] = {"one": 10, "two": 10}
        cloud.terraform.apply()
        cloud.nodes["b"]["data_disks"]["a"] = 10
        found = changes(cloud.terraform.plan(), "aws_volume_attachment")
        assert found == {'aws_volume_attachment.data["b/a"]': ["create"]}
        cloud.terraform.apply()
        now = provider.of("aws_volume_attachment")
        assert {one["device_name"] for one in now} == {"/dev/xvdba", "/dev/xvdbo", "/dev/xvdbt"}
        cloud.nodes["b"]["data_disks"]["tail"] = 10
        assert "begin with the same letter" in cloud.terraform.refused()


def archive(target: str) -> dict[str, str]:
    """The variable of that name."""
    return {"bucket": "lab-archive"} | ({"pgp_key": "keybase:lab"} if target == "aws" else {})


def test_second_plan_is_empty_and_the_inventory_complete(cloud: Cloud) -> None:
    assert cloud.terraform.plan() == {}
    said = cloud.terraform("output", f"-state={cloud.terraform.state}", "-json")
    inventory = json.loads(said)["inventory"]["value"]
    assert inventory["master"] == "a" and inventory["roles"]["etcd"] == ["a", "b", "c"]
    machines = cloud.provider.of(INSTANCE[cloud.target])
    shown = {node["address"] for node in inventory["nodes"].values()}
    assert shown == {one.get("ipv4_address") or one.get("public_ip") for one in machines}
    (disk,) = inventory["nodes"]["b"]["disks"]
    volume = cloud.volumes()["lab-b-osd"]
    assert disk.endswith(volume["name"] if "name" in volume else volume["id"].replace("-", ""))
    # each host is known by the cloud's name for it, at its first contact and ever after
    seen = set((cloud.folder / "seen").read_text().split()) - {"HostKeyAlias"}
    assert seen == {one["id"] for one in machines}


def test_nothing_but_ssh_is_open_to_the_outside(cloud: Cloud) -> None:
    outside, inside = openings(cloud)
    assert outside == {("22", "198.51.100.0/24")}
    ports = {"2379", "2380", "4505-4506", "3300", "6789", "6800-7568"}
    assert {port for port, _ in inside} - {"icmp"} == ports
    assert "0.0.0.0/0" not in json.dumps([source for _, source in inside])


def openings(cloud: Cloud) -> tuple[set[tuple[str, str]], list[tuple[str, Any]]]:
    """What is open: to addresses, and to hosts of the cluster."""
    outside: set[tuple[str, str]] = set()
    inside: list[tuple[str, Any]] = []
    for firewall in cloud.provider.of("digitalocean_firewall"):
        for rule in firewall["inbound_rule"]:
            outside |= {(rule["port_range"], one) for one in rule["source_addresses"] or ()}
            if tags := rule["source_tags"]:
                inside.append((rule["port_range"] or rule["protocol"], tags))
    for rule in cloud.provider.of("aws_vpc_security_group_ingress_rule"):
        first, last = rule["from_port"], rule["to_port"]
        port = rule["ip_protocol"] if first == -1 else str(first)
        port += f"-{last}" if first != last else ""
        if source := rule["cidr_ipv4"] or rule["cidr_ipv6"]:
            outside.add((port, source))
        else:
            inside.append((port, rule["referenced_security_group_id"]))
    return outside, inside


def test_replacing_an_instance_touches_no_data_disk(cloud: Cloud) -> None:
    instance = f'{INSTANCE[cloud.target]}.node["b"]'
    found = cloud.terraform.plan(f"-replace={instance}")
    assert found[instance] == ["delete", "create"]
    assert changes(found, ATTACHMENT[cloud.target]) != {}
    assert changes(found, VOLUME[cloud.target]) == {}
    assert changes(found, INSTANCE[cloud.target]) == {instance: ["delete", "create"]}

    before = cloud.volumes()
    (lost,) = [one for one in cloud.provider.of(INSTANCE[cloud.target]) if "lab-b" in str(one)]
    cloud.provider.lose(INSTANCE[cloud.target], lost["id"])
    found = cloud.terraform.plan()
    assert found[instance] == ["create"] and changes(found, VOLUME[cloud.target]) == {}
    cloud.terraform.apply()
    assert cloud.volumes() == before
    assert cloud.terraform.plan() == {}


def test_scale_out_and_in_keeps_data_and_hosts(cloud: Cloud) -> None:
    def hosts() -> set[str]:
        return {one["id"] for one in cloud.provider.of(INSTANCE[cloud.target])}

    before = hosts()
    cloud.nodes["d"] = {"roles": ["ceph"], "data_disks": {"one": 20, "two": 20}}
    found = cloud.terraform.plan()
    assert all(does == ["create"] for does in changes(found, INSTANCE[cloud.target]).values())
    cloud.terraform.apply()
    assert len(hosts() - before) == 1 and before < hosts()

    cloud.nodes["d"]["instance"] = False
    found = cloud.terraform.plan()
    assert changes(found, VOLUME[cloud.target]) == {}
    cloud.terraform.apply()
    assert hosts() == before and {"lab-d-one", "lab-d-two"} < set(cloud.volumes())
    assert cloud.terraform.plan() == {}

    entry = cloud.nodes.pop("d")
    assert "prevent_destroy" in cloud.terraform.refused()
    names = [f'{VOLUME[cloud.target]}.data["d/{disk}"]' for disk in entry["data_disks"]]
    cloud.terraform("state", "rm", f"-state={cloud.terraform.state}", *names)
    assert cloud.terraform.plan() == {}


def test_terraforms_own_destroy_refuses_while_there_are_data(cloud: Cloud) -> None:
    terraform, before = cloud.terraform, dict(cloud.provider.things)
    done = terraform.run("destroy", "-auto-approve", *terraform.given())
    assert done.returncode == 1 and "prevent_destroy" in done.stdout
    assert cloud.provider.things == before


def test_changes_replace_no_host(cloud: Cloud) -> None:
    """Another role, size or image: at most a change in place."""
    small = {"digitalocean": "s-4vcpu-8gb", "aws": "t3.large"}
    image = {"digitalocean": "debian-13-x64", "aws": "ami-0123456789abcdef0"}
    cloud.nodes["c"] |= {"roles": ["etcd", "docker", "ceph"], "size": small[cloud.target]}
    cloud.terraform.variables["image"] = image[cloud.target]
    try:
        found = changes(cloud.terraform.plan(), INSTANCE[cloud.target])
        assert found == {f'{INSTANCE[cloud.target]}.node["c"]': ["update"]}
    finally:
        cloud.nodes["c"] = {"roles": ["etcd", "docker"]}
        cloud.terraform.variables.pop("image")


def test_a_host_that_the_cloud_refuses_is_named_and_made_later(cloud: Cloud) -> None:
    cloud.nodes["e"] = {"roles": []}
    cloud.provider.fails[INSTANCE[cloud.target]] = "No capacity"
    try:
        said = cloud.terraform.fails()
        assert "No capacity" in said and f'{INSTANCE[cloud.target]}.node["e"]' in said
        cloud.provider.fails.clear()
        cloud.terraform.apply()
        assert cloud.terraform.plan() == {}
    finally:
        cloud.provider.fails.clear()
        cloud.nodes.pop("e")
        cloud.terraform.apply()


def test_no_secret_is_in_user_data_plan_output_or_log(cloud: Cloud) -> None:
    terraform = cloud.terraform
    file = str(terraform.folder / "whole")
    terraform("plan", *terraform.given(), f"-out={file}")
    terraform("show", file)
    terraform("output", f"-state={terraform.state}", "-json")
    lines = terraform.said.splitlines()
    logged = "\n".join(line for line in lines if not line.startswith('{"format_version"'))
    data = "".join(str(one["user_data"]) for one in cloud.provider.of(INSTANCE[cloud.target]))
    kept = terraform("show", "-json", file) + terraform.state.read_text()
    assert "#cloud-config" in data
    key = (cloud.folder / "id").read_text().splitlines()[1:-1]
    for marker in (PILLAR, "PRIVATE KEY", *key):
        assert marker not in logged + data + kept
    assert SECRET not in logged + data
    # Spaces gives a key's secret in clear words alone: it is in the state, and reaches the master
    plain = cloud.target == "digitalocean"
    assert (SECRET in kept) is plain
    assert (SECRET in (cloud.folder / "sent").read_text(errors="replace")) is plain
    assert SECRET not in (cloud.folder / "commands").read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_bundle_is_taken_down_and_brought_back_with_its_data(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Provider(target) as provider:
        cloud = Cloud(tmp_path / "root", target, provider)
        for name, value in cloud.terraform.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TF_CLI_CONFIG_FILE", os.devnull)
        variables = cloud.terraform.variables | {"archive": archive(target)}
        del variables["known_hosts"]
        folder = tmp_path / "bundles/lab"
        folder.mkdir(parents=True)
        text = json.dumps({"target": target, "variables": variables})
        (folder / "bundle.yaml").write_text(text)
        bundle = Bundle({"folder": str(tmp_path / "bundles")}, "lab")

        assert f'{VOLUME[target]}.data["b/osd"]' in bundle.plan()
        assert bundle.apply()["roles"]["ceph"] == ["b"]
        assert bundle.plan() == {} and bundle.status()["Failed"] == []
        data = cloud.volumes() | {"archive": provider.of(BUCKET[target])[0]}

        with pytest.raises(InvalidInput, match="confirm=lab"):
            bundle.destroy("other")
        assert bundle.destroy("lab") > 20
        assert provider.of(INSTANCE[target]) == []
        assert cloud.volumes() | {"archive": provider.of(BUCKET[target])[0]} == data
        kept = {f"{BUCKET[target]}.archive[0]", f'{VOLUME[target]}.data["b/osd"]'}
        assert set(bundle.kept()) == kept
        assert {kind for kind, _ in provider.things} == {BUCKET[target], VOLUME[target]}
        assert bundle.destroy("lab") == 0
        assert bundle.status()["Nodes"] == {}
        with pytest.raises(NotPlanned):
            bundle.inventory()

        bundle.plan()
        bundle.apply()
        assert cloud.volumes() | {"archive": provider.of(BUCKET[target])[0]} == data
        (attached,) = provider.of(ATTACHMENT[target])
        assert attached["volume_id"] == data["lab-b-osd"]["id"]


def test_aws_is_the_same_with_the_next_major_version(tmp_path: Path) -> None:
    with Provider("aws", newer=True) as provider:
        cloud = Cloud(tmp_path, "aws", provider)
        cloud.terraform.variables["archive"] = archive("aws")
        cloud.terraform.apply()
        assert provider.of("aws_instance")[0]["region"] and cloud.terraform.plan() == {}
