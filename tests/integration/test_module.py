"""The execution module: what it offers, what it understands, and how it says no."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import salt.loader
import salt.minion
import salt.utils.args
from salt.exceptions import CommandExecutionError
from situations import KINDS, nothing_is_written

import libstorage
from lab.site import LEASE, NODE, Site
from libstorage import config

FUNCTIONS = [
    "adopt",
    "attachments",
    "capacity",
    "create",
    "doctor",
    "drain",
    "events",
    "fence",
    "flatten",
    "force_detach",
    "forget_node",
    "index",
    "info",
    "label",
    "ls",
    "mount",
    "nodes",
    "operations",
    "place",
    "protect",
    "qos_apply",
    "qos_create",
    "qos_disable",
    "qos_edit",
    "qos_enable",
    "qos_info",
    "qos_ls",
    "qos_rm",
    "refer",
    "resize",
    "rm",
    "rollback",
    "snapshot_clone",
    "snapshot_create",
    "snapshot_info",
    "snapshot_ls",
    "snapshot_rm",
    "tie",
    "trash_ls",
    "undelete",
    "undrain",
    "unmount",
    "unprotect",
    "usage",
    "version",
]
EXT4 = KINDS["ext4"]


# -- what it offers ------------------------------------------------------------------------------


def test_the_functions_are_these(modules: Any) -> None:
    assert sorted(name for name in modules if name.startswith("dsvolume.")) == [
        f"dsvolume.{function}" for function in FUNCTIONS
    ]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_is_described_with_an_example(modules: Any, function: str) -> None:
    name = f"dsvolume.{function}"
    doc = modules["sys.doc"](name)[name]
    assert "CLI Example:" in doc and f"' {name}" in doc
    # What all functions share is described once, where the module is.
    shared = {"timeout", "test"}
    words = {*(modules["sys.argspec"](name)[name]["args"] or ())} - shared
    # (Python 3.13 takes the indentation off.)
    assert all(re.search(rf"(^|\n) *{word}|, {word}", doc) for word in words)


def test_arguments_are_told_by_name_and_default(modules: Any) -> None:
    spec = modules["sys.argspec"]("dsvolume.create")["dsvolume.create"]
    assert spec["args"][:4] == ["name", "policy", "size", "fstype"]
    assert spec["defaults"] == (*[None] * 10, False) and spec["kwargs"] is None
    assert modules["sys.argspec"]("dsvolume.info")["dsvolume.info"]["varargs"]


@pytest.fixture
def reload(opts: dict[str, Any]) -> Any:
    """Loads the modules anew, as a minion does after a sync; the session's stay."""

    def load() -> Any:
        utils = salt.loader.utils(opts, loaded_base_name="again")
        return salt.loader.minion_mods(opts, utils=utils, loaded_base_name="again")

    return load


