"""What happened, kept in the store; the event of a change is part of the change's transaction."""

import fnmatch
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from ..errors import (
    BackendError,
    Elsewhere,
    InvalidInput,
    LibstorageError,
    NotHere,
    OperationInProgress,
    ProfileExists,
    ProfileInUse,
    Unsupported,
    VolumeExists,
    VolumeInUse,
)
from ..records import JSON, Event, now
from ..store.contract import KeyAbsent, KeyAtRevision, Put
from . import keys
from .context import Context

TEXTS = {
    "create": "Volume create",
    "adopt": "Volume adopt {object}",
    "rm": "Volume destroy",
    "mount": "Mount",
    "unmount": "Unmount[{volume}]",
    "snapshot_create": "Snapshot[{snapshot}] create",
    "snapshot_rm": "Snapshot[{snapshot}] delete",
    "clone": "Clone volume {snapshot}",
    "flatten": "Volume flatten",
    "rollback": "VolumeRollback {snapshot}",
    "resize": "Volume resize",
    "empty": "Volume emptied by {cause}",
    "damaged": "Volume damaged: {cause}",
    "label": "Volume label",
    "protect": "Volume protect",
    "unprotect": "Volume unprotect",
    "qos_create": "QoS profile create",
    "qos_edit": "QoS profile edit",
    "qos_rm": "QoS profile delete",
    "qos_apply": "QoS apply[{profile}]",
    "qos_enable": "QoS enable",
    "qos_disable": "QoS disable",
    "qos_enable_all": "QoS enable global",
    "qos_disable_all": "QoS disable global",
    "undelete": "Volume undelete",
    "purge": "Volume purge",
    "near_full": "Storage near full: {Percent} % of {MBSize} MB used on {On}",
    "force_detach": "Force detach[{volume}] from {on}",
    "release": "Mount on {on} released with its fence",
    "lost": "Volume given up with {on}",
    "drain": "Node drain",
    "undrain": "Node undrain",
    "fence": "Node fence",
    "back": "Node back after its fence",
    "forget_node": "Node forget",
    "room_again": "Storage has room again: {Percent} % of {MBSize} MB used on {On}",
    "gap": "Events may be missing: {Says}",
}
"""How an event's text begins, as operators know it."""

NODE_VERBS = ("drain", "undrain", "fence", "back", "forget_node")
"""What is about a node; its name stands where a volume's does."""

PROFILE_VERBS = ("qos_create", "qos_edit", "qos_rm", "qos_enable_all", "qos_disable_all")

REFUSALS = (
    BackendError,
    NotHere,
    OperationInProgress,
    ProfileExists,
    ProfileInUse,
    Unsupported,
    VolumeExists,
    VolumeInUse,
)
"""Errors that answer a valid request; invalid input leaves no event."""

FILTERS = ("volume", "verb", "node", "success")
BY_ITSELF = frozenset(
    {"back", "damaged", "empty", "gap", "lost", "near_full", "release", "room_again"}
)
"""What happened without anybody's doing; its text names neither success nor failure."""

STORAGE = frozenset({"near_full", "room_again"})
"""What is about a controller's storage; its name stands where a volume's does."""

