"""
What states declare of volumes, and how they answer: records compared, changes named, nothing asked.
"""

from typing import Any

from .records import JSON

Changes = dict[str, dict[str, Any]]

DECLARED = (
    "Name",
    "Policy",
    "Voltype",
    "Fstype",
    "MBSize",
    "Shared",
    "AutoMigrate",
    "Options",
    "Labels",
)
"""The fields that a declaration decides; the others come with time and place."""

QOS = ("QoSProfile", "QoSState")

EDITED = {
    "resize": ("MBSize",),
    "label": ("Labels",),
    "qos_apply": ("QoSProfile",),
    "qos_enable": ("QoSState",),
    "qos_disable": ("QoSState",),
}
"""The verbs that edit a volume -> the fields that each decides."""

EDITS = ("MBSize", "Labels", *QOS)

LIMITS = ("ReadIOPS", "ReadBW", "WriteIOPS", "WriteBW", "Weight")

CLONED = (*DECLARED, "ParentSnapshot")

PRESENCE = ("Mountpoint", "Containers")


def difference(old: JSON, new: JSON, fields: tuple[str, ...]) -> Changes:
    """``{field: {"old", "new"}}`` of the fields that differ."""
    return {
        field: {"old": old.get(field), "new": new.get(field)}
        for field in fields
        if old.get(field) != new.get(field)
    }


def ret(name: str) -> JSON:
    """An answer that says nothing yet."""
    return {"name": name, "result": None, "changes": {}, "comment": ""}


def as_it_should_be(ret: JSON, comment: str) -> JSON:
    """Nothing is to do."""
    return {**ret, "result": True, "comment": comment}


def would(ret: JSON, changes: Changes, comment: str) -> JSON:
    """What a real run would do."""
    return {**ret, "changes": changes, "comment": comment}


def done(ret: JSON, changes: Changes, comment: str) -> JSON:
    """What was done."""
    return {**ret, "result": True, "changes": changes, "comment": comment}


def failed(ret: JSON, why: object) -> JSON:
    """Why it cannot be, as one sentence."""
    text = str(why)
    return {**ret, "result": False, "comment": text if text.endswith(".") else f"{text}."}


def on_top(foreseen: JSON, before: JSON, plan: JSON) -> Changes:
    """The changes that a plan makes to the presence once what is foreseen has happened."""
    if "Containers" not in foreseen:
        return difference(before, plan, PRESENCE)
    were = list(foreseen["Containers"])
    stay = [u for u in were if u in plan["Containers"] or u not in before["Containers"]]
    come = [u for u in plan["Containers"] if u not in [*before["Containers"], *were]]
    point = foreseen.get("Mountpoint", before["Mountpoint"])
    after = (plan["Mountpoint"] or point) if stay or come else ""
    return difference(
        {"Mountpoint": point, "Containers": were},
        {"Mountpoint": after, "Containers": [*stay, *come]},
        PRESENCE,
    )


def in_words(changes: Changes, after: JSON) -> str:
    """What edits make of a volume, for a comment."""
    words = {"MBSize": "resized", "Labels": "labelled"}
    said = [word for field, word in words.items() if field in changes]
    if set(QOS) & set(changes):
        profile = after["QoSProfile"] or "default"
        limited = f"limited by {profile}"
        said.append(limited if after["QoSState"] else f"given the QoS profile {profile}")
        if "QoSState" in changes and not after["QoSState"]:
            said[-1] = "limited no more"
    return ", ".join(said[:-1]) + (" and " if said[1:] else "") + said[-1]


def profile_difference(old: JSON | None, new: JSON | None) -> Changes:
    """As ``difference``; the name stands as ``Profile``, beside which a volume's is ``Name``."""
    old, new = ({**p, "Profile": p["Name"]} if p else {} for p in (old, new))
    return difference(old, new, ("Profile", *LIMITS))
