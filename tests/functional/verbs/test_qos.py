"""QoS: profiles, which volumes they limit, and what of it is in effect on the host."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.cgroups import Cgroup, cgroup
from lab.site import NODE, Site, assert_clean
from libstorage.errors import (
    InvalidInput,
    LibstorageError,
    MountBusy,
    NoSuchProfile,
    NoSuchVolume,
    NotHere,
    ProfileExists,
    ProfileInUse,
    Unsupported,
    VolumeExists,
)
from libstorage.host import filesystems, images, throttling
from libstorage.host.throttling import NONE, Limits
from libstorage.manager import Given, Request, VolumeManager, keys
from libstorage.manager.limiter import Limiter
from libstorage.manager.profiles import Profiles
from libstorage.records import Profile
from libstorage.store.contract import Delete

Create = Callable[..., dict[str, Any]]
Texts = Callable[..., list[str]]

IMAGE = {"policy": "local", "fstype": "ext4", "mb_size": 8}
SLOW = {"read_bw": 2000, "write_bw": 1000, "read_iops": 200}
NEW = {"ReadIOPS": 100, "ReadBW": 10000, "WriteIOPS": 100, "WriteBW": 10000, "Weight": 500}
HOST = throttling.hierarchy()


@pytest.fixture
def group() -> Iterator[Cgroup]:
    with cgroup() as made:
        yield made


@pytest.fixture
def used(manager: VolumeManager, create: Create, group: Cgroup) -> Iterator[str]:
    """A volume in use here by a cgroup; returns the device."""
    create("v", **IMAGE)
    manager.mount("v", cgroup=group.path)
    yield device(manager)
    manager.unmount("v")


def device(manager: VolumeManager, name: str = "v") -> str:
    [attachment] = [
        value
        for value in manager._store.values("attachments/")
        if (value["Volume"], value["Node"]) == (name, NODE)
    ]
    return str(attachment["Device"])


def rules(device: str, *places: str) -> list[int]:
    """The write limit on a device in the host's base cgroup and in others; 0 is none."""
    assert HOST
    return [HOST.limits(place, device).write_bw for place in (HOST.base(), *places)]


# -- profiles


def test_the_default_is_there_from_the_beginning(manager: VolumeManager) -> None:
    default = {"ReadIOPS": 200, "ReadBW": 20000, "WriteIOPS": 100, "WriteBW": 10000, "Weight": 600}
    assert manager.qos.ls() == {"Global": True, "Profiles": [{"Name": "default", **default}]}
    assert manager.qos.info("default") == [{"Name": "default", **default, "Volumes": []}]


def test_a_profile_comes_changes_and_goes(manager: VolumeManager, texts: Texts) -> None:
    made = manager.qos.create("slow", SLOW)
    assert made == {"Changed": True, "Profile": {"Name": "slow", **NEW, **named(SLOW)}}
    assert manager.qos.create("slow", SLOW) == {**made, "Changed": False}
    assert manager.qos.create("slow", {}) == {**made, "Changed": False}
    edited = manager.qos.edit("slow", {"weight": 10, "read_bw": 0})
    assert edited["Profile"] == {**made["Profile"], "Weight": 10, "ReadBW": 0}
    assert manager.qos.edit("slow", {"weight": 10}) == {**edited, "Changed": False}
    assert [p["Name"] for p in manager.qos.ls()["Profiles"]] == ["default", "slow"]
    assert manager.qos.rm("slow")["Profile"] == edited["Profile"]
    assert [p["Name"] for p in manager.qos.ls()["Profiles"]] == ["default"]
    assert texts("slow") == [
        "QoS profile create success",
        "QoS profile edit success",
        "QoS profile delete success",
    ]


def named(limits: dict[str, int]) -> dict[str, int]:
    words = {"read_iops": "ReadIOPS", "read_bw": "ReadBW", "write_iops": "WriteIOPS"}
    words |= {"write_bw": "WriteBW", "weight": "Weight"}
    return {words[word]: value for word, value in limits.items()}


