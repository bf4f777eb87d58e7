"""What the reading verbs show: records with what attachments, operations and files add to them."""

import fnmatch
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..errors import InvalidInput
from ..host import mounts, throttling
from ..host.throttling import NONE, Limits
from ..records import ATTACHED, JSON, NEVER, Attachment, Operation, User
from ..store.contract import MAX_READS
from . import keys
from .context import Context, Deadline
from .journal import Journal
from .limiter import Limiter
from .lookup import Lookup

_FIELDS = {
    "name": "Name",
    "policy": "Policy",
    "fstype": "Fstype",
    "type": "Voltype",
    "node": "Node",
    "created_by": "CreatedBy",
    "shared": "Shared",
    "state": "State",
    "location": "Location",
    "protected": "Protected",
    "qos": "QoSState",
    "profile": "QoSProfile",
}
TOGETHER = MAX_READS // 4
"""Volumes whose keys are read at once."""
MANY = 5 * MAX_READS
"""So many records are read faster with all others than by their names."""
FILTERS = (*_FIELDS, "label", "inuse")


@dataclass(frozen=True, slots=True)
class Look:
    """What this node sees at the moment of a reading verb."""

    node: str
    boot_id: str
    mounted: frozenset[str]

    def of_this_boot(self, attachment: JSON) -> bool:
        """An attachment of this node's older boot holds nothing any more."""
        return bool(attachment["Node"] != self.node or attachment["BootId"] == self.boot_id)

    def is_mounted_here(self, attachment: JSON) -> bool:
        return bool(
            attachment["Node"] == self.node
            and attachment["Status"] == ATTACHED
            and attachment["Mountpoint"] in self.mounted
        )


class Views:
    """The verbs info, ls and operations; they write nothing."""

    def __init__(
        self, context: Context, journal: Journal, lookup: Lookup, limiter: Limiter
    ) -> None:
        self._context = context
        self._store = context.store
        self._journal = journal
        self._lookup = lookup
        self._limiter = limiter

    def info(self, names: Sequence[str], deadline: Deadline) -> list[JSON]:
        """The volumes of these names; a create in progress is waited for. Raises NoSuchVolume."""
        views = {view["Name"]: view for view in self.those(names)}
        for name in names:
            while name not in views:
                self._lookup.known(name, deadline)
                views |= {view["Name"]: view for view in self.those([name])}
        return [views[name] for name in names]

    def those(self, names: Iterable[str]) -> list[JSON]:
        """The volumes of these names that there are now, in this order, each once."""
        wanted = tuple(dict.fromkeys(names))
        look = self._look()
        views = []
        for start in range(0, len(wanted), TOGETHER):
            views += self._read(wanted[start : start + TOGETHER], look)
        return views

    def _read(self, names: Sequence[str], look: Look) -> list[JSON]:
        found = {
            entry.key: entry.value
            for entry in self._store.read(*(key for name in names for key in _keys(name)))
        }
        views = []
        for name in names:
            volume, access, operation, below = _keys(name)
            if volume in found:
                attachments = [value for key, value in found.items() if key.startswith(below)]
                changing = found.get(operation)
                view = _view(
                    found[volume],
                    attachments,
                    found.get(access),
                    self._operation(Operation.from_json(changing)) if changing else None,
                    look,
                )
                views.append(self._limited(view, attachments, look))
        return views

    def _limited(self, view: JSON, attachments: Sequence[JSON], look: Look) -> JSON:
        """The view with the limits that are in effect on this node, where it is in use here."""
        here = next((a for a in attachments if a.get("Limited") and look.is_mounted_here(a)), None)
        found = self._limiter.in_effect(Attachment.from_json(here)) if here else {}
        late = _late(here) if here else frozenset()
        rows = [
            {"Cgroup": place, "AtStart": place not in late, **shown(now)}
            for place, now in found.items()
            if now != NONE
        ]
        return {**view, "QoSScope": self._limiter.scope if rows else "", "QoSLimits": rows or None}

    def ls(self, filters: Sequence[str], names: Iterable[str] | None = None) -> list[JSON]:
        """
        All volumes that match every filter (``KEY=PATTERN``), by name.

        names
            Of these only.
        """
        wanted = [_filter(text) for text in filters]
        views = self._all() if names is None else self.those(sorted(names))
        return [view for view in views if all(matches(view) for matches in wanted)]

    def _all(self) -> list[JSON]:
        attachments = defaultdict(list)
        for attachment in self._store.values(keys.ATTACHMENTS):
            attachments[attachment["Volume"]].append(attachment)
        access = {a["volume"]: a for a in self._store.values(keys.ACCESS)}
        operations = {o.volume: self._operation(o) for o in self._journal.list()}
        look = self._look()
        views = []
        for record in self._store.values(keys.VOLUMES):
            name = record["Name"]
            mine = attachments.get(name, ())
            view = _view(record, mine, access.get(name), operations.get(name), look)
            views.append(self._limited(view, mine, look))
        return views

    def index(self, since: int) -> JSON:
        """How many volumes there are, and the records that were changed after a revision."""
        told = self._store.changed(keys.VOLUMES, since)
        if told.revision < since:
            # The store is an older one than he has seen: what he has says nothing of it.
            told = self._store.changed(keys.VOLUMES)
        records: list[JSON] = []
        if len(told.keys) > MANY:
            records = list(self._store.values(keys.VOLUMES))
        else:
            for start in range(0, len(told.keys), MAX_READS):
                found = self._store.read(*told.keys[start : start + MAX_READS])
                records += [entry.value for entry in found]
        return {"Revision": told.revision, "Count": told.count, "Records": records}

    def operations(self) -> list[JSON]:
        """The changes in progress, also those whose owner has died."""
        # The token is for its owner alone: it is what lets a process write on the operation.
        shown = [{**o.to_json(), **self._operation(o)} for o in self._journal.list()]
        return [{k: v for k, v in row.items() if k != "Token"} for row in shown]

    def _look(self) -> Look:
        return Look(
            self._context.node,
            self._context.seen_boot_id(),
            frozenset(str(mount.path) for mount in mounts.table()),
        )

    def _operation(self, operation: Operation) -> JSON:
        age = time.time() - datetime.fromisoformat(operation.started).timestamp()
        return {
            "Verb": operation.verb,
            "Step": operation.step,
            "Age": round(max(age, 0.0), 1),
            "Alive": self._journal.alive(operation),
        }


