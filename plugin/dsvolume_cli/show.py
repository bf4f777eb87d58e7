"""
Answers as operators read them: tables, JSON and lines.

The tables are those that Salt's command line shows (``libstorage.display``).
"""

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from typing import Any

    JSON = dict[str, Any]

NEVER = "0001-"
"""How the time begins of what has not happened."""

VOLUME = (
    *("Name", "Voltype", "CreatedBy", "CreatedAt", "Policy", "Fstype", "MBSize", "AutoMigrate"),
    *("Shared", "Mountpoint", "Inuse", "Containers", "LastAccessTimestamp", "IsClone"),
    *("ParentSnapshot", "QoSState", "QoSProfile"),
)
SNAPSHOT = ("Name", "Volume", "Type", "CreatedBy", "CreatedAt", "Size", "Children")
PROFILE = ("Name", "ReadIOPS", "ReadBW", "WriteIOPS", "WriteBW", "Weight")
USAGE = ("Name", "Usage", "Size", "Err")
"""The fields of records in their order; others follow."""
TIMES = ("CreatedAt", "LastAccessTimestamp")


def when(time: str) -> str:
    """A time as ``date`` tells it, in the local zone: ``Thu Oct 8 02:31:17 EDT 2015``."""
    if time.startswith(NEVER):
        return "Mon Jan 1 00:00:00 UTC 0001"
    there = _here(time)
    return there.strftime(f"%a %b {there.day} %H:%M:%S %Z %Y")


def moment(time: str) -> str:
    """A time as ``docker events`` tells it: local, to the nanosecond, with the zone's offset."""
    there = _here(time)
    zone = there.strftime("%z")
    offset = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:5]}"
    return f"{there:%Y-%m-%dT%H:%M:%S.%f}000{offset}"


def _here(time: str) -> "datetime":
    """A time in the local zone."""
    from datetime import datetime  # noqa: PLC0415

    return datetime.fromisoformat(time).astimezone()


def compact(value: "Any") -> str:
    """JSON without a blank, as in responses."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def records(rows: "Iterable[JSON]", fields: "tuple[str, ...]") -> str:
    """Records as JSON over many lines, ``fields`` first, times as ``when`` tells them."""
    return json.dumps([_ordered(row, fields) for row in rows], indent=4, ensure_ascii=False)


def _ordered(row: "JSON", fields: "tuple[str, ...]") -> "JSON":
    first = {name: row[name] for name in fields if name in row}
    told = {name: when(row[name]) for name in TIMES if row.get(name)}
    return {**first, **row, **told}


def table(header: "Sequence[str]", rows: "Iterable[Sequence[str]]") -> str:
    """Columns three blanks apart; without rows the header alone."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def volumes(rows: "list[JSON]") -> str:
    """The table of ``ls``."""
    header = ("NAME", "Created", "Type/Fs", "Policy", "Size(MB)", "Shared", "Inuse", "Path")
    return table(
        header,
        [
            (
                row["Name"],
                row["CreatedBy"],
                f"{row['Voltype']}/{row['Fstype']}",
                row["Policy"],
                str(row["MBSize"]),
                _yes(row["Shared"]),
                ",".join(row["Inuse"] or ()) or "-",
                row["Mountpoint"],
            )
            for row in rows
        ],
    )


def snapshots(rows: "list[JSON]") -> str:
    """The table of ``snapshot ls``."""
    return table(
        ("Volume@Snapshot", "CreatedBy", "Size", "NumChildren"),
        [
            (
                f"{row['Volume']}@{row['Name']}",
                row["CreatedBy"],
                str(row["Size"]),
                f"[{len(row['Children'])}]",
            )
            for row in rows
        ],
    )


def profiles(switch: "JSON") -> str:
    """The global switch of QoS, and the table of profiles."""
    state = "Enabled" if switch["Global"] else "Disabled"
    rows = [[str(row[name]) for name in PROFILE] for row in switch["Profiles"]]
    return f"Global QoS {state}\n{table(PROFILE, rows)}"


def trash(rows: "list[JSON]") -> str:
    """The table of ``trash ls``."""
    return table(
        ("NAME", "Policy", "Fs", "Size(MB)", "Removed", "Until", "Id"),
        [
            (
                row["Name"],
                row["Policy"],
                row["Fstype"] or "-",
                str(row["MBSize"]),
                f"{row['TrashedAt'][:19]}Z",
                f"{row['Until'][:19]}Z",
                row["Id"],
            )
            for row in rows
        ],
    )


def event(row: "JSON") -> str:
    """An event's line."""
    return f"{moment(row['Time'])} {row['Volume']}: (from libstorage) {row['Text']}"


def operations(rows: "list[JSON]") -> str:
    """The table of the changes in progress."""
    return table(
        ("Volume", "Verb", "Step", "Node", "Age(s)", "Alive"),
        [
            (
                row["Volume"],
                row["Verb"],
                row["Step"] or "-",
                row["Node"],
                str(row["Age"]),
                _yes(row["Alive"]),
            )
            for row in rows
        ],
    )


def capacity(rows: "list[JSON]") -> str:
    """The table of how full storage is, in MB."""
    return table(
        ("CONTROLLER", "On", "Size(MB)", "Available(MB)", "Promised(MB)", "Health"),
        [
            (
                row["Controller"],
                row["On"],
                *(_megabytes(row[word]) for word in ("Total", "Available", "Promised")),
                row["Err"] or row["Health"] or "-",
            )
            for row in rows
        ],
    )


def _megabytes(size: int) -> str:
    return str(size // 2**20) if size else "-"


def nodes(rows: "list[JSON]") -> str:
    """The table of nodes."""
    return table(
        ("NODE", "Agent", "Attached", "Data", "State", "Version", "Policies"),
        [
            (
                row["Name"],
                "alive" if row["Alive"] else "-",
                str(row["Attached"]),
                str(row["Data"]),
                _state(row),
                row.get("Versions", {}).get("libstorage", "-"),
                ",".join(row.get("Policies", ())) or "-",
            )
            for row in rows
        ],
    )


def _state(row: "JSON") -> str:
    closed = [name.lower() for name in ("Fenced", "Drained") if row.get(name)]
    return ",".join(closed) or "open"


def findings(rows: "list[JSON]") -> str:
    """What the doctor found, a line each."""
    ends = {None: "", True: " (mended)", False: " (not mended)"}
    said = [f"{row['Kind']} {row['Name']}: {row['Says']}{ends[row['Fixed']]}" for row in rows]
    return "\n".join(said) or "Nothing disagrees."


def fields(row: "JSON") -> str:
    """A record's fields, a line each."""
    return "\n".join(f"{name}: {value}" for name, value in row.items())


def _yes(value: "Any") -> str:
    return str(value).lower()
