"""What the doctor finds, and how it looks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..errors import BackendError
from ..records import JSON
from .context import Deadline

DOCTOR: JSON = {"door": "doctor"}


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Something that disagrees.

    mend
        What ``fix`` does about it; None where only an operator can.
    """

    kind: str
    name: str
    says: str
    mend: Callable[[], object] | None = None


Look = Callable[[Deadline], Iterator[Finding]]


def seen(look: Look, deadline: Deadline) -> list[Finding]:
    """What a look finds; storage that is away is a finding too, and ends this look alone."""
    found = []
    try:
        for finding in look(deadline):
            found.append(finding)
    except BackendError as exc:
        found.append(Finding("backend", "storage", f"Storage cannot be looked at: {exc}."))
    return found