def test_the_default_is_edited_and_stays(manager: VolumeManager) -> None:
    assert manager.qos.edit("default", {"read_bw": 5})["Profile"]["ReadBW"] == 5
    assert manager.qos.info("default")[0]["ReadBW"] == 5
    with pytest.raises(ProfileInUse, match="stays; edit it instead"):
        manager.qos.rm("default")
    with pytest.raises(ProfileExists, match="read_bw 5, asked 7; edit it"):
        manager.qos.create("default", {"read_bw": 7})


def test_what_is_no_profile_is_said(manager: VolumeManager, create: Create) -> None:
    create("v", **IMAGE)
    for ask in (
        lambda: manager.qos.info("nope"),
        lambda: manager.qos.rm("nope"),
        lambda: manager.qos.edit("nope", SLOW),
        lambda: manager.qos.apply("nope", ["v"]),
        lambda: manager.create("w", Given.of(policy="local", fstype="ext4", qos_profile="nope")),
    ):
        with pytest.raises(NoSuchProfile, match=r"^No such QoS profile: nope; there are default$"):
            ask()


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"read_bw": -1}, "read_bw must be a whole number from 0 to .*, not '-1'"),
        ({"read_bw": "fast"}, "not 'fast'"),
        ({"read_bw": True}, "not 'True'"),
        ({"read_bw": 1.5}, "not '1.5'"),
        ({"write_iops": 2**32}, "write_iops must be a whole number from 0 to 4294967295"),
        ({"write_bw": 2**63}, "write_bw must be"),
        ({"weight": 9}, "weight must be a whole number from 10 to 1000, not '9'"),
        ({"weight": 0}, "weight must be"),
        ({"speed": 9}, "speed is no limit; there are read_iops, read_bw"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused(
    manager: VolumeManager, site: Site, limits: dict[str, Any], says: str
) -> None:
    with site.nothing_changes():
        for ask in (manager.qos.create, manager.qos.edit):
            with pytest.raises(InvalidInput, match=says):
                ask("default", limits)


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "x" * 129, "../x"])
def test_a_profile_has_a_name(manager: VolumeManager, site: Site, name: str) -> None:
    with site.nothing_changes():
        for ask in (
            lambda: manager.qos.create(name, SLOW),
            lambda: manager.qos.edit(name, SLOW),
            lambda: manager.qos.rm(name),
            lambda: manager.qos.info(name),
            lambda: manager.qos.apply(name, ["v"]),
        ):
            with pytest.raises(InvalidInput, match="Not a profile name"):
                ask()


def test_a_profile_that_volumes_have_stays(manager: VolumeManager, create: Create) -> None:
    create("v", **IMAGE)
    create("w", **IMAGE)
    manager.qos.create("slow", SLOW)
    manager.qos.apply("slow", ["v", "w"])
    assert manager.qos.info("slow")[0]["Volumes"] == ["v", "w"]
    with pytest.raises(ProfileInUse, match="in use by v, w; apply another to them first"):
        manager.qos.rm("slow")
    manager.qos.apply("default", ["v", "w"])
    manager.qos.rm("slow")


