"""This host's memory and swap."""

import platform
import re
from pathlib import Path

import psutil

_SWAPS = Path("/proc/swaps")


def available() -> tuple[int, int]:
    """Total and available bytes of memory."""
    found = psutil.virtual_memory()
    return found.total, found.available


def knows_noswap() -> bool:
    """Can a tmpfs be kept out of swap (mount option noswap, Linux 6.4)?"""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return found is not None and (int(found[1]), int(found[2])) >= (6, 4)


def may_swap() -> bool:
    """Could the pages of a tmpfs reach a swap device?"""
    return len(_SWAPS.read_text().splitlines()) > 1 and not knows_noswap()
