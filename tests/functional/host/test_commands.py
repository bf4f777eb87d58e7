"""Commands: time limits, the token, and words that help."""

import time
from pathlib import Path

import pytest

from libstorage.errors import CommandFailed, CommandTimeout, ToolMissing
from libstorage.host import commands, processes
from libstorage.host.commands import TOKEN, Work


def test_a_command_s_output_comes_back() -> None:
    assert Work().run("printf", "a b\\n") == "a b\n"


def test_the_time_limit_ends_the_command_and_says_so() -> None:
    begun = time.monotonic()
    with pytest.raises(
        CommandTimeout, match=r"sleep did not end within .* and was ended: sleep 30"
    ):
        Work("limited").run("sleep", "30", limit=0.2)
    assert time.monotonic() - begun < 10
    assert processes.carrying("limited") == []


def test_the_time_of_the_whole_work_limits_each_command() -> None:
    begun = time.monotonic()
    with pytest.raises(CommandTimeout):
        Work(seconds=0.2).run("sleep", "30")
    assert time.monotonic() - begun < 10


def test_nothing_is_started_when_the_work_s_time_is_over(tmp_path: Path) -> None:
    work = Work(seconds=0)
    with pytest.raises(CommandTimeout, match="touch was not started"):
        work.run("touch", str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_the_token_is_in_the_child_s_environment_and_little_else() -> None:
    lines = Work("t0ken").run("env").splitlines()
    assert f"{TOKEN}=t0ken" in lines
    assert {line.partition("=")[0] for line in lines} == {"PATH", "LC_ALL", TOKEN}


@pytest.mark.parametrize(
    ("tool", "package"), [("mkfs.xfs", "xfsprogs"), ("mkfs.btrfs", "btrfs-progs")]
)
def test_a_missing_tool_names_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tool: str, package: str
) -> None:
    monkeypatch.setattr(commands, "PATH", str(tmp_path))
    expected = f"{tool} is not on this host; install the package {package}"
    with pytest.raises(ToolMissing) as caught:
        Work().run(tool, "/x")
    assert str(caught.value) == expected
    with pytest.raises(ToolMissing) as caught:
        commands.need(tool)
    assert str(caught.value) == expected


def test_a_tool_that_is_there_but_cannot_be_run_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mkfs.xfs").write_text("#!/nowhere\n")
    monkeypatch.setattr(commands, "PATH", str(tmp_path))
    assert not commands.find("mkfs.xfs")
    with pytest.raises(CommandFailed, match="cannot be started: Permission denied"):
        Work().run("mkfs.xfs")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo out; echo first >&2; echo last >&2; exit 3", "last"),
        ("echo only out; exit 3", "only out"),
        ("exit 3", "it gave no reason"),
    ],
)
def test_a_failure_ends_with_the_command_s_last_words(script: str, words: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        Work().run("sh", "-c", script)
    assert str(caught.value) == f"sh failed (exit status 3): {words}"


def test_a_signal_is_told_as_one() -> None:
    with pytest.raises(CommandFailed, match=r"sh failed \(signal 9\)"):
        Work().run("sh", "-c", "kill -9 $$")


def test_a_status_that_is_fine_is_no_failure() -> None:
    assert Work().run("sh", "-c", "echo ok; exit 1", fine=(0, 1)) == "ok\n"


def test_output_that_is_no_text_breaks_nothing() -> None:
    assert Work().run("printf", r"a\377b") == "a\ufffdb"


def test_a_command_reads_nothing_from_us() -> None:
    assert Work().run("cat", limit=2) == ""
