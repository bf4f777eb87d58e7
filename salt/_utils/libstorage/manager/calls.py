"""What every verb may be told beside its own arguments, and how it is understood."""

import math
from dataclasses import dataclass
from typing import Any, TypedDict

from ..config import DAY
from ..errors import InvalidInput
from ..records import JSON
from .context import Deadline
from .requests import Request


class CallHere(TypedDict, total=False):
    """
    Keyword arguments that verbs share; each may be left out.

    by
        Who asks: ``door`` (salt, cli, docker) and what it knows of user and job. Events tell it.
    timeout
        Seconds to wait for another's work on the same volume; None: as configured.
    test
        Find out what would be done, raise what would be raised, and write nothing.
    """

    by: JSON | None
    timeout: float | None
    test: bool


class Call(CallHere, total=False):
    """
    The same for verbs that change the cluster's records.

    request
        The Salt job that this call is part of: nodes of one job act once. None: it stands alone.
    """

    request: Request | None


class Shared(TypedDict):
    """What the parts of the manager are told alike."""

    by: JSON
    deadline: Deadline
    test: bool


@dataclass(frozen=True, slots=True)
class Told:
    """A call as it was understood. A test is no part of a job: nothing is written."""

    by: JSON
    deadline: Deadline
    test: bool
    request: Request | None

    @property
    def shared(self) -> Shared:
        return Shared(by=self.by, deadline=self.deadline, test=self.test)


def understood(
    standard: float,
    *,
    by: JSON | None = None,
    timeout: float | None = None,
    test: bool = False,
    request: Request | None = None,
) -> Told:
    """
    Read the arguments of a call.

    standard
        Seconds to wait where the call does not say.
    """
    deadline = Deadline(patience(timeout, standard))
    return Told(by or {}, deadline, test, None if test else request)


def patience(timeout: Any, standard: float) -> float:
    """Seconds to wait for others. Raises InvalidInput for what is no number of seconds."""
    if timeout is None or timeout == "":
        return standard
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(timeout, bool) or not 0 <= seconds <= DAY:
        raise InvalidInput(
            f"timeout must be a number of seconds from 0 to {DAY}, not {str(timeout)[:60]!r}"
        )
    return seconds
