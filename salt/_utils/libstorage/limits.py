"""The limits of a QoS profile, as requests, states and the configuration name them."""

from collections.abc import Mapping
from typing import Any

from .errors import InvalidInput
from .host.throttling import MAX_BW, MAX_IOPS, WEIGHTS

WORDS = ("read_iops", "read_bw", "write_iops", "write_bw", "weight")


def read_limits(given: Mapping[str, object]) -> dict[str, Any]:
    """
    The limits that a request names, as numbers; what it leaves out (None, "") is left out.

    Raises InvalidInput, naming the word.
    """
    limits: dict[str, Any] = {}
    for word, value in given.items():
        if word not in WORDS:
            raise InvalidInput(f"{word} is no limit; there are {', '.join(WORDS)}")
        if value is not None and value != "":
            limits[word] = _limit(word, value)
    return limits


def _limit(word: str, value: object) -> int:
    least, most = WEIGHTS if word == "weight" else (0, MAX_IOPS if "iops" in word else MAX_BW)
    text = str(value)
    whole = not isinstance(value, bool) and text.isascii() and text.isdigit() and len(text) < 20
    if not whole or not least <= int(text) <= most:
        none = "" if word == "weight" else " (0: no limit)"
        raise InvalidInput(
            f"{word} must be a whole number from {least} to {most}{none}, not {text[:60]!r}"
        )
    return int(text)
