"""The command line's words: flags as docker's commands take them, arguments, times."""

import ast
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import libstorage
from dsvolume_cli import __version__, show
from dsvolume_cli.commands import COMMANDS, GROUPS, find, members
from dsvolume_cli.words import BOOL, LIST, NUMBER, TEXT, Flag, WrongUsage, parse

ROOT = Path(__file__).resolve().parents[2]
FOR_BRIDGES = {"attachments", "index", "place", "refer", "tie"}
"""Functions that nobody calls by hand."""
CREATE = COMMANDS["create"].flags
QOS = COMMANDS["qos create"].flags
FLAGS = (
    Flag("size", NUMBER, "", short="z"),
    Flag("name", TEXT, "", short="n", older="called"),
    Flag("move", BOOL, "", short="m"),
    Flag("share", BOOL, "", short="s"),
    Flag("opt", LIST, "", short="o", argument="options"),
)


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("-z=100", {"size": 100}),
        ("-z 100", {"size": 100}),
        ("-z100", {"size": 100}),
        ("--size=100", {"size": 100}),
        ("--size 100", {"size": 100}),
        ("-z -5", {"size": -5}),
        ("--size 1 -z 2", {"size": 2}),
        ("-n=x=y", {"name": "x=y"}),
        ("--name=", {"name": ""}),
        ("--called x", {"name": "x"}),
        ("-m", {"move": True}),
        ("-m=false", {"move": False}),
        ("--move", {"move": True}),
        ("--move=T", {"move": True}),
        ("--move=0", {"move": False}),
        ("-ms", {"move": True, "share": True}),
        ("-ms=false", {"move": True, "share": False}),
        ("-mz100", {"move": True, "size": 100}),
        ("-mz 100", {"move": True, "size": 100}),
        ("-o a=b --opt=c=d,e=f -o g=", {"options": ["a=b", "c=d,e=f", "g="]}),
        ("--format json", {"format": "json"}),
        ("--help", {"help": True}),
        ("-h", {"help": True}),
        ("", {}),
    ],
)
def test_flags_are_given_in_each_of_docker_s_forms(line: str, given: dict[str, Any]) -> None:
    parsed = parse([*line.split(), "VOLUME"], FLAGS)
    assert (parsed.given, parsed.rest) == (given, ["VOLUME"])
    assert parse(["VOLUME", *line.split()], FLAGS).given == given


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("-m false", ["false"]),
        ("a -m b", ["a", "b"]),
        ("-m -- -z 100", ["-z", "100"]),
        ("a -", ["a", "-"]),
        ("vol@snap k=v", ["vol@snap", "k=v"]),
    ],
)
def test_what_is_no_flag_is_an_argument(line: str, rest: list[str]) -> None:
    assert parse(line.split(), FLAGS).rest == rest


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--colour", "unknown flag: --colour"),
        ("--colour=red", "unknown flag: --colour"),
        ("-x", "unknown shorthand flag: 'x' in -x"),
        ("-mx", "unknown shorthand flag: 'x' in -mx"),
        ("--size", "flag needs an argument: --size"),
        ("-z", "flag needs an argument: 'z' in -z"),
        ("-mz", "flag needs an argument: 'z' in -mz"),
        ("-z=", 'invalid argument "" for "-z, --size" flag: it must be a whole number'),
        ("-z=1.5", 'invalid argument "1.5" for "-z, --size" flag: it must be a whole number'),
        ("--size 10G", 'invalid argument "10G" for "-z, --size" flag: it must be a whole number'),
        ("--size=1_0", 'invalid argument "1_0" for "-z, --size" flag: it must be a whole number'),
        ("--size=" + "9" * 99, "it must be a whole number"),
        ("-m=no", 'invalid argument "no" for "-m, --move" flag: it must be true or false'),
        ("-m=", 'invalid argument "" for "-m, --move" flag: it must be true or false'),
    ],
)
def test_what_cannot_be_meant_is_told_in_docker_s_words(line: str, says: str) -> None:
    with pytest.raises(WrongUsage) as raised:
        parse(line.split(), FLAGS)
    assert str(raised.value).endswith(says)


@given(st.lists(st.text(max_size=8) | st.sampled_from(["-z", "-o", "--size", "--", "-m=", "-"])))
def test_no_line_is_read_otherwise_than_as_flags_arguments_or_a_refusal(words: list[str]) -> None:
    try:
        parsed = parse(words, FLAGS)
    except WrongUsage as exc:
        assert str(exc)
    else:
        assert set(parsed.given) <= {"size", "name", "move", "share", "options", "format", "help"}
        assert set(parsed.rest) <= set(words)


@given(st.integers(-(10**15), 10**15))
def test_a_number_is_the_same_in_every_form(number: int) -> None:
    forms = ([f"-z={number}"], ["-z", str(number)], [f"-z{number}"], [f"--size={number}"])
    assert [parse(list(form), FLAGS).given for form in forms] == [{"size": number}] * 4


