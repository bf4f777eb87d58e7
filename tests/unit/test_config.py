"""Configuration: what wins, and that each wrong setting is named in one sentence."""

import traceback
from pathlib import Path
from typing import Any

import pytest

from libstorage.config import DEFAULTS, RUN_DIR, Config, load, of_salt, read_file
from libstorage.controllers import Controllers
from libstorage.errors import ConfigInvalid
from libstorage.records import POLICIES
from libstorage.store import open_store


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert text and "\n" not in text
    assert "Traceback" not in text
    return text


def test_the_defaults_are_valid_and_keep_all_below_one_directory() -> None:
    config = load("node1")
    assert config.root == Path("/var/lib/dsvolume")
    assert config.mount_root == config.root / "mounts"
    assert config.run_dir == RUN_DIR
    assert config.policies == DEFAULTS["policies"]
    assert (config.lease, config.timeout, config.retention, config.near_full) == (15, 50, 7, 85)


def test_a_later_source_wins_and_none_is_no_source(tmp_path: Path) -> None:
    config = load("node1", {"lease": 1, "timeout": 2}, None, {"timeout": 3})
    assert (config.lease, config.timeout) == (1, 3)


def test_policies_are_stated_whole_and_events_are_merged() -> None:
    config = load(
        "node1",
        {"policies": {"local": "ds-local"}, "events": {"retention": 3}},
        {"policies": {"ram": "ds-ram"}, "events": {}},
    )
    assert config.policies == {"ram": "ds-ram"}
    assert config.retention == 3


def test_a_policy_that_is_named_has_days_of_its_own_in_the_trash() -> None:
    config = load("node1")
    days = {policy: config.days_in_trash(policy) for policy in POLICIES}
    assert days == {**dict.fromkeys(POLICIES, 7), "ram": 0.04, "secure": 0}
    config = load("node1", {"trash": {"retention": 1}}, {"trash": {"local": 30, "ram": 0}})
    days = {policy: config.days_in_trash(policy) for policy in POLICIES}
    assert days == {**dict.fromkeys(POLICIES, 1), "local": 30, "ram": 0, "secure": 0}


def test_an_unknown_setting_of_the_trash_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load("node1", {"trash": {"locl": 7}})
    known = ", ".join(["retention", *POLICIES])
    assert str(caught.value) == f"dsvolume:trash:locl is no setting; there are {known}"


def test_a_later_source_may_mend_what_an_earlier_one_got_wrong() -> None:
    assert load("node1", {"events": 7, "lease": "x"}, {"events": {"retention": 1}, "lease": 2})


def test_capacity_is_merged_and_may_be_named_without_saying_anything() -> None:
    assert load("node1", {"capacity": {"near_full": 90}}, {"capacity": {}}).near_full == 90
    assert load("node1", {"capacity": {}}).near_full == 85


def test_ceph_is_merged_and_its_user_may_be_named_as_ceph_does() -> None:
    config = load("node1", {"ceph": {"pool": "fast"}}, {"ceph": {"client": "client.web"}})
    assert config.ceph == {
        "conf": "/etc/ceph/ceph.conf",
        "client": "web",
        "pool": "fast",
        "namespace": "",
        "mapper": "auto",
    }


def test_loading_never_changes_the_defaults() -> None:
    before = repr(DEFAULTS)
    load("node1", {"events": {"retention": 1}, "store": {"kind": "embedded", "x": 1}})
    assert repr(DEFAULTS) == before


def test_another_root_takes_everything_along(tmp_path: Path) -> None:
    config = load("node1", {"root": str(tmp_path)})
    assert config.run_dir == tmp_path / "run"
    assert config.mount_root == tmp_path / "mounts"


def test_a_relative_root_is_meant_against_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("node1", {"root": ".state"}).root == tmp_path / ".state"


