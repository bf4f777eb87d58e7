"""Times as docker takes them: RFC 3339, Unix seconds, and how long ago."""

import re
from datetime import UTC, datetime, timedelta

from .words import WrongUsage

UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9}
UNITS |= {"m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h|d)")
_STAMP = re.compile(r"(\d{1,11})(?:\.(\d{1,9}))?")


def nanoseconds(text: str, flag: str, now: int) -> int:
    """
    A point in time, in nanoseconds since 1970 as ``now`` is.

    A time without a zone is local; ``1h30m`` is so long ago. Raises WrongUsage.
    """
    if (age := _age(text)) is not None:
        return now - age
    if stamp := _STAMP.fullmatch(text):
        return int(stamp[1]) * 10**9 + int((stamp[2] or "").ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise WrongUsage(
            f'invalid argument "{text[:60]}" for "--{flag}" flag: it must be a time such as '
            f"2026-01-31T12:00:00Z, Unix seconds, or how long ago: 10m, 1h30m"
        ) from None
    # Without a float, whose digits would not do.
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def _age(text: str) -> "int | None":
    """Nanoseconds of Go's durations, and of days; None for what is none."""
    found = _PART.findall(text)
    if not text or "".join(number + unit for number, unit in found) != text:
        return None
    return round(sum(float(number) * UNITS[unit] for number, unit in found))


def written(nanoseconds: int) -> str:
    """As libstorage takes it: RFC 3339 in UTC, to the microsecond."""
    moment = EPOCH + timedelta(microseconds=nanoseconds // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def local(nanoseconds: int) -> str:
    """As docker tells it: local, to the nanosecond, with the zone's offset."""
    moment = (EPOCH + timedelta(seconds=nanoseconds // 10**9)).astimezone()
    zone = moment.strftime("%z")
    offset = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:5]}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09}{offset}"
