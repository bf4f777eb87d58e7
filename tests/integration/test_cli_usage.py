"""``docker dsvolume`` where no bridge is asked, or none that answers as it should."""

import json
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from dsvolume_cli.commands import COMMANDS, GROUPS
from lab.cli import PROGRAM, ROOT, Cli, plugin_of_docker
from lab.peers import Manners, Peer, says, says_it_slowly, says_nothing

OK = b"HTTP/1.0 200 OK\r\n\r\n"
PAGES = [*(name for name in GROUPS if name), *COMMANDS]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plugin_of_docker(tmp_path_factory.mktemp("docker") / "config")


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A socket that is not there."""
    return tmp_path / "admin.sock"


@pytest.fixture
def docker(nowhere: Path, config: Path) -> Cli:
    return Cli(nowhere, config)


@pytest.fixture
def cli(nowhere: Path) -> Cli:
    return Cli(nowhere)


# -- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_every_command_has_its_page_of_help(cli: Cli, name: str) -> None:
    pages = [cli(*name.split(), "--help"), cli(*name.split(), "-h"), cli("help", *name.split())]
    assert {page.status for page in pages} == {0}
    [text] = {page.out for page in pages}
    lines = text.splitlines()
    assert lines[0].startswith(f"Usage:  docker-dsvolume {name} ") and lines[1] == ""
    assert all(len(line) <= 80 for line in lines[1:])
    if name in COMMANDS:
        assert lines[0].endswith(COMMANDS[name].usage) and lines[2] == COMMANDS[name].help
        for flag in COMMANDS[name].flags:
            assert re.search(rf"^ +(-{flag.short}, )?--{flag.name}\b", text, re.MULTILINE), (
                flag.name
            )
        assert re.search("^ +--format string ", text, re.MULTILINE)
    else:
        assert lines[0].endswith(f" {name} COMMAND") and lines[2] == GROUPS[name]
        for command in COMMANDS:
            if command.startswith(f"{name} "):
                last, help = command.split()[1], COMMANDS[command].help
                assert re.search(rf"^  {last} +{re.escape(help)}$", text, re.MULTILINE)


def test_create_s_help_is_docker_s_form(docker: Cli) -> None:
    assert docker("create", "--help").lines == [
        "Usage:  docker dsvolume create [OPTIONS] VOLUME",
        "",
        "Create a volume",
        "",
        "Options:",
        "  -m, --automigrate     Whether it may move to the archive by itself",
        "      --format string   'json': the answer as one JSON document",
        '  -f, --fstype string   One of ext2, ext3, ext4, xfs, btrfs, raw (default "xfs")',
        "      --label list      Label, as KEY=VALUE",
        "  -o, --opt list        Option of the policy, as KEY=VALUE",
        "  -p, --policy string   One of distributed, distributed-fs, local, ram, secure",
        '                        (default "distributed")',
        "  -s, --shared          Whether containers may share it (default true)",
        "  -z, --size int        Size in MB (default 100)",
    ]


@pytest.mark.parametrize("words", [["--help"], ["help"], ["-h"]])
def test_the_help_of_the_whole_names_every_command(cli: Cli, words: list[str]) -> None:
    said = cli(*words)
    assert (said.status, said.err) == (0, "")
    assert said.lines[0] == "Usage:  docker-dsvolume COMMAND"
    for name in (*GROUPS, *COMMANDS):
        assert " " in name or not name or re.search(rf"^  {name} ", said.out, re.MULTILINE), name


@pytest.mark.parametrize("group", ["", "snapshot", "qos", "trash"])
def test_a_group_alone_shows_its_help_as_docker_does(cli: Cli, group: str) -> None:
    said = cli(*group.split())
    assert (said.status, said.out) == (0, "")
    assert said.err == cli(*group.split(), "--help").out


# -- under docker --------------------------------------------------------------------------------


def test_docker_knows_the_plugin(docker: Cli, config: Path) -> None:
    page = docker.run(["docker", "--config", str(config), "--help"]).out
    assert re.search(rf"^ +dsvolume\* +{re.escape(GROUPS[''])}$", page, re.MULTILINE)
    for words in ([], ["snapshot"], ["snapshot", "rm"]):
        said = docker.run(["docker", "--config", str(config), "help", "dsvolume", *words])
        assert said.out == docker(*words, "--help").out
        assert said.lines[0].startswith(" ".join(["Usage:  docker dsvolume", *words]))


def test_the_metadata_is_docker_s(cli: Cli) -> None:
    metadata = cli("docker-cli-plugin-metadata").data()
    assert metadata.keys() == {"SchemaVersion", "Vendor", "Version", "ShortDescription"}
    assert (metadata["SchemaVersion"], metadata["Version"]) == ("0.1.0", "0.1.0")


@pytest.mark.parametrize(
    "flags",
    [
        ["-H", "unix:///nowhere"],
        ["-H=unix:///nowhere"],
        ["--host=tcp://127.0.0.1:1", "--debug"],
        ["-D", "-l", "debug"],
        ["--log-level", "error", "--tls=false"],
        ["--context", "default"],
        ["-cdefault"],
        ["--tlscacert=a", "--tlscert", "b", "--tlskey=c", "--tlsverify=false"],
    ],
)
def test_docker_s_own_flags_are_passed_over(docker: Cli, config: Path, flags: list[str]) -> None:
    front = ["docker", "--config", str(config), *flags, "dsvolume"]
    said = docker.run([*front, "qos", "ls", "--help"])
    # Docker itself (26) tells of its telemetry, where it is to debug.
    errors = [line for line in said.err.splitlines() if "level=debug" not in line]
    assert (said.status, errors) == (0, [])
    assert said.lines[0] == "Usage:  docker dsvolume qos ls [OPTIONS]"
    alone = docker.run([str(PROGRAM), *flags, "qos", "ls", "--help"])
    assert alone.lines[0] == "Usage:  docker-dsvolume qos ls [OPTIONS]"


def test_it_can_be_moved_as_a_whole(nowhere: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", ROOT / "plugin", tmp_path / "elsewhere"], check=True, timeout=60)
    link = tmp_path / "docker-dsvolume"
    link.symlink_to(tmp_path / "elsewhere/bin/docker-dsvolume")
    said = Cli(nowhere).run([str(link), "--help"])
    assert said.lines[0] == "Usage:  docker-dsvolume COMMAND"


# -- wrong usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says", "usage"),
    [
        ("ls --colour", "unknown flag: --colour", "ls [OPTIONS]"),
        ("ls -x", "unknown shorthand flag: 'x' in -x", "ls [OPTIONS]"),
        ("create -z", "flag needs an argument: 'z' in -z", "create [OPTIONS] VOLUME"),
        ("create --policy", "flag needs an argument: --policy", "create [OPTIONS] VOLUME"),
        (
            "create -z=big v",
            'invalid argument "big" for "-z, --size" flag: it must be a whole number',
            "create [OPTIONS] VOLUME",
        ),
        (
            "create -m=no v",
            'invalid argument "no" for "-m, --automigrate" flag: it must be true or false',
            "create [OPTIONS] VOLUME",
        ),
        (
            "ls --format=yaml",
            'invalid argument "yaml" for "--format" flag: it can be json',
            "ls [OPTIONS]",
        ),
        ("create", "docker: 'docker dsvolume create' requires 1 argument", None),
        ("create a b", "docker: 'docker dsvolume create' requires 1 argument", None),
        ("create -m false v", "docker: 'docker dsvolume create' requires 1 argument", None),
        ("rm", "docker: 'docker dsvolume rm' requires 1 argument", "rm [OPTIONS] VOLUME"),
        (
            "info",
            "docker: 'docker dsvolume info' requires at least 1 argument",
            "info [OPTIONS] VOLUME [VOLUME...]",
        ),
        ("label v", "docker: 'docker dsvolume label' requires at least 2 arguments", None),
        ("ls v", "docker: 'docker dsvolume ls' accepts no arguments", "ls [OPTIONS]"),
        ("trash ls a b", "docker: 'docker dsvolume trash ls' requires at most 1 argument", None),
        (
            "snapshot clone v@s",
            "docker: 'docker dsvolume snapshot clone' requires 2 arguments",
            "snapshot clone [OPTIONS] VOLUME@SNAPSHOT NEWVOLUME",
        ),
        (
            "qos apply v",
            "docker: 'docker dsvolume qos apply' required flag(s) \"profile\" not set",
            "qos apply [OPTIONS] VOLUME [VOLUME...]",
        ),
        (
            "resize v",
            "docker: 'docker dsvolume resize' required flag(s) \"size\" not set",
            "resize [OPTIONS] VOLUME",
        ),
        ("migrate v", "docker: unknown command: docker dsvolume migrate", "COMMAND"),
        (
            "snapshot v@s firstclone",
            "docker: unknown command: docker dsvolume snapshot v@s",
            "snapshot COMMAND",
        ),
        ("qos --global", "unknown flag: --global", "qos COMMAND"),
    ],
)
def test_wrong_usage_is_told_with_how_it_is_right(
    docker: Cli, words: str, says: str, usage: str | None
) -> None:
    said = docker(*words.split())
    assert (said.status, said.out) == (125, "")
    lines = said.err.splitlines()
    assert lines[0] == says
    assert lines[1] == lines[3] == "" and len(lines) == 5
    assert lines[2].startswith("Usage:  docker dsvolume ")
    assert usage is None or lines[2] == f"Usage:  docker dsvolume {usage}"
    assert lines[4].startswith("Run 'docker dsvolume") and lines[4].endswith("for more information")


# -- no bridge, or a broken one ------------------------------------------------------------------


def test_an_absent_bridge_is_told_with_its_socket_and_its_start(docker: Cli, nowhere: Path) -> None:
    absent = f"docker dsvolume: the bridge is not there: {nowhere}: No such file or directory; "
    for words in (["ls"], ["create", "v"], ["version", "--format=json"]):
        said = docker(*words)
        assert (said.status, said.out) == (1, "")
        start = "start it (systemctl start dsvolume-bridge.socket)"
        assert said.err == f"{absent}{start}, or set DSVOLUME_SOCKET to its admin socket\n"
    nowhere.touch()
    assert f"{nowhere}: Connection refused" in docker("ls").err


def test_without_a_word_it_is_the_usual_socket(cli: Cli) -> None:
    del cli.env["DSVOLUME_SOCKET"]
    empty = f"mount -t tmpfs none /run && exec {PROGRAM} ls"
    said = cli.run(["unshare", "--mount", "sh", "-c", empty])
    assert "/run/dsvolume/admin.sock: No such file or directory" in said.err


BROKEN: list[tuple[bytes, str]] = [
    (b"", "nothing"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "'SSH-2.0-OpenSSH_9.2"),
    (b"\x00\xff" * 99, "'\\x00"),
    (b"HTTP/1.0 200 OK", "'HTTP/1.0 200 OK'"),
    (OK + b'{"return": [{"Name": "v', "'HTTP/1.0 200 OK"),
    (OK + b"[]", "'HTTP/1.0 200 OK"),
    (OK + b"{}", "'HTTP/1.0 200 OK"),
    (OK + b"[" * 100_000, "'HTTP/1.0 200 OK"),
    (b'HTTP/1.0 500 Oh\r\n\r\n{"error": "text"}', "'HTTP/1.0 500 Oh"),
    (b'HTTP/1.0 409 Oh\r\n\r\n{"return": 1}', "'HTTP/1.0 409 Oh"),
    (b"HTTP/1.0 404 Not Found\r\n\r\n404: Not Found", "'HTTP/1.0 404 Not Found"),
]


@pytest.mark.parametrize(("answer", "said_it"), BROKEN)
def test_a_peer_that_is_no_bridge_is_told_so(
    cli: Cli, nowhere: Path, answer: bytes, said_it: str
) -> None:
    with Peer(nowhere, says(answer)):
        said = cli("ls")
    assert (said.status, said.out) == (1, "")
    front = f"docker dsvolume: what answers at {nowhere} is no bridge, or one that has just ended: "
    assert said.err.startswith(f"{front}it said {said_it}")
    assert said.err.endswith("; see what the bridge has written\n")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("manners", [says_nothing, says_it_slowly])
def test_a_bridge_that_hangs_is_waited_for_until_the_limit(nowhere: Path, manners: Manners) -> None:
    cli = Cli(nowhere, DSVOLUME_TIMEOUT="0.4")
    with Peer(nowhere, manners):
        said = cli("rm", "v")
    assert (said.status, said.out) == (1, "")
    assert said.err == (
        f"docker dsvolume: the bridge at {nowhere} gave no answer within 0.4 s; what was asked of "
        f"it may still be done: see docker dsvolume operations\n"
    )


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan"])
def test_a_limit_that_is_none_is_refused(nowhere: Path, value: str) -> None:
    said = Cli(nowhere, DSVOLUME_TIMEOUT=value)("ls")
    assert said.status == 1
    assert f"DSVOLUME_TIMEOUT must be a number of seconds, not '{value}'" in said.err


@pytest.mark.parametrize("rows", [[{"Name": "v"}], {"Name": "v"}, 7, [None]])
def test_an_answer_of_another_version_is_told_so(cli: Cli, nowhere: Path, rows: object) -> None:
    answer = OK + json.dumps({"return": rows}).encode()
    with Peer(nowhere, says(answer)):
        said, whole = cli("ls"), cli("ls", "--format=json")
    assert (said.status, said.out) == (1, "")
    assert "is of another version than this command, 0.1.0" in said.err
    assert whole.data() == rows


def test_a_failure_of_the_bridge_is_its_own_words(cli: Cli, nowhere: Path) -> None:
    error = {"error": {"type": "BridgeError", "text": "The bridge failed at this call"}}
    answer = b"HTTP/1.0 500 Oh\r\n\r\n" + json.dumps(error).encode()
    with Peer(nowhere, says(answer)):
        said = cli("rm", "v")
    assert said.status == 1
    assert said.err == (
        'Error response from daemon: {"Name":"v","Err":"The bridge failed at this call"}\n'
    )


def test_a_command_that_is_interrupted_ends_quietly(nowhere: Path) -> None:
    asked = nowhere.with_name("asked")

    def manners(one: socket.socket) -> None:
        asked.touch()
        says_nothing(one)

    with Peer(nowhere, manners):
        process = subprocess.Popen(
            ["env", "--default-signal=INT", str(PROGRAM), "ls"],
            env=Cli(nowhere).env,
            stderr=subprocess.PIPE,
            text=True,
        )
        until = time.monotonic() + 20
        while not asked.exists() and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
