"""
The filters of ``events``: Docker's words, and libstorage's.

An event is shown when it has what each key asks for, one of its values where it is given several
times. What a stream cannot have, such as an image libstorage's, it does not show.
"""

import fnmatch

from .words import WrongUsage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    JSON = dict[str, Any]

DOCKERS = frozenset(("type", "event", "container", "image", "label", "volume", "network", "daemon"))
DOCKERS |= frozenset(("plugin", "service", "secret", "config", "scope"))
OURS = frozenset(("type", "event", "container", "volume", "verb", "node", "success"))
LIBSTORAGE = "libstorage"
"""The type of all that is libstorage's."""
AS_DOCKERS = {"rm": "destroy"}
"""Verbs for which Docker has another word."""


class Filters:
    """
    What was asked for.

    given
        ``KEY=VALUE``, several with commas too. Raises WrongUsage.
    """

    def __init__(self, given: "Iterable[str]") -> None:
        self._wanted: dict[str, list[str]] = {}
        for text in given:
            key, sign, value = text.partition("=")
            key = key.strip().lower()
            if not sign or key not in DOCKERS | OURS:
                known = ", ".join(sorted(DOCKERS | OURS))
                raise WrongUsage(
                    f'invalid argument "{text[:60]}" for "--filter" flag: it must be KEY=VALUE '
                    f"with one of {known}"
                )
            self._wanted.setdefault(key, []).append(value)

    @property
    def dockers(self) -> "dict[str, list[str]] | None":
        """What the engine is asked for; None where it can have none."""
        if not self._wanted.keys() <= DOCKERS:
            return None
        types = self._wanted.get("type", [])
        theirs = [type for type in types if type != LIBSTORAGE]
        if types and not theirs:
            return None
        return {**self._wanted, "type": theirs} if types else self._wanted

    @property
    def any_of_ours(self) -> bool:
        """Can libstorage have any?"""
        return self._wanted.keys() <= OURS

    def match(self, event: "JSON") -> bool:
        """Is an event of libstorage's wanted?"""
        return all(
            any(_matches(event, key, value) for value in values)
            for key, values in self._wanted.items()
        )


def _matches(event: "JSON", key: str, value: str) -> bool:
    if key == "container":
        # By the beginning of its id, as docker's own.
        return bool(value) and str(event["Data"].get("container", "")).startswith(value)
    if key == "type":
        return value in (event["Subject"], LIBSTORAGE)
    if key == "event":
        return value in (event["Verb"], AS_DOCKERS.get(event["Verb"]))
    found = str(event[key.capitalize()]).lower()
    return fnmatch.fnmatchcase(found, value.lower())
