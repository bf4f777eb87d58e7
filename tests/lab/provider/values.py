"""What a schema says of a value: what is known when it is planned, and what an apply fills in."""

from collections.abc import Callable
from typing import Any

from lab.provider.protocol import UNKNOWN

Block = dict[str, Any]
Value = dict[str, Any]


def planned(block: Block, proposed: Value, config: Value | None, prior: Value | None) -> Value:
    """The state that is planned: computed values that nobody has set are as before, or unknown."""
    out = dict(proposed)
    for name, attribute in block.get("attributes", {}).items():
        if attribute.get("write_only"):
            out[name] = None
        elif attribute.get("computed") and (config or {}).get(name) is None:
            tags = name == "tags_all"  # they follow from the given ones
            out[name] = (
                (config or {}).get("tags") or {} if tags else (prior or {}).get(name, UNKNOWN)
            )
    for name, nested in block.get("block_types", {}).items():
        value, given, before = (part.get(name) for part in (proposed, config or {}, prior or {}))
        if not isinstance(value, (list, dict)):
            continue
        below = nested["block"]
        if isinstance(value, dict):
            out[name] = planned(below, value, given, before)
            continue
        stays = nested["nesting_mode"] == "list"  # members of a set have no names to know them by
        out[name] = [
            planned(
                below,
                one,
                given[at] if isinstance(given, list) and at < len(given) else None,
                before[at] if stays and before and at < len(before) else None,
            )
            for at, one in enumerate(value)
        ]
    return out


def filled(block: Block, value: Value, make: Callable[[str, Any], Any]) -> Value:
    """The same value with ``make(name, type)`` for what is unknown."""
    out = dict(value)
    for name, attribute in block.get("attributes", {}).items():
        if out.get(name) is UNKNOWN:
            out[name] = make(name, attribute["type"])
    for name, nested in block.get("block_types", {}).items():
        inner = out.get(name)
        if isinstance(inner, dict):
            out[name] = filled(nested["block"], inner, make)
        elif isinstance(inner, list):
            out[name] = [filled(nested["block"], one, make) for one in inner]
        elif inner is UNKNOWN:
            out[name] = []
    return out


def plain(kind: Any) -> Any:
    """A value of a type that says nothing."""
    if isinstance(kind, list):
        return {} if kind[0] in ("map", "object") else []
    return {"string": "", "number": 0, "bool": False}[kind]