_RELATIVE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Events:
    """Writes and lists the events of volumes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def success(self, volume: str, verb: str, by: JSON, **data: object) -> Put:
        """The write that tells of a success; it belongs into the transaction of the change."""
        return self._put(volume, verb, by, "", data)

    def failure(self, volume: str, verb: str, by: JSON, reason: str, **data: object) -> Put:
        """The write that tells of a failure."""
        return self._put(volume, verb, by, reason or "for no known reason", data)

    @contextmanager
    def refusals(
        self, volume: str, verb: str, by: JSON, *, test: bool = False, **data: object
    ) -> Iterator[None]:
        """Write a failed event where a valid request fails inside; never in a test."""
        try:
            yield
        except Elsewhere:
            raise
        except REFUSALS as exc:
            if not test:
                try:
                    self._context.store.transact(
                        [], [self.failure(volume, verb, by, str(exc), **data)]
                    )
                except LibstorageError as store_away:
                    exc.add_note(f"No event was written: {store_away}")
            raise

    def _put(self, volume: str, verb: str, by: JSON, reason: str, data: JSON) -> Put:
        what = TEXTS[verb].format_map({**data, "volume": volume, "node": self._context.node})
        container = data.get("container")
        if container and verb == "unmount":
            what = f"{what} container {container}"
        event = Event(
            id=uuid.uuid4().hex,
            time=now(),
            node=self._context.node,
            volume=volume,
            subject=_subject(verb),
            verb=verb,
            success=not reason,
            text=_sentence(what, verb, reason),
            by=by,
            data=data,
        )
        return Put(keys.event(event.time, event.id), event.to_json())

    def list(
        self, since: object = None, until: object = None, filters: Sequence[str] = ()
    ) -> "list[JSON]":
        """
        The events from ``since`` to ``until``, in order of time.

        since, until
            RFC 3339 times, Unix times in seconds, or ages such as ``90s``, ``10m``, ``2h``, ``7d``.
        filters
            ``KEY=PATTERN`` with a key of FILTERS; all must match.
        """
        start, end = instant(since, "since"), instant(until, "until")
        wanted = [_filter(text) for text in filters]
        # Keys are <time>-<id>: only what is asked for is read, up to the end of that moment.
        first = keys.EVENTS + start if start else ""
        last = f"{keys.EVENTS}{end}." if end else ""
        return [
            event
            for event in self._context.store.values(keys.EVENTS, first, last)
            if all(_matches(event, key, pattern) for key, pattern in wanted)
        ]

    def old(self) -> bool:
        """Are there events beyond the retention?"""
        first = next(self._context.store.list(keys.EVENTS), None)
        return first is not None and first.key < self._horizon()

    def forget_old(self) -> int:
        """
        Delete the events beyond the retention; returns how many there were.

        ``forgotten`` says before, up to which revision: whoever comes later knows what he missed.
        """
        store, horizon = self._context.store, self._horizon()
        told = store.get(keys.FORGOTTEN)
        compare = KeyAtRevision(told.key, told.revision) if told else KeyAbsent(keys.FORGOTTEN)
        revision, last = int(told.value["Revision"]) if told else 0, ""
        for entry in takewhile(lambda entry: entry.key < horizon, store.list(keys.EVENTS)):
            revision, last = max(revision, entry.revision), entry.key
        tells = Put(keys.FORGOTTEN, {"Revision": revision})
        if not last or store.transact([compare], [tells]) is None:
            return 0  # there is nothing to do, or another is at it
        return store.delete_range(keys.EVENTS, f"{last}\0")

    def _horizon(self) -> str:
        before = datetime.now(UTC) - timedelta(days=self._context.config.retention)
        return keys.EVENTS + before.isoformat(timespec="microseconds")


def _subject(verb: str) -> str:
    """What an event is about; the name of a profile stands where a volume's does."""
    if verb in NODE_VERBS:
        return "node"
    if verb in PROFILE_VERBS:
        return "profile"
    if verb in STORAGE:
        return "storage"
    if verb == "gap":
        return "events"
    return "snapshot" if verb.startswith("snapshot_") else "volume"


def _sentence(what: str, verb: str, reason: str) -> str:
    """Who succeeded or failed did something; what happened by itself just happened."""
    if verb in BY_ITSELF:
        return what
    return f"{what} failed {reason}" if reason else f"{what} success"


def instant(value: object, name: str) -> str | None:
    """A point in time as the store writes it; None where none was given."""
    if value is None or value == "":
        return None
    text = str(value)
    try:
        if match := _RELATIVE.fullmatch(text):
            moment = datetime.now(UTC) - timedelta(seconds=float(match[1]) * _UNITS[match[2]])
        elif re.fullmatch(r"\d+(\.\d+)?", text):
            moment = datetime.fromtimestamp(float(text), UTC)
        else:
            moment = datetime.fromisoformat(text)
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(
            f"{name} must be a time such as 2026-01-31T12:00:00Z or an age such as 10m, "
            f"not {text[:60]!r}"
        ) from None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _filter(text: str) -> tuple[str, str]:
    key, given, pattern = str(text).partition("=")
    if not given or key not in FILTERS:
        raise InvalidInput(
            f"Not an event filter: {text!r}; write KEY=PATTERN with one of {', '.join(FILTERS)}"
        )
    return key, pattern


def _matches(event: JSON, key: str, pattern: str) -> bool:
    value = event[key.capitalize()]
    return fnmatch.fnmatchcase(str(value).lower(), pattern.lower())
