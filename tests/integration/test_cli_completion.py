"""What may come next on the command line: docker's protocol, and bash at a real terminal."""

import os
import pty
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab.bridge import Bridge
from lab.cli import PROGRAM, ROOT, Cli, plugin_of_docker
from lab.site import KEEPS_TRASH, NODE, Site

BASH = ROOT / "plugin/completion/docker-dsvolume.bash"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """On a bridge with volumes, snapshots, a profile and a removed volume."""
    place = tmp_path_factory.mktemp("completion")
    config = plugin_of_docker(place / "docker")
    with (
        Site(place / "site", trash=KEEPS_TRASH) as site,
        Bridge(place / "bridge", site, place / "driver.sock", place / "no-engine.sock") as bridge,
    ):
        cli = Cli(bridge.admin, config)
        for words in (
            ["create", "-p=local", "-f=ext4", "-z=8", "data"],
            ["create", "-p=ram", "-z=8", "memory"],
            ["create", "-p=local", "old"],
            ["rm", "old"],
            ["snapshot", "create", "data@before"],
            ["snapshot", "create", "data@beyond"],
            ["qos", "create", "fast"],
        ):
            assert cli(*words).status == 0, words
        yield cli


@pytest.mark.parametrize(
    ("words", "choices"),
    [
        (["snap"], ["snapshot"]),
        (["qos", ""], ["apply", "create", "disable", "edit", "enable", "info", "ls", "rm"]),
        (["info", ""], ["data", "memory"]),
        (["info", "data", ""], ["memory"]),
        (["info", "m"], ["memory"]),
        (["rm", "--purge", "d"], ["data"]),
        (["rm", "data", "--p"], ["--purge"]),
        (["rollback", ""], ["data@before", "data@beyond"]),
        (["snapshot", "rm", "data@bef"], ["data@before"]),
        (["snapshot", "rm", "-v", "data", ""], ["before", "beyond"]),
        (["snapshot", "create", "-v", ""], ["data", "memory"]),
        (["snapshot", "clone", "data@before", ""], []),
        (["qos", "apply", "-p", ""], ["default", "fast"]),
        (["qos", "apply", "-p=f"], ["fast"]),
        (["qos", "apply", "--profile=f"], ["fast"]),
        (["qos", "apply", "-p=fast", ""], ["data", "memory"]),
        (["undelete", ""], ["old"]),
        (["drain", ""], [NODE]),
        (["force-detach", "data", ""], [NODE]),
        (["force-detach", "data", NODE, ""], []),
        (["create", "-p", "distributed"], ["distributed", "distributed-fs"]),
        (["create", "--filesys", "ext"], ["ext2", "ext3", "ext4"]),
        (["create", "-m="], ["true", "false"]),
        (["create", "-z", ""], []),
        (["create", ""], []),
        (["ls", "--format", ""], ["json"]),
        (["ls", "--nothing", ""], []),
        (["nothing", ""], []),
    ],
)
def test_docker_s_completion_is_answered(cli: Cli, words: list[str], choices: list[str]) -> None:
    said = cli.run([*cli.front[:-1], "__complete", "dsvolume", *words])
    *lines, directive = said.lines
    assert said.status == 0 and directive == ":4"
    assert [line.split("\t")[0] for line in lines] == choices


def test_what_is_offered_is_described(cli: Cli) -> None:
    assert cli.run([str(PROGRAM), "__complete", "dsvolume", "rm", "d"]).lines == [
        "data\tlocal, 8 MB",
        ":4",
    ]
    assert cli.run([str(PROGRAM), "__completeNoDesc", "dsvolume", "rm", "d"]).lines == [
        "data",
        ":4",
    ]


def test_without_a_bridge_words_are_completed_and_names_are_not(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "admin.sock")
    assert cli("__complete", "dsvolume", "snapshot", "cl").lines[0].startswith("clone\t")
    assert cli("__complete", "dsvolume", "info", "").lines == [":4"]


class Terminal:
    """A bash at a terminal of its own, with the completion loaded."""

    def __init__(self, cli: Cli) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            path = f"{PROGRAM.parent}:{os.defpath}"
            env = cli.env | {"PS1": "ready> ", "TERM": "dumb", "PATH": path}
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], env)
        self._wait("ready> ")
        os.write(self._fd, b"bind 'set bell-style none'; unset HISTFILE; PS1='$ '\n")
        self._wait("\n$ ")
        os.write(self._fd, f". {BASH}\n".encode())
        self._wait("\n$ ")

    def complete(self, line: str) -> str:
        """What becomes of a line when Tab is pressed at its end, and then Enter."""
        # The line is an argument of printf: bash shows what it has got.
        os.write(self._fd, f"{line}\t".encode() + b"\x01printf '<%s>' \x05; echo '<''end>'\n")
        shown, end, _ = self._wait("<end>").partition("<end>")
        return shown.rpartition("\n")[2] + end

    def close(self) -> None:
        with suppress(OSError):
            os.write(self._fd, b"\x15exit\n")
        os.close(self._fd)
        os.waitpid(self._pid, 0)

    def _wait(self, text: str) -> str:
        shown, until = "", time.monotonic() + 30
        while text not in shown:
            ready, _, _ = select.select([self._fd], [], [], max(until - time.monotonic(), 0))
            assert ready, f"no {text!r} in {shown!r}"
            shown += os.read(self._fd, 65536).decode().replace("\r", "")
        return shown


@pytest.fixture(scope="module")
def bash(cli: Cli) -> Iterator[Terminal]:
    terminal = Terminal(cli)
    yield terminal
    terminal.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("docker-dsvolume snap", ["snapshot"]),
        ("docker-dsvolume rm d", ["rm", "data"]),
        ("docker-dsvolume rollback d", ["rollback", "data@be"]),
        ("docker-dsvolume rollback data@bef", ["rollback", "data@before"]),
        ("docker-dsvolume snapshot rm -v data bey", ["snapshot", "rm", "-v", "data", "beyond"]),
        ("docker-dsvolume create -p=lo", ["create", "-p=local"]),
        ("docker-dsvolume create --policy=distributed-", ["create", "--policy=distributed-fs"]),
        ("docker-dsvolume create --fstype x", ["create", "--fstype", "xfs"]),
        ("docker-dsvolume info nothing", ["info", "nothing"]),
    ],
)
def test_bash_completes(bash: Terminal, line: str, words: list[str]) -> None:
    shown = "".join(f"<{word}>" for word in ("docker-dsvolume", *words))
    assert bash.complete(line) == f"{shown}<end>"