def test_a_root_behind_a_symlink_is_the_one_that_the_mount_table_shows(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    config = load("node1", {"root": str(tmp_path / "link" / "a" / ".." / "b")})
    assert config.root == tmp_path / "disk" / "b"
    assert config.mount_root == tmp_path / "disk" / "b" / "mounts"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("root", ""),
        ("root", None),
        ("root", 7),
        ("root", "a\0b"),
        ("run_dir", 7),
        ("mount_root", ["x"]),
        ("mount_namespace", "private"),
        ("mount_namespace", None),
        ("manager", ""),
        ("manager", 3),
        ("policies", "local"),
        ("policies", None),
        ("policies", {"fast": "ds-local"}),
        ("policies", {"local": None}),
        ("controllers", ["x"]),
        ("controllers", {"mine": 7}),
        ("store", "embedded"),
        ("store", None),
        ("lease", 0),
        ("lease", -1),
        ("lease", "15"),
        ("lease", True),
        ("lease", float("nan")),
        ("lease", float("inf")),
        ("timeout", -0.1),
        ("timeout", None),
        ("events", 7),
        ("events", {"retention": "a week"}),
        ("events", {"retention": -1}),
        ("events", {"retention": 1e12}),
        ("events", {"retension": 7}),
        ("trash", 7),
        ("trash", None),
        ("trash", {"retention": "a week"}),
        ("trash", {"retention": -1}),
        ("trash", {"ram": True}),
        ("trash", {"local": float("nan")}),
        ("trash", {"local": 1e12}),
        ("trash", {"locl": 7}),
        ("trash", {7: 7}),
        ("capacity", 85),
        ("capacity", None),
        ("capacity", {"near_full": 0}),
        ("capacity", {"near_full": 100.5}),
        ("capacity", {"near_full": "85 %"}),
        ("capacity", {"near_full": None}),
        ("capacity", {"near_full": True}),
        ("capacity", {"nearly_full": 85}),
        ("ceph", "fast"),
        ("ceph", {"pool": ""}),
        ("ceph", {"client": 7}),
        ("ceph", {"namespace": None}),
        ("ceph", {"keyring": "/etc/ceph/keyring"}),
        ("qos", "/docker"),
        ("qos", {"cgroup": "docker"}),
        ("qos", {"cgroups": "/docker"}),
        ("profiles", ["slow"]),
        ("profiles", None),
        ("profiles", {"slow": "fast"}),
        ("profiles", {"slow": {"read_iops": -1}}),
        ("profiles", {"slow": {"read_iops": 1.5}}),
        ("profiles", {"slow": {"read_bw": "10 MB"}}),
        ("profiles", {"slow": {"weight": 9}}),
        ("profiles", {"slow": {"weight": True}}),
        ("profiles", {"slow": {"reads": 1}}),
        ("profiles", {"-slow": {}}),
        ("profiles", {"s" * 129: {}}),
        ("profiles", {None: {}, "": {}}),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence(setting: str, value: Any) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load("node1", {setting: value})
    assert one_sentence(caught.value).startswith(f"dsvolume:{setting}")


def test_profiles_are_stated_whole_and_read_as_requests_are() -> None:
    slow = {"read_bw": "1000", "weight": 10, "write_bw": ""}
    config = load("node1", {"profiles": {"old": {}}}, {"profiles": {"slow": slow, 7: None}})
    assert config.profiles == {"slow": {"read_bw": 1000, "weight": 10}, "7": {}}


@pytest.mark.parametrize("source", ["text", 7, ["lease"]])
def test_a_source_that_is_no_mapping_is_refused(source: Any) -> None:
    with pytest.raises(ConfigInvalid, match=r"^dsvolume: must be a mapping, not "):
        load("node1", source)


def test_an_unknown_setting_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigInvalid, match=r"^dsvolume:leese is no setting") as caught:
        load("node1", {"leese": 1})
    assert all(name in str(caught.value) for name in DEFAULTS)


def test_a_node_needs_a_name() -> None:
    with pytest.raises(ConfigInvalid, match="has no name"):
        load("")


def test_a_file_that_is_absent_or_empty_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    assert read_file(file) == {}
    file.write_text("# nothing\n")
    assert read_file(file) == {}
    file.write_text("lease: 3\n")
    assert read_file(file) == {"lease": 3}


@pytest.mark.parametrize("content", [b"a: [", b"a: b: c", b"- x\n", b"text", b"a: \xff", b"\0"])
def test_a_file_that_cannot_be_meant_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigInvalid) as caught:
        read_file(file)
    assert one_sentence(caught.value).startswith(str(file))


def test_a_master_is_no_node_and_reads_no_nodes_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("timeout: 3\n")
    monkeypatch.setattr("libstorage.config.read_file", lambda: read_file(file))
    opts = {"id": "here", "dsvolume": {"lease": 2}}
    node = of_salt(opts, {"dsvolume": {"events": {"retention": 1}}}, str)
    assert (node.node, node.timeout, node.lease, node.retention) == ("here", 3, 2, 1)
    assert of_salt(opts, {}, str).timeout == 3
    assert (of_salt(opts, None, str).timeout, of_salt(opts, None, str).lease) == (50, 2)