def test_of_a_removal_and_a_use_one_succeeds(site: Site) -> None:
    """Whatever the order: no volume has a profile that is not there."""
    managers = [site.manager(), site.manager()]
    managers[0].create("v", Given(**IMAGE))
    for turn in range(20):
        managers[0].qos.create("p", {"read_bw": turn})
        acts = [lambda: managers[0].qos.rm("p"), lambda: managers[1].qos.apply("p", ["v"])]
        threads = [threading.Thread(target=quietly, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        names = [p["Name"] for p in managers[0].qos.ls()["Profiles"]]
        profile = managers[0].info("v")[0]["QoSProfile"]
        assert profile in ("", "default") or profile in names
        managers[0].qos.apply("default", ["v"])
        quietly(lambda: managers[0].qos.rm("p"))


def test_no_volume_gets_a_profile_that_goes_while_it_is_looked_up(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    create("v", **IMAGE)
    manager.qos.create("slow", SLOW)
    known, turn = Profiles.known, iter(range(10))

    def known_then_gone(profiles: Profiles, name: str) -> Profile:
        found = known(profiles, name)
        if next(turn) == 1:
            site.store.transact([], [Delete(keys.profile(name))])
        return found

    monkeypatch.setattr(Profiles, "known", known_then_gone)
    quietly(lambda: manager.qos.apply("slow", ["v"]))
    names = [profile["Name"] for profile in manager.qos.ls()["Profiles"]]
    assert manager.info("v")[0]["QoSProfile"] in ("", *names)


def quietly(act: Callable[[], object]) -> None:
    try:
        act()
    except (NoSuchProfile, ProfileInUse):
        return


# -- volumes


def test_apply_and_enable_are_edits(manager: VolumeManager, create: Create, texts: Texts) -> None:
    create("v", **IMAGE)
    manager.qos.create("slow", SLOW)
    [record] = manager.qos.apply("slow", ["v"])
    assert (record["QoSProfile"], record["QoSState"], record["Revision"]) == ("slow", False, 2)
    [record] = manager.qos.enable(["v"])
    assert (record["QoSProfile"], record["QoSState"], record["Revision"]) == ("slow", True, 3)
    assert manager.qos.enable(["v"]) == [record] == manager.qos.apply("slow", ["v"])
    [record] = manager.qos.disable(["v"])
    assert (record["QoSState"], record["Revision"]) == (False, 4)
    assert texts("v")[1:] == [
        "QoS apply[slow] success",
        "QoS enable success",
        "QoS disable success",
    ]
    assert [v["Name"] for v in manager.ls(["profile=slow", "qos=false"])] == ["v"]


def test_a_test_run_tells_and_writes_nothing(
    manager: VolumeManager, create: Create, site: Site
) -> None:
    create("v", **IMAGE)
    manager.qos.create("slow", SLOW)
    with site.nothing_changes():
        assert manager.qos.apply("slow", ["v"], test=True)[0]["QoSProfile"] == "slow"
        assert manager.qos.enable(["v"], everywhere=True, test=True)[0]["QoSState"] is True
        assert manager.qos.disable([], everywhere=True, test=True) == []
        assert manager.qos.create("new", {}, test=True)["Changed"] is True
        assert manager.qos.edit("slow", {"weight": 11}, test=True)["Profile"]["Weight"] == 11
        assert manager.qos.rm("slow", test=True)["Profile"]["Name"] == "slow"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"policy": "local"}, "v is a plain directory, whose I/O cannot be limited"),
        ({"policy": "ram", "mb_size": 8}, "ds-ram cannot limit I/O: v is on no device"),
        ({"policy": "secure", "mb_size": 8}, "ds-ram cannot limit I/O: v is on no device"),
    ],
)
def test_what_cannot_be_limited_says_so(
    manager: VolumeManager, create: Create, site: Site, given: dict[str, Any], says: str
) -> None:
    create("v", **given)
    create("image", **IMAGE)
    with site.nothing_changes():
        for ask in (
            lambda: manager.qos.apply("default", ["image", "v"]),
            lambda: manager.qos.enable(["image", "v"]),
            lambda: manager.create("w", Given(**given, qos_state=True)),
        ):
            with pytest.raises(Unsupported, match=says.replace("v is", "[vw] is")):
                ask()
        # That it be limited no more, it is already.
        assert [row["QoSState"] for row in manager.qos.disable(["image", "v"])] == [False, False]
        with pytest.raises(NoSuchVolume):
            manager.qos.disable(["v", "nope"])


