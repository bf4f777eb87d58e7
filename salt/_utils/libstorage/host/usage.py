"""How much room the files of a volume take."""

from pathlib import Path

from ..errors import BackendError
from .commands import Work

SIZES = "KMGTPE"


def human(size: int) -> str:
    """A size in bytes as du -h writes it, rounded up: ``0``, ``12K``, ``1.5M``, ``100M``."""
    if size == 0:
        return "0"
    amount = size / 1024
    for letter in SIZES:
        if amount < 1024 or letter == SIZES[-1]:
            break
        amount /= 1024
    # One decimal below ten, like du; always rounded up, so that nothing looks smaller than it is.
    tenths = -int(-amount * 10 // 1)
    if tenths < 100 and tenths % 10:
        return f"{tenths / 10:.1f}{letter}"
    return f"{-int(-amount // 1)}{letter}"


def below(work: Work, path: Path, shown_as: Path, *, summary: bool) -> list[dict[str, str]]:
    """
    The room that files take below a directory, in its filesystem.

    shown_as
        What to write for ``path`` in the answer.
    summary
        Directories only; otherwise every file.

    Returns ``[{"file": path, "size": "12K"}, ...]`` with the whole last, under ``total``.
    """
    flags = ("-0", "-x", "-B1") if summary else ("-0", "-x", "-B1", "-a")
    # 1: files came or went while du was looking, as they do under an application.
    out = work.run("du", *flags, str(path), limit=work.left(), fine=(0, 1))
    lines = [line.partition("\t") for line in out.split("\0") if line]
    if not lines:
        raise BackendError(f"{path} went while it was looked at; try again")
    entries = [
        {"file": f"{shown_as}{name.removeprefix(str(path))}", "size": human(int(size))}
        for size, _, name in lines
    ]
    return [*entries, {"file": "total", "size": entries[-1]["size"]}]