# -- secrets -------------------------------------------------------------------------------------

SECRET = "hunter2-hunter2"
ETCD = {"kind": "etcd", "endpoints": ["http://10.0.0.1:2379"], "user": "dsvolume"}


def asked(answer: object, said: list[str] | None = None) -> Config:
    """A configuration whose password is kept by an sdb that gives this answer, or raises it."""

    def fetch(uri: str) -> object:
        if said is not None:
            said.append(uri)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return load("node1", {"store": {**ETCD, "password": "sdb://vault/etcd"}}, fetch=fetch)


def test_a_kept_password_is_fetched_for_the_opening_of_the_store_alone() -> None:
    said: list[str] = []
    config = asked(SECRET, said)
    assert config.store["password"] == "sdb://vault/etcd" and said == []
    assert config.revealed_store() == {**ETCD, "password": SECRET}
    assert said == ["sdb://vault/etcd"]
    assert SECRET not in repr(config)
    store = open_store(config, dict)
    assert SECRET not in repr(vars(store))
    store.close()
    assert config == asked("another")  # the manager of a process stays


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "stands for no text"),
        ("", "stands for no text"),
        (7, "stands for no text"),
        ({"password": SECRET}, "stands for no text"),
        ("sdb://vault/other", "stands for no text"),
        (KeyError(SECRET), "cannot be had (KeyError)"),
        (RuntimeError(f"denied: {SECRET}"), "cannot be had (RuntimeError)"),
    ],
)
def test_a_kept_password_that_is_not_to_be_had_is_told_without_it(
    answer: object, words: str
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        open_store(asked(answer), dict)
    text = one_sentence(caught.value)
    assert text.startswith("dsvolume:store:password: sdb://vault/etcd ") and words in text
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_only_secrets_are_looked_up_and_by_salt_alone() -> None:
    settings = {"store": {**ETCD, "prefix": "sdb://vault/prefix"}}
    with pytest.raises(ConfigInvalid, match="only password may be secret"):
        open_store(load("node1", settings, fetch=str), dict)
    with pytest.raises(ConfigInvalid, match="can be looked up by Salt alone"):
        open_store(load("node1", {"store": {**ETCD, "password": "sdb://a/b"}}), dict)


def test_a_file_with_a_password_is_private(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"store: {{kind: etcd, user: u, password: {SECRET}}}\n")
    for mode in (0o640, 0o604, 0o620):
        file.chmod(mode)
        with pytest.raises(ConfigInvalid, match="holds a password and others may read it: chmod"):
            read_file(file)
    file.chmod(0o600)
    assert read_file(file)["store"]["password"] == SECRET
    for harmless in ("{password: sdb://vault/etcd}", "{password_file: /f}", "embedded"):
        file.write_text(f"store: {harmless}\n")
        file.chmod(0o644)
        assert read_file(file)


@pytest.mark.parametrize("rest", ["\n  : [", " {a", "\n\tx: 1", " 'x", "\nb: *hunter2-hunter2"])
def test_a_broken_file_is_told_without_what_stands_in_it(tmp_path: Path, rest: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"store: {{user: u, password: {SECRET}}}{rest}\n")
    with pytest.raises(ConfigInvalid) as caught:
        read_file(file)
    assert one_sentence(caught.value).startswith(f"{file} cannot be read: line ")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def controllers(tmp_path: Path, **settings: Any) -> Controllers:
    config: Config = load("node1", {"root": str(tmp_path), **settings})
    return Controllers(config)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"policies": {"local": "ds-disk"}}, "dsvolume:policies names ds-disk"),
        ({"policies": {"ram": "ds-local"}}, "dsvolume:policies:ram: ds-local serves local only"),
        (
            {"policies": {"local": "mine"}, "controllers": {"mine": "no_such_module_here"}},
            "Controller mine cannot be loaded from no_such_module_here",
        ),
        (
            {"policies": {"local": "mine"}, "controllers": {"mine": "json"}},
            "Controller mine cannot be loaded from json",
        ),
    ],
)
def test_a_controller_that_cannot_serve_is_named(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        controllers(tmp_path, **settings)
    assert one_sentence(caught.value).startswith(says)


def test_a_controller_may_come_from_any_module(tmp_path: Path) -> None:
    found = controllers(
        tmp_path,
        policies={"local": "mine", "ram": "ds-ram"},
        controllers={"mine": "libstorage.controllers.local"},
    )
    assert [controller.name for controller in found.all()] == ["ds-local", "ds-ram"]
