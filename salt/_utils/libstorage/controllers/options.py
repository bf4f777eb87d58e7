"""The options (``-o KEY=VALUE``) that controllers share, and how their values are read."""

import re
from collections.abc import Callable, Mapping

from ..errors import InvalidInput

Reader = Callable[[str], str]


def boolean(value: str) -> str:
    """``true`` or ``false``; raises ValueError for anything else."""
    if value.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return value.lower()


def mode(value: str) -> str:
    """A directory's mode in octal, as four digits; raises ValueError for anything else."""
    if not re.fullmatch(r"0?[0-7]{3}|[0-7]{4}", value):
        raise ValueError("a mode in octal, such as 0750")
    return value.zfill(4)


MOUNT: Mapping[str, Reader] = {
    "suid": boolean,
    "dev": boolean,
    "exec": boolean,
    "atime": boolean,
}
"""Set-user-id programs and device nodes work where asked; ``exec`` and ``atime`` by default."""


def read(options: Mapping[str, str], known: Mapping[str, Reader], policy: str) -> dict[str, str]:
    """
    Check options and bring their values to one form.

    Raises InvalidInput, naming the option and what there is.
    """
    checked = {}
    for key, value in options.items():
        if key not in known:
            there_are = ", ".join(known) or "none"
            raise InvalidInput(f"Unknown option {key!r} for policy {policy}; there are {there_are}")
        try:
            # YAML gives truth values and numbers where they are not quoted.
            checked[key] = known[key](str(value))
        except ValueError as exc:
            raise InvalidInput(f"Option {key} must be {exc}, not {value!r}") from None
    return checked


def mount_flags(options: Mapping[str, str]) -> list[str]:
    """The mount options that a volume's options come to."""
    flags = []
    if options.get("suid") != "true":
        flags.append("nosuid")
    if options.get("dev") != "true":
        flags.append("nodev")
    if options.get("exec") == "false":
        flags.append("noexec")
    if options.get("atime") == "false":
        flags.append("noatime")
    return flags
