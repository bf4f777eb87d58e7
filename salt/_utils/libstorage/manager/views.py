"""What the reading verbs show: records with what attachments, operations and files add to them."""

import fnmatch
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..errors import InvalidInput
from ..host import mounts
from ..host.throttling import NONE, Limits
from ..records import ATTACHED, JSON, NEVER, Attachment, Operation, User
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

    def info(self, names: Iterable[str], deadline: Deadline) -> list[JSON]:
        """The volumes of these names. Raises NoSuchVolume."""
        records = [self._lookup.known(name, deadline)[0].value for name in names]
        look = self._look()
        views = []
        for record in records:
            name = record["Name"]
            access = self._store.get(keys.access(name))
            found = self._journal.find(name)
            attachments = list(self._store.values(keys.attachments(name)))
            view = _view(
                record,
                attachments,
                access.value if access else None,
                self._operation(found[1]) if found else None,
                look,
            )
            views.append(self._limited(view, attachments, look))
        return views

    def _limited(self, view: JSON, attachments: Sequence[JSON], look: Look) -> JSON:
        """The view with the limits that are in effect on this node, where it is in use here."""
        here = next((a for a in attachments if a.get("Limited") and look.is_mounted_here(a)), None)
        found = self._limiter.in_effect(Attachment.from_json(here)) if here else {}
        rows = [{"Cgroup": place, **shown(now)} for place, now in found.items() if now != NONE]
        return {**view, "QoSScope": self._limiter.scope if rows else "", "QoSLimits": rows or None}

    def ls(self, filters: Sequence[str]) -> list[JSON]:
        """All volumes that match every filter (``KEY=PATTERN``), by name."""
        wanted = [_filter(text) for text in filters]
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
        return [view for view in views if all(matches(view) for matches in wanted)]

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


def _view(
    record: JSON,
    attachments: Sequence[JSON],
    access: JSON | None,
    operation: JSON | None,
    look: Look,
) -> JSON:
    """A record with its derived fields; Mountpoint is this node's, where it is really mounted."""
    attachments = [a for a in attachments if look.of_this_boot(a)]
    view = dict(record)
    view["Mountpoint"] = next((a["Mountpoint"] for a in attachments if look.is_mounted_here(a)), "")
    view["Inuse"] = [a["Node"] for a in attachments] or None
    view["Containers"] = [
        f"{User.from_json(user).who}@{a['Node']}" for a in attachments for user in a["Users"]
    ] or None
    view["LastAccessTimestamp"] = access["at"] if access else NEVER
    view["Operation"] = operation
    return view


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
