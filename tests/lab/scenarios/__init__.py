"""The verbs that meet faults, and what must be true of each after any of them."""

from lab.faults import Scenario

from . import limits, nodes, snapshots, trash, volumes
from .words import FAST, GROWN, KINDS, MARKER, assert_intact, read_marker, write_marker

__all__ = [
    "FAST",
    "GROUPS",
    "GROWN",
    "KINDS",
    "MARKER",
    "assert_intact",
    "read_marker",
    "scenarios_of",
    "write_marker",
]

GROUPS = {
    "volumes": volumes.scenarios,
    "snapshots": snapshots.scenarios,
    "limits": limits.scenarios,
    "trash": trash.scenarios,
    "nodes": nodes.scenarios,
}
"""A soak runs one group at a time."""


def scenarios_of(*groups: str) -> dict[str, Scenario]:
    """The scenarios of some groups, by name; of all where none is named."""
    return {s.name: s for group in groups or GROUPS for s in GROUPS[group]()}
