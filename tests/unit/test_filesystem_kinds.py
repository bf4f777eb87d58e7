"""The table of filesystems, and which wishes come to which commands."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from libstorage.errors import CommandFailed, Damaged, InvalidInput
from libstorage.host import filesystems
from libstorage.host.commands import Work
from libstorage.records import FSTYPES

SMALLEST = {"ext2": 1, "ext3": 2, "ext4": 2, "xfs": 16, "btrfs": 16, "raw": 1}


class Recorder(Work):
    """Takes commands down instead of running them."""

    ran: ClassVar[list[tuple[str, ...]]] = []

    def run(self, *argv: str, **_: Any) -> str:
        self.ran.append(argv)
        return ""


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.setattr(Recorder, "ran", [])
    return Recorder()


def test_every_fstype_has_its_line() -> None:
    assert set(filesystems.KINDS) == set(FSTYPES)
    assert {name: kind.smallest for name, kind in filesystems.KINDS.items()} == SMALLEST


@pytest.mark.parametrize(("fstype", "smallest"), SMALLEST.items())
def test_a_size_below_the_smallest_is_refused_and_named(fstype: str, smallest: int) -> None:
    filesystems.check_size(fstype, smallest)
    with pytest.raises(InvalidInput) as caught:
        filesystems.check_size(fstype, smallest - 1)
    assert str(caught.value) == f"{fstype} needs at least {smallest} MB, asked {smallest - 1}"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "i"
    path.write_bytes(bytes(4096))
    return path


@pytest.mark.parametrize(
    ("fstype", "size", "flag"),
    [("xfs", 299, "--unsupported"), ("btrfs", 109, "--mixed")],
)
def test_a_small_one_gets_the_flag_that_it_needs(
    work: Recorder, image: Path, fstype: str, size: int, flag: str
) -> None:
    filesystems.make(work, image, fstype, size)
    filesystems.make(work, image, fstype, size + 1)
    assert flag in work.ran[0]
    assert flag not in work.ran[1]


@pytest.mark.parametrize("fstype", FSTYPES)
def test_no_filesystem_is_ever_made_by_force(work: Recorder, image: Path, fstype: str) -> None:
    for size in (1, 100, 1000):
        filesystems.make(work, image, fstype, size)
    assert len(work.ran) == (0 if fstype == "raw" else 3)
    for argv in work.ran:
        assert argv[0] == f"mkfs.{fstype}"
        assert argv[-1] == str(image)
        assert not {"-f", "-F", "--force"} & set(argv)


@pytest.mark.parametrize(
    ("fstype", "repair"),
    [
        ("ext2", "e2fsck -f"),
        ("ext3", "e2fsck -f"),
        ("ext4", "e2fsck -f"),
        ("xfs", "xfs_repair -o force_geometry"),
        ("btrfs", "btrfs check --repair"),
    ],
)
def test_damage_names_the_command_that_repairs(
    monkeypatch: pytest.MonkeyPatch, fstype: str, repair: str
) -> None:
    def fails(self: Work, *argv: str, **_: object) -> str:
        raise CommandFailed(argv, 4, "UNEXPECTED INCONSISTENCY")

    monkeypatch.setattr(Recorder, "run", fails)
    with pytest.raises(Damaged) as caught:
        filesystems.check(Recorder(), Path("/i"), fstype)
    assert str(caught.value) == f"The {fstype} on /i is damaged; repair it with: {repair} /i"


def test_raw_is_never_checked(work: Recorder) -> None:
    filesystems.check(work, Path("/i"), "raw")
    assert work.ran == []