def test_the_seed_s_command_line_is_understood() -> None:
    parsed = parse(["-f=ext4", "-z=100", "-m", "-p=distributed", "demovol1"], CREATE)
    assert parsed.rest == ["demovol1"]
    assert parsed.given == {
        "fstype": "ext4",
        "size": 100,
        "automigrate": True,
        "policy": "distributed",
    }
    assert parse(["--filesys=xfs", "-s=false"], CREATE).given == {"fstype": "xfs", "shared": False}
    line = ["--read-iops=1", "--read-bw", "2", "--write-iops=3", "--write-bw=4", "--weight=5"]
    limits = parse(line, QOS)
    assert limits.given == {
        "read_iops": 1,
        "read_bw": 2,
        "write_iops": 3,
        "write_bw": 4,
        "weight": 5,
    }


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ls", ("ls", "ls", [])),
        ("snapshot ls -v x", ("snapshot ls", "snapshot ls", ["-v", "x"])),
        ("snapshot", ("snapshot", None, [])),
        ("snapshot vol@snap", ("snapshot", None, ["vol@snap"])),
        ("qos enable -g", ("qos enable", "qos enable", ["-g"])),
        ("migrate x", ("", None, ["migrate", "x"])),
        ("", ("", None, [])),
    ],
)
def test_the_command_is_the_first_words(
    line: str, found: tuple[str, str | None, list[str]]
) -> None:
    name, command, rest = find(line.split())
    assert (name, command.name if command else None, rest) == found


def test_commands_are_those_of_the_seed_and_the_design() -> None:
    top = "create rm info ls usage rollback events resize mount umount undelete protect unprotect"
    top += " operations doctor version fence drain undrain force-detach forget-node label nodes"
    top += " flatten adopt capacity"
    assert set(members("")) == set(top.split())
    assert set(members("snapshot")) == {"create", "rm", "ls", "info", "clone", "rollback"}
    assert set(members("qos")) == {
        *("create", "edit", "rm", "ls", "info", "enable", "disable", "apply")
    }
    assert set(members("trash")) == {"ls"}
    assert set(GROUPS) == {"", "snapshot", "qos", "trash"}


def _functions() -> dict[str, ast.FunctionDef]:
    module = ast.parse((ROOT / "salt/_modules/dsvolume.py").read_text())
    functions = (node for node in module.body if isinstance(node, ast.FunctionDef))
    return {node.name: node for node in functions if not node.name.startswith("_")}


def test_every_function_has_its_command_and_every_flag_its_argument() -> None:
    functions = _functions()
    assert {command.function for command in COMMANDS.values()} == functions.keys() - FOR_BRIDGES
    for command in COMMANDS.values():
        taken = functions[command.function].args
        names = {arg.arg for arg in (*taken.args, *taken.kwonlyargs)}
        if taken.kwarg is not None:
            names |= {"global"}
        assert {flag.argument for flag in command.flags} <= names, command.name


def test_the_reference_names_every_command_and_flag() -> None:
    reference = (ROOT / "docs/cli.md").read_text()
    for name, command in COMMANDS.items():
        assert f"{name.rpartition(' ')[2]} " in reference or f"`{name}`" in reference, name
        for flag in command.flags:
            for written in flag.written:
                assert re.search(rf"{written}\b", reference), (name, written)


def test_the_default_that_is_shown_is_no_value_that_is_sent() -> None:
    for command in COMMANDS.values():
        assert parse([], command.flags).given == {}, command.name


def test_the_command_line_has_libstorage_s_version() -> None:
    assert __version__ == libstorage.__version__


def _loaded(code: str) -> set[str]:
    """The modules that there are when code has run in an interpreter as the plugin's."""
    command = f"import sys; sys.path[:0] = [{str(ROOT / 'plugin')!r}]; {code}"
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"{command}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_little_is_loaded_so_that_it_starts_quickly() -> None:
    loaded = _loaded("import dsvolume_cli.run")
    assert "dsvolume_cli.bridge" in loaded
    slow = {"argparse", "asyncio", "dataclasses", "datetime", "email", "http", "inspect", "ssl"}
    assert not loaded & {*slow, "subprocess", "textwrap", "typing", "dsvolume_cli.pages"}


def test_docker_is_told_who_this_is_before_more_is_loaded() -> None:
    loaded = _loaded("import dsvolume_cli.main as m; m.main(['', 'docker-cli-plugin-metadata'])")
    assert "dsvolume_cli.main" in loaded
    assert not loaded & {"json", "socket", "dsvolume_cli.run"}


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the local time zone."""

    def be_in(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield be_in
    monkeypatch.undo()
    time.tzset()


def test_times_are_told_as_the_seed_tells_them(zone: Callable[[str], None]) -> None:
    zone("EST5EDT,M3.2.0,M11.1.0")
    assert show.when("2015-10-08T06:31:17.123456Z") == "Thu Oct 8 02:31:17 EDT 2015"
    assert show.when("2015-12-18T06:31:17Z") == "Fri Dec 18 01:31:17 EST 2015"
    assert show.when("0001-01-01T00:00:00Z") == "Mon Jan 1 00:00:00 UTC 0001"


def test_events_are_told_as_docker_tells_its_own(zone: Callable[[str], None]) -> None:
    row = {"Time": "2015-10-08T09:47:16.675882Z", "Volume": "v", "Text": "Mount success"}
    zone("EST5EDT,M3.2.0,M11.1.0")
    line = "2015-10-08T05:47:16.675882000-04:00 v: (from libstorage) Mount success"
    assert show.event(row) == line
    zone("UTC0")
    assert show.event(row) == "2015-10-08T09:47:16.675882000Z v: (from libstorage) Mount success"