def _keys(name: str) -> tuple[str, str, str, str]:
    """Where a volume's view comes from."""
    return keys.volume(name), keys.access(name), keys.operation(name), keys.attachments(name)


def _view(
    record: JSON,
    attachments: Sequence[JSON],
    access: JSON | None,
    operation: JSON | None,
    look: Look,
) -> JSON:
    """
    A record with its derived fields.

    Mountpoint, and the Device's number, are this node's, where it is really mounted.
    """
    attachments = [a for a in attachments if look.of_this_boot(a)]
    view = dict(record)
    here = next((a for a in attachments if look.is_mounted_here(a)), None)
    view["Mountpoint"] = here["Mountpoint"] if here else ""
    view["Device"] = throttling.number(here["Device"]) if here else ""
    view["Inuse"] = [a["Node"] for a in attachments] or None
    view["Containers"] = [
        f"{User.from_json(user).who}@{a['Node']}" for a in attachments for user in a["Users"]
    ] or None
    view["LastAccessTimestamp"] = access["at"] if access else NEVER
    view["Operation"] = operation
    return view


def _late(attachment: JSON) -> frozenset[str]:
    """The cgroups of containers that may have had I/O before they had limits."""
    places = Attachment.from_json(attachment).places
    return frozenset(place.cgroup for place in places if not place.at_start)


def shown(limits: Limits) -> JSON:
    """Limits with the names that a profile's have."""
    return {
        "ReadIOPS": limits.read_iops,
        "ReadBW": limits.read_bw,
        "WriteIOPS": limits.write_iops,
        "WriteBW": limits.write_bw,
        "Weight": limits.weight,
    }


def _filter(text: str) -> Callable[[JSON], bool]:
    """One ``KEY=PATTERN`` as a predicate; patterns are shell-like."""
    key, given, pattern = str(text).partition("=")
    if not given or key not in FILTERS:
        raise InvalidInput(
            f"Not a filter: {str(text)[:60]!r}; write KEY=PATTERN with one of {', '.join(FILTERS)}"
        )
    if key == "label":
        label, _, value = pattern.partition("=")
        return lambda view: (
            label in view["Labels"]
            and (not value or fnmatch.fnmatchcase(view["Labels"][label], value))
        )
    if key == "inuse":
        return lambda view: json.dumps(bool(view["Inuse"])) == pattern.lower()
    field = _FIELDS[key]
    if field in ("Shared", "Protected", "QoSState"):
        return lambda view: json.dumps(view[field]) == pattern.lower()
    return lambda view: fnmatch.fnmatchcase(view[field], pattern)
