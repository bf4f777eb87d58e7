"""
What may come next on a command line: docker's ``__complete`` protocol.

Docker's own completion asks ``docker-dsvolume __complete dsvolume WORD... BEGINNING``; the answer
has a line for each possibility, with what it is behind a tab, and ends with what the shell is to
do. Names are looked up at the bridge; where it is not there, there are none.
"""

import os

from . import bridge
from .command import NODES, PROFILES, REMOVED, SNAPSHOTS, VOLUMES
from .commands import GROUPS, find, members
from .words import FORMAT, Flag, Parsed, WrongUsage, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NO_FILES = 4
"""ShellCompDirectiveNoFileComp of the protocol: file names are no possibility."""
PATIENCE = "2"
"""Seconds that a look-up may take: somebody waits at the keyboard."""

Choices = dict[str, str]
"""Possibilities, and what they are."""


def complete(words: "list[str]", *, described: bool) -> str:
    """The answer to ``dsvolume WORD... BEGINNING``."""
    *before, beginning = words[1:] if words[:1] == ["dsvolume"] else words or [""]
    choices = _choices(before, beginning)
    if beginning.startswith("-") and "=" in beginning:
        beginning = beginning.partition("=")[2]
    lines = [
        f"{word}\t{what}" if described and what else word
        for word, what in choices.items()
        if word.startswith(beginning)
    ]
    return "\n".join([*lines, f":{NO_FILES}"])


def _choices(before: "list[str]", beginning: str) -> Choices:
    name, command, rest = find(before)
    if command is None:
        return {} if rest else _commands(name)
    try:
        parsed = parse(rest, command.flags)
    except WrongUsage:
        waiting = _waiting(rest, command.flags)
        return _named(waiting.completes) if waiting else {}
    if beginning.startswith("-"):
        name, given, _ = beginning.partition("=")
        return _values(name, command.flags) if given else _flags(command.flags)
    return _arguments(command.completes, parsed)


def _commands(group: str) -> Choices:
    others = {} if group else {name: help for name, help in GROUPS.items() if name}
    return dict(sorted({**members(group), **others}.items()))


def _flags(flags: "tuple[Flag, ...]") -> Choices:
    return {f"--{flag.name}": flag.help for flag in (*flags, FORMAT)}


def _values(name: str, flags: "tuple[Flag, ...]") -> Choices:
    for flag in (*flags, FORMAT):
        if name in flag.written:
            return _named(flag.completes)
    return {}


def _waiting(rest: "list[str]", flags: "tuple[Flag, ...]") -> "Flag | None":
    """The flag at the end whose value is being written, where all before it can be read."""
    for flag in (*flags, FORMAT):
        if flag.kind != "bool" and rest[-1] in flag.written:
            return flag
    return None


def _arguments(completes: "tuple[str, ...]", parsed: Parsed) -> Choices:
    if not completes:
        return {}
    kind = completes[min(len(parsed.rest), len(completes) - 1)]
    if kind == SNAPSHOTS and "volume" in parsed.given:
        there = _named(SNAPSHOTS, parsed.given["volume"])
        choices = {name.partition("@")[2]: what for name, what in there.items()}
    else:
        choices = _named(kind)
    return {name: what for name, what in choices.items() if name not in parsed.rest}


def _named(kind: "str | tuple[str, ...]", *args: str) -> Choices:
    """Words as they are, or all names of a kind."""
    if isinstance(kind, tuple):
        return dict.fromkeys(kind, "")
    if kind not in _LOOKUPS:
        return {}
    function, read = _LOOKUPS[kind]
    os.environ["DSVOLUME_TIMEOUT"] = PATIENCE
    try:
        return read(bridge.call(function, list(args), {}))
    except (bridge.NoBridge, bridge.Refused, KeyError, TypeError, AttributeError):
        return {}


def _volumes(rows: "Any") -> Choices:
    return {row["Name"]: f"{row['Policy']}, {row['MBSize']} MB" for row in rows}


def _snapshots(rows: "Any") -> Choices:
    return {f"{row['Volume']}@{row['Name']}": row["CreatedAt"][:10] for row in rows}


def _profiles(switch: "Any") -> Choices:
    return {row["Name"]: "" for row in switch["Profiles"]}


def _nodes(rows: "Any") -> Choices:
    return {row["Name"]: "" if row["Alive"] else "no agent" for row in rows}


def _removed(rows: "Any") -> Choices:
    return {row["Name"]: f"removed {row['TrashedAt'][:10]}" for row in rows}


_LOOKUPS = {
    VOLUMES: ("ls", _volumes),
    SNAPSHOTS: ("snapshot_ls", _snapshots),
    PROFILES: ("qos_ls", _profiles),
    NODES: ("nodes", _nodes),
    REMOVED: ("trash_ls", _removed),
}
