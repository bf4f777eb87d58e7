"""The boot id: one per boot of a node, whoever asks first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import libstorage
from libstorage.host import node

CODE = """
import sys
from pathlib import Path
from libstorage.host import node
input()
print(node.boot_id(Path(sys.argv[1])))
"""


def test_reading_makes_none(tmp_path: Path) -> None:
    assert node.read_boot_id(tmp_path / "run") == ""
    assert not (tmp_path / "run").exists()


def test_it_stays_the_same_for_this_boot(tmp_path: Path) -> None:
    made = node.boot_id(tmp_path / "run")
    assert made
    assert node.boot_id(tmp_path / "run") == made
    assert node.read_boot_id(tmp_path / "run") == made


def test_eight_processes_at_once_get_one_id(tmp_path: Path) -> None:
    library = str(Path(libstorage.__file__).parent.parent)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(tmp_path / "run")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": library},
        )
        for _ in range(8)
    ]
    for child in children:
        assert child.stdin
        child.stdin.write("\n")
        child.stdin.flush()
    ids = {child.communicate(timeout=30)[0].strip() for child in children}
    assert ids == {node.read_boot_id(tmp_path / "run")}
    assert ids != {""}


def test_another_boot_of_the_kernel_makes_another_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = node.boot_id(tmp_path / "run")
    (tmp_path / "kernel").write_text("another\n")
    monkeypatch.setattr(node, "KERNEL_BOOT_ID", tmp_path / "kernel")
    assert node.read_boot_id(tmp_path / "run") == ""
    second = node.boot_id(tmp_path / "run")
    assert second not in ("", first)


@pytest.mark.parametrize("rubbish", ["", "\n", "half", "\0\0\0\0"])
def test_rubbish_left_by_a_crash_counts_as_none(tmp_path: Path, rubbish: str) -> None:
    (tmp_path / "boot-id").write_text(rubbish)
    assert node.read_boot_id(tmp_path) == ""
    assert node.boot_id(tmp_path)