def test_nothing_named_is_refused(manager: VolumeManager, site: Site) -> None:
    with site.nothing_changes():
        with pytest.raises(InvalidInput, match="qos apply needs a volume"):
            manager.qos.apply("default", [])
        with pytest.raises(InvalidInput, match="qos enable needs a volume, or global=True"):
            manager.qos.enable([])
        with pytest.raises(NoSuchVolume):
            manager.qos.apply("default", ["nope"])
        with pytest.raises(InvalidInput, match="qos edit needs a limit"):
            manager.qos.edit("default", {})


def test_a_volume_is_created_with_limits(manager: VolumeManager) -> None:
    manager.qos.create("slow", SLOW)
    given = Given.of(policy="local", fstype="ext4", size=8, qos_profile="slow")
    record = manager.create("v", given)["Volume"]
    assert (record["QoSProfile"], record["QoSState"]) == ("slow", True)
    assert manager.create("v", given)["Created"] is False
    with pytest.raises(VolumeExists, match="qos_profile slow, asked default"):
        manager.create("v", replace(given, qos_profile="default"))
    manager.mount("v")
    assert rules(device(manager)) == [1000]
    assert manager.info("v")[0]["QoSLimits"][0]["WriteBW"] == 1000
    manager.unmount("v")


def test_a_clone_begins_without_limits(manager: VolumeManager, create: Create) -> None:
    create("v", **IMAGE)
    manager.qos.enable(["v"])
    manager.snapshot_create("v@s")
    clone = manager.snapshot_clone("v@s", "w")["Volume"]
    assert (clone["QoSProfile"], clone["QoSState"]) == ("", False)


def test_one_job_changes_once(site: Site) -> None:
    managers = [site.manager(), site.manager("node2")]
    managers[0].create("v", Given(**IMAGE))
    job = Request("20260101", 1)
    for manager in managers:
        assert manager.qos.create("slow", SLOW, request=job)["Changed"] is True
        assert manager.qos.enable(["v"], everywhere=True, request=job)[0]["QoSState"] is True
    kept = [e["Verb"] for e in managers[0].events() if e["Verb"].startswith("qos")]
    assert kept == ["qos_create", "qos_enable"]


# -- in effect on the host


def test_limits_follow_the_records_while_in_use(
    manager: VolumeManager, used: str, group: Cgroup
) -> None:
    qos = manager.qos
    assert rules(used, group.path) == [0, 0]
    qos.create("slow", SLOW)
    qos.apply("slow", ["v"])
    assert rules(used, group.path) == [0, 0]
    qos.enable(["v"])
    assert rules(used, group.path) == [1000, 1000]
    qos.edit("slow", {"write_bw": 3000})
    assert rules(used, group.path) == [3000, 3000]
    qos.apply("default", ["v"])
    assert rules(used, group.path) == [10000, 10000]
    qos.disable([], everywhere=True)
    assert rules(used, group.path) == [0, 0]
    qos.enable([], everywhere=True)
    assert rules(used, group.path) == [10000, 10000]
    qos.disable(["v"])
    assert rules(used, group.path) == [0, 0]
    assert manager.info("v")[0]["QoSLimits"] is None


def test_limits_rest_while_a_snapshot_and_a_growth_write(
    manager: VolumeManager, create: Create
) -> None:
    create("v", policy="local", fstype="xfs", mb_size=32)
    point = Path(manager.mount("v")["Mountpoint"])
    manager.qos.enable(["v"])
    began = time.monotonic()
    for act in (lambda: manager.snapshot_create("v@s"), lambda: manager.resize("v", 64)):
        (point / "file").write_bytes(os.urandom(2_000_000))  # for 200 s, at the default's rate
        act()
    assert time.monotonic() - began < 10
    assert rules(device(manager)) == [10000] and manager.doctor() == []
    manager.unmount("v")