def test_another_version_of_libstorage_is_refused(reload: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(libstorage, "__version__", "0.0.7")
    loaded = reload()
    assert "dsvolume.ls" not in loaded
    why = loaded.missing_fun_string("dsvolume.ls")
    assert "dsvolume 0.1.0 was loaded beside libstorage 0.0.7; restart the minion" in why


def test_without_libstorage_the_reason_is_told(
    reload: Any, opts: dict[str, Any], monkeypatch: Any
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "libstorage"]:
        monkeypatch.setitem(sys.modules, name, None)
    loaded = reload()
    assert "dsvolume.ls" not in loaded
    why = loaded.missing_fun_string("dsvolume.ls")
    assert "dsvolume needs libstorage (" in why and "run saltutil.sync_utils" in why
    states = salt.loader.states(opts, loaded, {}, None, loaded_base_name="again")
    assert "dsvolume.present" not in states
    assert "The states of dsvolume need libstorage" in states.missing_fun_string("dsvolume.present")


def test_the_configured_manager_is_used(
    modules: Any, opts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "refusing.py").write_text(
        "from libstorage.errors import InvalidInput\n"
        "from libstorage.manager import VolumeManager\n\n\n"
        "class MANAGER(VolumeManager):\n"
        "    def rm(self, name, **call):\n"
        "        raise InvalidInput(f'Nobody removes {name} here')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    opts["dsvolume"]["manager"] = "refusing"
    modules["dsvolume.create"]("v", policy="local")
    with pytest.raises(CommandExecutionError, match="Nobody removes v here"):
        modules["dsvolume.rm"]("v")
    assert modules["dsvolume.version"]()["manager"] == "refusing"
    opts["dsvolume"]["manager"] = "nowhere"
    with pytest.raises(CommandExecutionError, match="volume manager nowhere cannot be loaded"):
        modules["dsvolume.ls"]()


# -- what it understands -------------------------------------------------------------------------


def as_typed(modules: Any, function: str, *words: str) -> Any:
    """Call a function with the words of a command line, read as salt-call reads them."""
    call = modules[f"dsvolume.{function}"]
    arguments = salt.utils.args.parse_input(list(words))
    args, kwargs = salt.minion.load_args_and_kwargs(call, arguments)
    return call(*args, **kwargs)


def test_words_of_the_command_line_mean_what_they_say(modules: Any) -> None:
    record = as_typed(
        modules,
        "create",
        "v",
        "policy=local",
        "fstype=ext4",
        "size=8",
        "shared=true",
        "automigrate=false",
        "opt=exec=false,atime=false",
        "labels=team=web,tier=1",
    )
    assert (record["MBSize"], record["Shared"], record["AutoMigrate"]) == (8, True, False)
    assert record["Options"] == {"exec": "false", "atime": "false"}
    assert record["Labels"] == {"team": "web", "tier": "1"}
    # As text, as numbers and booleans, and as YAML it is the same.
    same: dict[str, Any] = {"size": "8", "shared": "True", "opt": ["exec=false", {"atime": False}]}
    same["labels"] = {"team": "web", "tier": 1}
    assert modules["dsvolume.create"]("v", **same)["Id"] == record["Id"]
    words = ("opt={exec: false, atime: false}", "labels=[team=web, tier=1]")
    assert as_typed(modules, "create", "v", *words)["Id"] == record["Id"]


def test_empty_words_are_left_out(modules: Any) -> None:
    modules["dsvolume.create"]("v", **KINDS["directory"])
    empty = dict.fromkeys(("policy", "size", "fstype", "shared", "automigrate"), "")
    assert modules["dsvolume.create"]("v", **empty)["Policy"] == "local"


def test_a_name_of_digits_is_a_name(modules: Any, site: Site) -> None:
    assert as_typed(modules, "create", "123", "policy=local")["Name"] == "123"
    assert as_typed(modules, "mount", "123", "id=7")["Containers"] == [f"salt:7@{NODE}"]
    assert [record["Name"] for record in as_typed(modules, "info", "123")] == ["123"]
    assert as_typed(modules, "usage", "123")[0]["Name"] == "123"
    as_typed(modules, "unmount", "123", "id=7")
    assert as_typed(modules, "rm", "123")["Name"] == "123"


@pytest.mark.parametrize("word", ["true", "1.5", "null"])
def test_a_name_that_the_command_line_reads_as_something_else_is_refused(
    modules: Any, word: str
) -> None:
    with pytest.raises(CommandExecutionError, match="Not a volume name"):
        as_typed(modules, "create", word, "policy=local")


def test_labels_are_words_pairs_or_mappings(modules: Any) -> None:
    modules["dsvolume.create"]("v", policy="local", labels="old=1")
    words = ("v", "team=web", "tier=1", "spare=true", "0day=x", "old=", "a-b.c=y z")
    labels = {"team": "web", "tier": "1", "spare": "true", "0day": "x", "a-b.c": "y z"}
    assert as_typed(modules, "label", *words)["Labels"] == labels
    # A minion tells a function that takes any keyword of its job.
    modules["dsvolume.label"]("v", {"test": "x"}, "b=2,c=3", d=4, __pub_jid="2026", __pub_fun="x")
    assert modules["dsvolume.info"]("v")[0]["Labels"] == {
        **labels,
        **{"test": "x", "b": "2", "c": "3", "d": "4"},
    }
    foretold = modules["dsvolume.label"]("v", team="", test=True)
    assert "team" not in foretold["Labels"]
    assert "team" in modules["dsvolume.info"]("v")[0]["Labels"]


def test_a_name_of_digits_is_protected(modules: Any) -> None:
    as_typed(modules, "create", "123", "policy=local")
    assert as_typed(modules, "protect", "123")["Protected"] is True
    assert as_typed(modules, "label", "123", "a=1")["Labels"] == {"a": "1"}
    assert as_typed(modules, "unprotect", "123")["Protected"] is False


def test_qos_as_it_is_typed(modules: Any) -> None:
    modules["dsvolume.create"]("123", **EXT4)
    made = as_typed(modules, "qos_create", "7", "read_bw=2000", "weight=777")
    assert (made["Name"], made["ReadBW"], made["Weight"]) == ("7", 2000, 777)
    assert as_typed(modules, "qos_edit", "7", "read_bw=0")["ReadBW"] == 0
    assert as_typed(modules, "qos_apply", "123", "profile=7")[0]["QoSProfile"] == "7"
    assert as_typed(modules, "qos_enable", "123", "global=true")[0]["QoSState"] is True
    assert as_typed(modules, "qos_disable", "global=true") == []
    assert as_typed(modules, "qos_ls")["Global"] is False
    # A minion tells a function that takes any keyword of its job.
    modules["dsvolume.qos_enable"]("123", **{"global": True, "__pub_jid": "2026"})
    assert as_typed(modules, "qos_ls")["Global"] is True
    assert as_typed(modules, "qos_info", "7", "default")[0]["Volumes"] == ["123"]
    as_typed(modules, "qos_apply", "123", "profile=default")
    assert as_typed(modules, "qos_rm", "7")["Name"] == "7"


def test_filters_are_a_word_several_with_commas_or_a_list(modules: Any) -> None:
    for name, team in (("a", "web"), ("b", "web"), ("c", "db")):
        modules["dsvolume.create"](name, policy="local", labels=f"team={team}")
    for filters in ("label=team=web,name=[ab]", ["label=team=web", "name=[ab]"]):
        assert [v["Name"] for v in modules["dsvolume.ls"](filter=filters)] == ["a", "b"]
    assert [v["Name"] for v in as_typed(modules, "ls", "filter=label=team=db")] == ["c"]
    events = as_typed(modules, "events", "since=1h", "filter=volume=a,verb=create")
    assert [event["Volume"] for event in events] == ["a"]


def test_events_say_who_asked(modules: Any) -> None:
    modules["dsvolume.create"]("v", policy="local")
    [event] = modules["dsvolume.events"]()
    assert event["By"]["door"] == "salt" and event["By"]["user"]


def test_a_life_through_the_module(modules: Any, site: Site) -> None:
    modules["dsvolume.create"]("v", **EXT4)
    mounted = modules["dsvolume.mount"]("v")
    assert mounted["Changed"] and mounted["Mountpoint"] == str(site.root / "mounts" / "v")
    assert not modules["dsvolume.mount"]("v")["Changed"]
    (site.root / "mounts" / "v" / "file").write_bytes(b"x" * 5000)
    [usage] = modules["dsvolume.usage"]("v", summary=False)
    assert usage["Err"] == "" and any(e["file"].endswith("/file") for e in usage["Usage"])
    with pytest.raises(CommandExecutionError, match=f"^Volume in use by salt:salt@{NODE}$"):
        modules["dsvolume.rm"]("v")
    assert modules["dsvolume.unmount"]("v")["Mountpoint"] == ""
    modules["dsvolume.rm"]("v")
    assert modules["dsvolume.ls"]() == modules["dsvolume.operations"]() == []
    assert modules["dsvolume.doctor"]() == []


# -- how it says no ------------------------------------------------------------------------------

WRONG = [
    ("create", ["../x"], {"policy": "local"}),
    ("create", ["-rf"], {"policy": "local"}),
    ("create", ["a@b"], {"policy": "local"}),
    ("create", [""], {"policy": "local"}),
    ("create", ["ü"], {"policy": "local"}),
    ("create", ["v" * 300], {"policy": "local"}),
    ("create", ["a\nb"], {"policy": "local"}),
    ("create", ["v"], {"policy": "golden"}),
    ("create", ["v"], {"policy": 3}),
    ("create", ["v"], {**EXT4, "size": 0}),
    ("create", ["v"], {**EXT4, "size": "-1"}),
    ("create", ["v"], {**EXT4, "size": 1.5}),
    ("create", ["v"], {**EXT4, "size": "many"}),
    ("create", ["v"], {**EXT4, "size": True}),
    ("create", ["v"], {**EXT4, "size": 10**30}),
    ("create", ["v"], {"policy": "local", "fstype": "xfs", "size": 1}),
    ("create", ["v"], {"policy": "local", "fstype": "zfs"}),
    ("create", ["v"], {"policy": "local", "shared": "maybe"}),
    ("create", ["v"], {"policy": "local", "opt": "speed=high"}),
    ("create", ["v"], {"policy": "local", "opt": "exec"}),
    ("create", ["v"], {"policy": "local", "opt": 7}),
    ("create", ["v"], {"policy": "local", "labels": {"a": ["b"]}}),
    ("create", ["v"], {"policy": "local", "labels": ["=b"]}),
    ("create", ["v"], {"policy": "secure", "shared": True}),
    ("create", ["v"], {"policy": "local", "labels": {"a b": "1"}}),
    ("create", ["v"], {"policy": "local", "labels": {"a": "1,2"}}),
    ("rm", ["there"], {"purge": "no"}),
    ("undelete", ["../x"], {}),
    ("undelete", ["there"], {"new": "a@b"}),
    ("undelete", ["there"], {"id": "a b"}),
    ("undelete", ["there"], {"timeout": "soon"}),
    ("trash_ls", ["../x"], {}),
    ("label", ["there"], {}),
    ("label", ["there", "team"], {}),
    ("label", ["there", "=web"], {}),
    ("label", ["there", "-a=1"], {}),
    ("label", ["there", {"a": None}], {}),
    ("label", ["there"], {"team": "a\nb"}),
    ("label", ["there"], {"team": ["a"]}),
    ("label", ["there"], {"__team": "a"}),
    ("label", ["../x", "a=1"], {}),
    ("label", ["there", "a=1"], {"timeout": "soon"}),
    ("qos_create", ["../x"], {}),
    ("qos_create", ["p"], {"read_bw": -1}),
    ("qos_create", ["p"], {"weight": 5000}),
    ("qos_edit", ["default"], {}),
    ("qos_edit", ["default"], {"read_iops": "many"}),
    ("qos_apply", [], {"profile": "default"}),
    ("qos_apply", ["../x"], {"profile": "default"}),
    ("qos_apply", ["there"], {"profile": "a b"}),
    ("qos_enable", [], {}),
    ("qos_enable", ["there"], {"everywhere": True}),
    ("qos_enable", ["there"], {"global": "maybe"}),
    ("qos_disable", ["there"], {"timeout": "soon"}),
    ("create", ["v"], {**EXT4, "qos": "maybe"}),
    ("create", ["v"], {**EXT4, "qos_profile": "a b"}),
    ("mount", ["there"], {"cgroup": "nowhere"}),
    ("protect", ["../x"], {}),
    ("unprotect", ["there"], {"timeout": -1}),
    ("mount", ["there"], {"id": ""}),
    ("mount", ["there"], {"id": "a b"}),
    ("mount", ["there"], {"timeout": "soon"}),
    ("unmount", ["there"], {"id": "../x"}),
    ("info", ["no such@"], {}),
    ("usage", ["/etc"], {}),
    ("rm", [None], {}),
    ("ls", [], {"filter": "colour=red"}),
    ("ls", [], {"filter": "name"}),
    ("events", [], {"since": "yesterday"}),
    ("events", [], {"filter": "colour=red"}),
]


@pytest.mark.parametrize(("function", "args", "kwargs"), WRONG)
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    modules: Any, site: Site, function: str, args: list[Any], kwargs: dict[str, Any]
) -> None:
    modules["dsvolume.create"]("there", policy="local")
    with nothing_is_written(site), pytest.raises(CommandExecutionError) as caught:
        modules[f"dsvolume.{function}"](*args, **kwargs)
    assert_one_sentence(str(caught.value))


REFUSED = [
    ("create", ["v"], {}, "Policy distributed is served by no controller on this node"),
    ("create", ["there"], {"policy": "ram"}, "Volume exists with other options: policy local, ask"),
    ("create", ["v"], {**EXT4, "size": 10**12}, "MB free, asked 1000000000000"),
    ("create", ["v"], {"policy": "ram", "size": 10**9}, "MB of memory available, asked 1000000000"),
    ("rm", ["none"], {}, "No such volume: none"),
    ("info", ["there", "none"], {}, "No such volume: none"),
    ("usage", ["none"], {}, "No such volume: none"),
    ("mount", ["none"], {}, "No such volume: none"),
    ("label", ["none", "a=1"], {}, "No such volume: none"),
    ("protect", ["none"], {}, "No such volume: none"),
    ("unprotect", ["none"], {}, "No such volume: none"),
    ("unmount", ["none"], {}, "No such volume: none"),
    ("qos_apply", ["none"], {"profile": "default"}, "No such volume: none"),
    ("qos_apply", ["there"], {"profile": "none"}, "No such QoS profile: none; there are default"),
    ("qos_apply", ["there"], {"profile": "default"}, "there is a plain directory, whose I/O"),
    ("qos_enable", ["there"], {}, "there is a plain directory, whose I/O cannot be limited"),
    ("qos_edit", ["none"], {"weight": 10}, "No such QoS profile: none; there are default"),
    ("qos_rm", ["default"], {}, "QoS profile default is for the volumes that have no other"),
    ("mount", ["there"], {"cgroup": "/no/such"}, "has no cgroup /no/such for block I/O"),
]


@pytest.mark.parametrize(("function", "args", "kwargs", "words"), REFUSED)
def test_what_cannot_be_had_is_refused_in_one_sentence(
    modules: Any, site: Site, function: str, args: list[Any], kwargs: dict[str, Any], words: str
) -> None:
    modules["dsvolume.create"]("there", policy="local")
    with site.nothing_changes(), pytest.raises(CommandExecutionError) as caught:
        modules[f"dsvolume.{function}"](*args, **kwargs)
    assert words in str(caught.value)
    assert_one_sentence(str(caught.value))


def assert_one_sentence(text: str) -> None:
    assert text and "\n" not in text and "Traceback" not in text
    assert len(text) < 300 and not text.startswith(("'", '"', "(", "["))


# -- configuration -------------------------------------------------------------------------------


def test_the_file_gives_way_to_the_minion_and_this_to_pillar(
    modules: Any, opts: dict[str, Any], site: Site, monkeypatch: Any, tmp_path: Any
) -> None:
    file = tmp_path / "config.yaml"
    real = config.read_file
    monkeypatch.setattr(config, "read_file", lambda: real(file))
    minion, pillar = opts["dsvolume"], modules.pack["__pillar__"]
    # Each layer in turn, without a restart in between.
    file.write_text("{root: /nowhere, mount_root: /from/the/file, policies: {ram: ds-ram}}\n")
    assert modules["dsvolume.version"]()["root"] == str(site.root)
    assert modules["dsvolume.version"]()["mount_root"] == "/from/the/file"
    assert _policies(modules) == "ram"
    minion["policies"] = {"secure": "ds-ram"}
    assert _policies(modules) == "secure"
    monkeypatch.setitem(pillar, "dsvolume", {"policies": {"local": "ds-local"}})
    assert _policies(modules) == "local"
    monkeypatch.delitem(pillar, "dsvolume")
    assert _policies(modules) == "secure"
    file.unlink()
    del minion["policies"]
    assert modules["dsvolume.version"]()["mount_root"] == str(site.root / "mounts")
    modules["dsvolume.create"]("v", policy="local")


def _policies(modules: Any) -> str:
    """The policies that this node serves, as its refusal of another one tells them."""
    with pytest.raises(CommandExecutionError) as caught:
        modules["dsvolume.create"]("v", policy="distributed-fs", test=True)
    return str(caught.value).partition("it serves ")[2].partition(" (")[0]


def test_another_root_is_taken_up_without_a_restart(
    modules: Any, opts: dict[str, Any], site: Site
) -> None:
    modules["dsvolume.create"]("v", policy="local")
    opts["dsvolume"]["root"] = str(site.root / "other")
    assert modules["dsvolume.ls"]() == []
    opts["dsvolume"]["root"] = str(site.root)
    assert [volume["Name"] for volume in modules["dsvolume.ls"]()] == ["v"]
    # The manager of the other root was closed: nobody is registered there any more.
    assert len([e for e in site.store.list("owners/")]) <= 1


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("colour", "red", "dsvolume:colour is no setting"),
        ("lease", "long", "dsvolume:lease must be a number"),
        ("timeout", -1, "dsvolume:timeout must be a number"),
        ("policies", {"golden": "ds-local"}, "dsvolume:policies must be one of"),
        ("policies", {"local": "ds-none"}, "dsvolume:policies names ds-none"),
        ("policies", {"ram": "ds-local"}, "ds-local serves local only"),
        ("store", {"kind": "papyrus"}, "dsvolume:store:kind must be embedded"),
        ("controllers", {"ds-x": 5}, "dsvolume:controllers:ds-x must be a text"),
        ("manager", "another", "The volume manager another cannot be loaded"),
    ],
)
def test_a_wrong_setting_is_named(
    modules: Any, opts: dict[str, Any], site: Site, setting: str, value: Any, words: str
) -> None:
    modules["dsvolume.create"]("v", policy="local")
    opts["dsvolume"][setting] = value
    with site.nothing_changes(), pytest.raises(CommandExecutionError) as caught:
        modules["dsvolume.ls"]()
    assert words in str(caught.value)
    assert_one_sentence(str(caught.value))
    del opts["dsvolume"][setting]
    if setting == "lease":
        opts["dsvolume"][setting] = LEASE
    assert [volume["Name"] for volume in modules["dsvolume.ls"]()] == ["v"]


def test_a_setting_that_may_be_secret_is_never_shown(
    modules: Any, opts: dict[str, Any], site: Site
) -> None:
    secret = "correct-horse-battery"
    said = []
    for store in ({"kind": "embedded", "password": secret}, f"https://root:{secret}@store"):
        opts["dsvolume"]["store"] = store
        for function, args in (("version", ()), ("ls", ()), ("mount", ("none",))):
            try:
                said.append(modules[f"dsvolume.{function}"](*args))
            except CommandExecutionError as exc:
                said.append(str(exc))
    assert secret not in repr(said)
    assert secret not in repr(site.values())
