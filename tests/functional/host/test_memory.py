"""Memory and swap, as the kernel tells them."""

import platform
from pathlib import Path

import pytest

from libstorage.host import memory

ONE_SWAP = "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n"


def test_memory_is_plausible() -> None:
    total, available = memory.available()
    assert total > available > 0


@pytest.mark.parametrize(
    ("release", "knows"),
    [
        ("6.4.0", True),
        ("6.12-amd64", True),
        ("7.0.0-rc1", True),
        ("6.3.9", False),
        ("5.15.0-91-generic", False),
        ("6.1-rc2", False),
        ("6.10+", True),
    ],
)
def test_noswap_is_known_from_linux_6_4_on(
    monkeypatch: pytest.MonkeyPatch, release: str, knows: bool
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert memory.knows_noswap() is knows


@pytest.mark.parametrize(
    ("swaps", "release", "may"),
    [
        (ONE_SWAP, "6.1.0", True),
        (ONE_SWAP, "6.6.0", False),
        ("Filename Type Size Used Priority\n", "6.1.0", False),
    ],
)
def test_a_tmpfs_may_reach_swap_only_where_there_is_one_and_no_noswap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: str, release: str, may: bool
) -> None:
    (tmp_path / "swaps").write_text(swaps)
    monkeypatch.setattr(memory, "_SWAPS", tmp_path / "swaps")
    monkeypatch.setattr(platform, "release", lambda: release)
    assert memory.may_swap() is may
