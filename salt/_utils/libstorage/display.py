"""Records as the tables and lines that operators read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .records import JSON, NEVER

_COLUMNS = ("NAME", "Created", "Type/Fs", "Policy", "Size(MB)", "Shared", "Inuse", "Path")

_PROFILE_COLUMNS = ("Name", "ReadIOPS", "ReadBW", "WriteIOPS", "WriteBW", "Weight")

_SNAPSHOT_COLUMNS = ("Volume@Snapshot", "CreatedBy", "Size", "NumChildren")

_TRASH_COLUMNS = ("NAME", "Policy", "Fs", "Size(MB)", "Removed", "Until", "Id")

_NODE_COLUMNS = ("NODE", "Agent", "Attached", "Data", "Users", "Version", "Policies")

_TOP_COLUMNS = ("NAME", "Policy", "Size(MB)", "Users", "Nodes", "LastAccess")


def volumes(rows: Sequence[JSON]) -> str:
    """The table of volumes; an empty one has its header."""
    return _table([_COLUMNS, *(_volume(row) for row in rows)])


def snapshots(rows: Sequence[JSON]) -> str:
    """The table of snapshots; an empty one has its header."""
    return _table([_SNAPSHOT_COLUMNS, *(_snapshot(row) for row in rows)])


def _snapshot(row: JSON) -> tuple[str, ...]:
    name = f"{row['Volume']}@{row['Name']}"
    return name, row["CreatedBy"], str(row["Size"]), f"[{len(row['Children'])}]"


def profiles(switch: JSON) -> str:
    """The global switch and the table of QoS profiles."""
    state = "Enabled" if switch["Global"] else "Disabled"
    rows = [
        tuple(str(profile[name]) for name in _PROFILE_COLUMNS) for profile in switch["Profiles"]
    ]
    return f"Global QoS {state}\n{_table([_PROFILE_COLUMNS, *rows])}"


def trash(rows: Sequence[JSON]) -> str:
    """The table of removed volumes; an empty one has its header."""
    return _table([_TRASH_COLUMNS, *(_trashed(row) for row in rows)])


def _trashed(row: JSON) -> tuple[str, ...]:
    return (
        row["Name"],
        row["Policy"],
        row["Fstype"] or "-",
        str(row["MBSize"]),
        _to_the_second(row["TrashedAt"]),
        _to_the_second(row["Until"]),
        row["Id"],
    )


def nodes(rows: Sequence[JSON]) -> str:
    """The table of nodes; an empty one has its header."""
    return _table([_NODE_COLUMNS, *(_node(row) for row in rows)])


def _node(row: JSON) -> tuple[str, ...]:
    closed = [word.lower() for word in ("Drained", "Fenced") if word in row]
    return (
        row["Name"],
        ",".join([*(["alive"] if row["Alive"] else []), *closed]) or "-",
        str(row["Attached"]),
        str(row["Data"]),
        str(row.get("Users", "-")),
        row.get("Versions", {}).get("libstorage", "-"),
        ",".join(row.get("Policies", ())) or "-",
    )


def top(rows: Sequence[JSON]) -> str:
    """The table of the volumes that are used most."""
    return _table([_TOP_COLUMNS, *(_used(row) for row in rows)])


def _used(row: JSON) -> tuple[str, ...]:
    at = row["LastAccessTimestamp"]
    return (
        row["Name"],
        row["Policy"],
        str(row["MBSize"]),
        str(row["Users"]),
        ",".join(row["Nodes"]) or "-",
        "-" if at == NEVER else _to_the_second(at),
    )


def findings(rows: Sequence[JSON]) -> str:
    """The doctors' findings as lines: who found it, what it is, whether it was mended."""
    ends = {None: "", True: " (mended)", False: " (not mended)"}
    return "\n".join(
        f"{', '.join(row['Nodes'])}: {row['Kind']} {row['Name']}: {row['Says']}{ends[row['Fixed']]}"
        for row in rows
    )


def asked(answered: Sequence[str]) -> str:
    """Whose doctors were asked."""
    return f"asked: {', '.join(answered)}"


def _to_the_second(time: str) -> str:
    return f"{time[:19]}Z"


def _table(cells: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _volume(row: JSON) -> tuple[str, ...]:
    return (
        row["Name"],
        row["CreatedBy"],
        f"{row['Voltype']}/{row['Fstype']}",
        row["Policy"],
        str(row["MBSize"]),
        str(row["Shared"]).lower(),
        ",".join(row["Inuse"] or ()) or "-",
        row["Mountpoint"],
    )


def events(rows: Sequence[JSON]) -> str:
    """Events as lines: ``<time> <volume>: (from libstorage) Volume create success``."""
    return "\n".join(
        f"{row['Time']} {row['Volume']}: (from libstorage) {row['Text']}" for row in rows
    )


def by_minion(
    data: Mapping[str, Any],
    show: Callable[[Any], str],
    otherwise: Callable[[JSON], str],
) -> str:
    """
    The answers of minions, each under its name where there are several.

    show
        Makes a text of a list of records, or of the answer of ``qos_ls``.
    otherwise
        Shows any other answer (an error's text), given as ``{minion: answer}``.
    """
    shown = []
    for minion, rows in data.items():
        if not _is_shown(rows):
            shown.append(otherwise({minion: rows}))
        elif len(data) == 1:
            shown.append(show(rows))
        else:
            shown.append(f"{minion}:\n{show(rows)}")
    return "\n".join(shown)


def _is_shown(answer: object) -> bool:
    """Is it what a verb answers, and not an error's text?"""
    rows = answer.get("Profiles") if isinstance(answer, dict) else answer
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


_PARTS: dict[str, Callable[[Any], str]] = {
    "Volumes": volumes,
    "Nodes": nodes,
    "Top": top,
    "Trash": trash,
    "Events": events,
    "Findings": findings,
    "Asked": asked,
}
"""The parts of the runner's answers that have a form of their own."""


def cluster(data: Mapping[str, Any], otherwise: Callable[[JSON], str]) -> str:
    """
    An answer of the runner: its parts one below the other.

    otherwise
        Shows a part that has no table (a record, an operation).
    """
    shown = []
    for part, rows in data.items():
        if rows in (None, []) and part not in ("Volumes", "Nodes"):
            continue
        show = _PARTS.get(part)
        shown.append(show(rows) if show else otherwise({part: rows}))
    return "\n\n".join(shown)