@pytest.mark.parametrize("verb", ["snapshot_create", "resize"])
def test_limits_are_back_where_that_fails(
    manager: VolumeManager,
    used: str,
    group: Cgroup,
    verb: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        assert rules(used, group.path) == [0, 0]
        manager.qos.enable(["v"])  # nor does who enforces them meanwhile bring them back
        assert rules(used, group.path) == [0, 0]
        raise Unsupported("not on this host")

    manager.qos.enable(["v"])
    monkeypatch.setattr(images, "copy", fail)
    monkeypatch.setattr(filesystems, "grow", fail)
    with pytest.raises(Unsupported):
        if verb == "resize":
            manager.resize("v", 16)
        else:
            manager.snapshot_create("v@s")
    assert rules(used, group.path) == [10000, 10000]
    assert manager.doctor() == [] and manager.operations() == []


def test_info_tells_what_is_in_effect(manager: VolumeManager, used: str, group: Cgroup) -> None:
    manager.qos.enable(["v"])
    [info] = manager.info("v")
    default = {"ReadIOPS": 200, "ReadBW": 20000, "WriteIOPS": 100, "WriteBW": 10000, "Weight": 0}
    assert HOST and info["QoSScope"] == HOST.scope
    assert info["QoSLimits"] == [
        {"Cgroup": HOST.base(), "AtStart": True, **default},
        {"Cgroup": group.path, "AtStart": True, **default},
    ]
    assert manager.ls() == [info]


def test_a_weight_is_in_effect_where_the_scheduler_knows_it(
    manager: VolumeManager, used: str, group: Cgroup
) -> None:
    manager.qos.create("heavy", {"weight": 777})
    manager.qos.apply("heavy", ["v"])
    manager.qos.enable(["v"])

    def weights() -> dict[str, int]:
        return {row["Cgroup"]: row["Weight"] for row in manager.info("v")[0]["QoSLimits"]}

    assert weights()[group.path] == 0
    scheduler = Path(f"/sys/dev/block/{throttling.number(used)}/queue/scheduler")
    before = scheduler.read_text()
    if "bfq" not in before:
        subprocess.run(["modprobe", "bfq"], check=True)
    try:
        scheduler.write_text("bfq")
        manager.qos.enable(["v"])
        assert weights()[group.path] == 777
        manager.qos.edit("heavy", {"weight": 10})
        assert weights()[group.path] == 10
        manager.qos.disable(["v"])
        assert manager.info("v")[0]["QoSLimits"] is None
    finally:
        scheduler.write_text(before.partition("[")[2].partition("]")[0])


def test_each_users_cgroup_is_limited_while_he_uses_it(
    manager: VolumeManager, used: str, group: Cgroup
) -> None:
    manager.qos.enable(["v"])
    with cgroup("-second") as second:
        manager.mount("v", id="second", cgroup=second.path)
        assert rules(used, group.path, second.path) == [10000] * 3
        manager.unmount("v", id="second")
        assert rules(used, group.path, second.path) == [10000, 10000, 0]
        manager.mount("v", cgroup=second.path)
        assert rules(used, group.path, second.path) == [10000, 0, 10000]
        assert manager.mount("v", cgroup=second.path)["Changed"] is False
        assert manager.mount("v")["Changed"] is False
    # Its cgroup is gone: nobody is hindered.
    assert manager.doctor() == []
    manager.qos.disable(["v"])


def place(cgroup: str, pid: int = 1, **more: object) -> dict[str, object]:
    return {"Container": "2b1e", "Pid": pid, "Cgroup": cgroup, **more}


def test_containers_are_limited_where_their_engine_says_they_run(
    manager: VolumeManager, used: str, group: Cgroup
) -> None:
    manager.qos.enable(["v"])
    with cgroup("-second") as second, cgroup("-third") as third:
        assert manager.place("v", [place(second.path)], engine="docker")
        assert rules(used, group.path, second.path) == [10000] * 3
        late = {row["Cgroup"]: row["AtStart"] for row in manager.info("v")[0]["QoSLimits"]}
        assert HOST and late == {HOST.base(): True, group.path: True, second.path: False}
        assert manager.place("v", [place(third.path, AtStart=True)], engine="podman")
        assert manager.place("v", [], engine="docker")
        assert rules(used, second.path, third.path) == [10000, 0, 10000]
    # Those that are gone are named no longer, once another comes.
    manager.place("v", [], engine="podman")
    with cgroup("-fourth") as fourth:
        manager.place("v", [place(fourth.path)], engine="docker")
        held = manager._store.get("attachments/v/node1")
        assert held and set(held.value["Limited"]) == {HOST.base(), group.path, fourth.path}
        manager.qos.disable(["v"])
        assert rules(used, fourth.path) == [0, 0]
    manager.unmount("v")
    assert manager.place("v", [place("/")], engine="docker") is False


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ("no", "places must be a list"),
        ([3], "places must be a list"),
        ([place("docker")], "Not a cgroup: 'docker'"),
        ([place("/", pid=0)], "Not the pid of container 2b1e"),
        ([{"Pid": 1, "Cgroup": "/"}], "Not a container name: None"),
    ],
)
def test_places_that_are_none_are_refused(
    manager: VolumeManager, create: Create, site: Site, places: object, says: str
) -> None:
    create("v", **IMAGE)
    with site.nothing_changes(), pytest.raises(InvalidInput, match=says):
        manager.place("v", places, engine="docker")


