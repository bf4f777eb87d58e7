"""
What a command is: its name, what it takes, what it asks of the bridge, and what it says then.

Its arguments and the flags that were given become those of a function of the module ``dsvolume``;
it has no sense of its own for volumes.
"""

from . import show
from .words import Flag, Parsed, WrongUsage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    JSON = dict[str, Any]
    Ask = Callable[[Parsed], tuple[list[Any], JSON]]
    Say = Callable[[JSON, Any], str]

VOLUMES, SNAPSHOTS, PROFILES, NODES, REMOVED = "volumes", "snapshots", "profiles", "nodes", "trash"
"""What an argument may name; ``completion`` looks it up."""


# -- what is asked, and of what -----------------------------------------------------------------


def plain(parsed: Parsed) -> "tuple[list[Any], JSON]":
    """Arguments and flags as they are."""
    return parsed.rest, parsed.given


def joined(parsed: Parsed) -> "tuple[list[Any], JSON]":
    """Several filters are one, with commas."""
    given = dict(parsed.given)
    if "filter" in given:
        given["filter"] = ",".join(given["filter"])
    return parsed.rest, given


def sized(parsed: Parsed) -> "tuple[list[Any], JSON]":
    """The size is an argument."""
    return [*parsed.rest, parsed.given["size"]], {}


def by_name(parsed: Parsed) -> "JSON":
    """What a response and a refusal name: all that was named."""
    return {"Name": ",".join(parsed.rest)}


def by_first(parsed: Parsed) -> "JSON":
    return {"Name": parsed.rest[0]}


def by_nothing(_: Parsed) -> "JSON":
    return {}


def by_snapshot(parsed: Parsed) -> "JSON":
    """The snapshot apart from its volume, in whatever way they were given."""
    first = parsed.rest[0]
    volume, at, name = first.partition("@")
    if "volume" in parsed.given:
        return {"Name": first, "Volume": parsed.given["volume"]}
    return {"Name": name, "Volume": volume} if at else {"Name": first, "Volume": ""}


class Command:
    """
    A command.

    name
        Its words: ``snapshot create``.
    function
        The function that it calls.
    usage
        Its arguments; those in brackets may be left out, dots stand for more of the last.
    about
        What its response, and a refusal, name.
    needs
        Flags that must be given.
    completes
        What its arguments name, the last one's kind for all that follow.
    """

    def __init__(
        self,
        name: str,
        function: str,
        usage: str,
        help: str,
        say: "Say",
        *flags: Flag,
        ask: "Ask" = plain,
        about: "Callable[[Parsed], JSON]" = by_name,
        needs: "tuple[str, ...]" = (),
        completes: "tuple[str, ...]" = (),
    ) -> None:
        self.name = name
        self.function = function
        self.usage = usage
        self.help = help
        self.say = say
        self.flags = flags
        self.ask = ask
        self.about = about
        self.completes = completes
        self._needs = needs
        words = usage.split()
        self._least = sum(not word.startswith("[") for word in words)
        self._most = None if usage.endswith("...]") else len(words)

    def check(self, parsed: Parsed) -> None:
        """Raise WrongUsage where arguments or flags are missing, or are too many."""
        missing = [flag for flag in self._needs if flag not in parsed.given]
        if missing:
            names = ", ".join(f'"{flag}"' for flag in missing)
            raise WrongUsage(f"required flag(s) {names} not set")
        least, most, count = self._least, self._most, len(parsed.rest)
        if least <= count and (most is None or count <= most):
            return
        if most == 0:
            raise WrongUsage("accepts no arguments")
        if least == most:
            raise WrongUsage(f"requires {_arguments(least)}")
        if count < least:
            raise WrongUsage(f"requires at least {_arguments(least)}")
        raise WrongUsage(f"requires at most {_arguments(most or 0)}")


def _arguments(count: int) -> str:
    return f"{count} argument" if count == 1 else f"{count} arguments"


# -- what is said of an answer -------------------------------------------------------------------


def response(title: str, *fields: str) -> "Say":
    """``TITLE response {"Name":"db","Err":""}``, with fields of the answer before ``Err``."""

    def say(about: "JSON", answer: "Any") -> str:
        told = {**about, **{field: answer[field] for field in fields}, "Err": ""}
        return f"dsvolume {title} response {show.compact(told)}"

    return say


def responses(title: str) -> "Say":
    """The same, a line for each volume."""
    one = response(title)

    def say(_: "JSON", answer: "Any") -> str:
        names = [row["Name"] for row in answer] or [""]
        return "\n".join(one({"Name": name}, None) for name in names)

    return say


def text(make: "Callable[[Any], str]") -> "Say":
    return lambda _, answer: make(answer)


def documents(fields: "tuple[str, ...]", title: str = "") -> "Say":
    """Records as JSON, below a title that names them."""

    def say(about: "JSON", answer: "Any") -> str:
        heading = f"{title} on {about['Name'].replace(',', ', ')}\n" if title else ""
        return heading + show.records(answer, fields)

    return say
