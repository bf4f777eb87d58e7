"""Records as the tables and lines that operators read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .records import JSON

_COLUMNS = ("NAME", "Created", "Type/Fs", "Policy", "Size(MB)", "Shared", "Inuse", "Path")

_PROFILE_COLUMNS = ("Name", "ReadIOPS", "ReadBW", "WriteIOPS", "WriteBW", "Weight")

_SNAPSHOT_COLUMNS = ("Volume@Snapshot", "CreatedBy", "Size", "NumChildren")

_TRASH_COLUMNS = ("NAME", "Policy", "Fs", "Size(MB)", "Removed", "Until", "Id")


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