def test_nothing_stays_on_the_device(
    manager: VolumeManager, create: Create, site: Site, group: Cgroup
) -> None:
    create("v", **IMAGE, qos_state=True)
    manager.mount("v", cgroup=group.path)
    was = device(manager)
    assert rules(was, group.path) == [10000, 10000]
    manager.unmount("v")
    assert rules(was, group.path) == [0, 0]
    assert_clean(site)


def test_who_is_given_a_device_lifts_what_others_left(
    manager: VolumeManager, create: Create
) -> None:
    create("v", **IMAGE)
    assert HOST
    was = ""
    for _ in range(10):
        manager.mount("v")
        if device(manager) == was:
            break
        # Others on this host may take the device meanwhile.
        if was:
            HOST.limit(HOST.base(), was, NONE)
        was = device(manager)
        manager.unmount("v")
        # As somebody leaves it who was killed at the wrong moment.
        HOST.limit(HOST.base(), was, Limits(write_bw=777))
    assert device(manager) == was and rules(was) == [0]
    manager.unmount("v")


def test_a_busy_volume_keeps_its_limits(manager: VolumeManager, create: Create) -> None:
    create("v", **IMAGE, qos_state=True)
    point = manager.mount("v")["Mountpoint"]
    with open(Path(point, "held"), "w"), pytest.raises(MountBusy):
        manager.unmount("v")
    assert rules(device(manager)) == [10000]
    manager.unmount("v")
    assert not manager._store.get("attachments/v/node1")


def test_a_raw_device_is_limited(manager: VolumeManager, create: Create) -> None:
    create("v", policy="local", fstype="raw", mb_size=8, qos_state=True)
    manager.mount("v")
    assert rules(device(manager)) == [10000]
    manager.unmount("v")


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("docker", InvalidInput, "Not a cgroup: 'docker'"),
        ("/../x", InvalidInput, "Not a cgroup"),
        ("/a\nb", InvalidInput, "Not a cgroup"),
        ("/nope-nope", NotHere, "node1 has no cgroup /nope-nope for block I/O"),
    ],
)
def test_a_cgroup_that_is_none_is_refused(
    manager: VolumeManager,
    create: Create,
    site: Site,
    path: str,
    error: type[LibstorageError],
    says: str,
) -> None:
    create("v", **IMAGE)
    with site.nothing_changes(), pytest.raises(error, match=says):
        manager.mount("v", cgroup=path)


