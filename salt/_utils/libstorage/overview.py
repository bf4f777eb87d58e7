"""
The cluster seen as a whole, put together from what a volume manager's verbs answer.

Works with any manager: nothing here looks into the store.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

from .errors import NoSuchVolume
from .manager import VolumeManager
from .records import JSON, check_name


def top(manager: VolumeManager, count: int, node: str | None = None) -> JSON:
    """
    The nodes with what they carry, and the volumes that are used most.

    count
        How many volumes.
    node
        The volumes in use on this node alone, by its users.

    Returns ``{"Nodes": [row], "Top": [row]}``: nodes with the most users first, as ``nodes`` tells
    them and with Users; volumes with the most users first, then by last access, with Name, Policy,
    MBSize, Users (how many), Nodes (where) and LastAccessTimestamp.
    """
    volumes = manager.ls()
    used = [row for volume in volumes if (row := _usage(volume, node))["Nodes"] or node is None]
    used.sort(key=_how_much, reverse=True)
    users = Counter(_node(user) for volume in volumes for user in volume["Containers"] or ())
    nodes = [{**row, "Users": users[row["Name"]]} for row in manager.nodes()]
    nodes.sort(key=lambda row: (-row["Users"], -row["Attached"], row["Name"]))
    return {
        "Nodes": [row for row in nodes if node in (None, row["Name"])],
        "Top": used[:count],
    }


def _usage(volume: JSON, node: str | None) -> JSON:
    users = [user for user in volume["Containers"] or () if node in (None, _node(user))]
    nodes = [name for name in volume["Inuse"] or () if node in (None, name)]
    fields = ("Name", "Policy", "MBSize", "LastAccessTimestamp")
    return {**{f: volume[f] for f in fields}, "Users": len(users), "Nodes": nodes}


def _how_much(row: JSON) -> tuple[int, int, str]:
    return row["Users"], len(row["Nodes"]), row["LastAccessTimestamp"]


def _node(user: str) -> str:
    """The node of a user, who is written ``id@node``."""
    return user.rpartition("@")[2]


def history(manager: VolumeManager, name: str) -> JSON:
    """
    All that is known of a name, of removed volumes that had it too.

    Returns ``{"Volume": record or None, "Operation": row or None, "Trash": [row], "Events":
    [event]}``, the events in order of time. Raises NoSuchVolume where nothing is known of it.
    """
    check_name(name)
    found = {
        # What has begun but has no record yet is an operation.
        "Operation": next((o for o in manager.operations() if o["Volume"] == name), None),
        "Volume": next((v for v in manager.ls([f"name={name}"]) if v["Name"] == name), None),
        "Trash": manager.trash_ls(name),
        # Filters know no case, and the name of a profile or controller stands in the same field.
        "Events": [
            event
            for event in manager.events(filters=[f"volume={name}"])
            if event["Volume"] == name and event["Subject"] in ("volume", "snapshot")
        ],
    }
    if not any(found.values()):
        raise NoSuchVolume(name)
    return found


def merged(answers: Mapping[str, Sequence[JSON]]) -> list[JSON]:
    """
    The findings of several nodes' doctors; what several say is said once.

    answers
        The findings by node.

    Returns them as ``{"Nodes", "Kind", "Name", "Says", "Fixed"}``, by the nodes' names.
    """

    def what(found: tuple[str, JSON]) -> tuple[str, str, str, str]:
        _, row = found
        return row["Kind"], row["Name"], row["Says"], str(row["Fixed"])

    rows = [(node, row) for node, rows in sorted(answers.items()) for row in rows]
    groups = [list(group) for _, group in groupby(sorted(rows, key=what), key=what)]
    findings = [{"Nodes": [node for node, _ in group], **group[0][1]} for group in groups]
    return sorted(findings, key=lambda row: (row["Nodes"], row["Kind"], row["Name"]))