def test_a_host_without_limits_serves_all_the_same(
    manager: VolumeManager, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "hierarchy", lambda parent="": None)
    create("v", **IMAGE, qos_state=True)
    manager.mount("v")
    [info] = manager.info("v")
    assert (info["QoSScope"], info["QoSLimits"]) == ("", None)
    [finding] = manager.doctor()
    assert finding["Says"] == "This host's kernel cannot limit the I/O of v, as its QoS asks."
    manager.unmount("v")


# -- whoever dies


def test_the_doctor_restores_a_rule(manager: VolumeManager, used: str, group: Cgroup) -> None:
    manager.qos.enable(["v"])
    assert HOST
    HOST.limit(group.path, used, NONE)
    HOST.limit(HOST.base(), used, Limits(write_bw=55))
    [finding] = manager.doctor()
    assert (finding["Kind"], finding["Name"]) == ("limit", "v")
    assert [f["Fixed"] for f in manager.doctor(fix=True)] == [True]
    assert rules(used, group.path) == [10000, 10000]
    assert manager.doctor() == []
    # The next call of the verb does as well.
    HOST.limit(group.path, used, NONE)
    manager.qos.enable(["v"])
    assert rules(used, group.path) == [10000, 10000]


def test_who_was_stopped_does_not_write_the_last_word(
    site: Site, manager: VolumeManager, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has read what is wanted sleeps, another edits; then the first writes."""
    manager.qos.create("p", SLOW)
    manager.qos.apply("p", ["v"])
    real = Limiter._write
    slept: list[str] = []

    def sleepy(self: Limiter, *args: Any) -> None:
        if not slept:
            slept.append("once")
            site.manager().qos.edit("p", {"write_bw": 4444})
        real(self, *args)

    monkeypatch.setattr(Limiter, "_write", sleepy)
    manager.qos.enable(["v"])
    assert slept and rules(used) == [4444]


def test_who_was_stopped_while_the_volume_went_limits_nobody_else(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    create("v", **IMAGE)
    create("w", **IMAGE)
    manager.mount("v")
    was = device(manager)
    real = Limiter._write
    slept: list[str] = []

    def sleepy(self: Limiter, *args: Any) -> None:
        if not slept:
            slept.append("once")
            other = site.manager()
            other.unmount("v")
            other.mount("w")
        real(self, *args)

    monkeypatch.setattr(Limiter, "_write", sleepy)
    manager.qos.enable(["v"])
    assert slept and rules(was) == [0]
    manager.unmount("w")


def test_profiles_and_switch_outlive_the_store(
    site: Site, manager: VolumeManager, used: str, group: Cgroup
) -> None:
    manager.qos.create("slow", SLOW)
    manager.qos.edit("default", {"read_bw": 1})
    manager.qos.apply("slow", ["v"])
    manager.qos.enable(["v"])
    manager.qos.disable([], everywhere=True)
    before, attachment = manager.qos.ls(), manager._store.values("attachments/")
    held = list(attachment)
    manager.close()
    for file in (site.root / "store").iterdir():
        file.unlink()
    again = site.manager()
    told = [finding["Says"] for finding in again.doctor(rebuild=True)]
    assert "The QoS profile slow was made anew from its copy." in told
    assert again.qos.ls() == before and before["Global"] is False
    assert list(again._store.values("attachments/")) == held
    again.qos.enable([], everywhere=True)
    assert rules(used, group.path) == [1000, 1000]
    assert again.doctor() == []


def test_an_old_copy_of_the_profiles_is_renewed(manager: VolumeManager, site: Site) -> None:
    manager.qos.create("slow", SLOW)
    copy = site.root / "profiles" / "ds-local.json"
    held = json.loads(copy.read_text())
    copy.write_text(json.dumps({**held, "Revision": 0}))
    [finding] = manager.doctor()
    assert finding["Says"] == "The copy of the QoS profiles beside the data is not current."
    manager.doctor(fix=True)
    assert json.loads(copy.read_text()) == held and manager.doctor() == []
