"""
The records that the store holds, and the words they may contain.

In JSON a record has the names that operators see (``MBSize``, ``CreatedBy``); in Python it is a
frozen dataclass with the same names in snake case. Fields that a newer version has added are kept
in ``extra``, so that an older one never drops them when it writes the record again.
"""

import re
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

from .errors import InvalidInput

JSON = dict[str, Any]

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
NEVER = "0001-01-01T00:00:00Z"
MB = 2**20

POLICIES = ("distributed", "distributed-fs", "local", "ram", "secure")
FSTYPES = ("ext2", "ext3", "ext4", "xfs", "btrfs", "raw")
RAW = "raw"
OK, DAMAGED = "ok", "damaged"


def now() -> str:
    """The time as RFC 3339 in UTC, to the microsecond."""
    return in_days(0)


def in_days(days: float) -> str:
    """The time so many days from now, written as :func:`now` does."""
    moment = datetime.now(UTC) + timedelta(days=days)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def check_name(name: object, what: str = "volume") -> str:
    """Return ``name`` if it may name a volume; raise InvalidInput otherwise."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return name
    shown = repr(name) if len(repr(name)) <= 60 else f"{repr(name)[:57]}..."
    raise InvalidInput(
        f"Not a {what} name: {shown}; use 1 to 128 letters, digits, '_', '.' and '-', "
        f"beginning with a letter or digit"
    )


def split_snapshot(name: object, volume: object = None) -> tuple[str, str]:
    """
    Volume and snapshot of ``VOLUME@SNAPSHOT``, or of a snapshot's name with its volume's.

    Raises InvalidInput.
    """
    text = str(name)
    if volume in (None, ""):
        volume, at, text = text.partition("@")
        if not at:
            raise InvalidInput(f"Not a snapshot: {str(name)[:60]!r}; write VOLUME@SNAPSHOT")
    return check_name(volume), check_name(text, "snapshot")


def named(json_name: str, **default: Any) -> Any:
    """A field whose name in JSON is not simply its own in camel case."""
    return field(metadata={"json": json_name}, **default)


Names = tuple[tuple[str, str], ...]
_NAMES: dict[str, Names] = {}


def _names(cls: "type[Record]") -> Names:
    """The fields of a record class as (python name, JSON name)."""
    if cls.__name__ not in _NAMES:
        _NAMES[cls.__name__] = tuple(
            (f.name, f.metadata.get("json") or "".join(w.capitalize() for w in f.name.split("_")))
            for f in fields(cls)
            if f.name != "extra"
        )
    return _NAMES[cls.__name__]


ENGINES = ("docker", "podman")
"""They cannot wait for the store."""
COUNTED = ("docker",)
"""Engines that mount and unmount the same id more than once; other users are a set."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The base of all records: to JSON and back."""

    extra: JSON = field(default_factory=dict, repr=False)

    def to_json(self) -> JSON:
        data = {json_name: getattr(self, name) for name, json_name in _names(type(self))}
        return {**data, **self.extra}

    @classmethod
    def from_json(cls, data: JSON) -> Self:
        """Raises ValueError where a field without default is missing."""
        rest = dict(data)
        known = {name: rest.pop(json) for name, json in _names(cls) if json in rest}
        missing = [
            f.name
            for f in fields(cls)
            if f.name not in known and f.default is MISSING and f.default_factory is MISSING
        ]
        if missing:
            raise ValueError(f"{cls.__name__} without {', '.join(missing)}")
        return cls(**known, extra=rest)


@dataclass(frozen=True, kw_only=True)
class Volume(Record):
    """
    A volume. ``mb_size`` is in MB of 2^20 bytes; ``revision`` is 1 at create, +1 per change.

    ``node`` names the one node that holds the data, where there is one; ``id`` names the backend
    object, and is never used again.
    """

    DERIVED: ClassVar[tuple[str, ...]] = (
        "Mountpoint",
        "Device",
        "Inuse",
        "Containers",
        "LastAccessTimestamp",
        "Operation",
        "QoSScope",
        "QoSLimits",
    )

    name: str
    voltype: str
    created_by: str
    created_at: str
    policy: str
    fstype: str
    mb_size: int = named("MBSize")
    auto_migrate: bool
    shared: bool
    is_clone: bool = False
    parent_snapshot: str = ""
    qos_state: bool = named("QoSState", default=False)
    qos_profile: str = named("QoSProfile", default="")
    location: str = "near"
    far_object: str = ""
    options: dict[str, str] = field(default_factory=dict)
    id: str
    node: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    protected: bool = False
    state: str = OK
    revision: int = 1


@dataclass(frozen=True, kw_only=True)
class Snapshot(Record):
    """
    A snapshot, written ``VOLUME@SNAPSHOT``. ``size`` is in bytes.

    ``children`` names the volumes that were cloned from it, which keep it from being removed.
    """

    name: str
    volume: str
    id: str
    type: str = "default"
    created_by: str
    created_at: str
    size: int
    children: list[str] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        return f"{self.volume}@{self.name}"


@dataclass(frozen=True, kw_only=True)
class Profile(Record):
    """
    A named set of limits; 0 is no limit.

    ``read_bw`` and ``write_bw`` are in bytes per second, ``read_iops`` and ``write_iops`` in
    operations per second; ``weight`` (10 to 1000) counts against other users of the same device.
    """

    name: str
    read_iops: int = named("ReadIOPS")
    read_bw: int = named("ReadBW")
    write_iops: int = named("WriteIOPS")
    write_bw: int = named("WriteBW")
    weight: int


@dataclass(frozen=True, kw_only=True)
class User(Record):
    """
    One user of an attachment: ``count`` mounts by (engine, id) that were not taken back yet.

    ``cgroup`` is where its processes run, where that is known: limits act there.
    """

    engine: str
    id: str
    count: int = 1
    container: str = ""
    cgroup: str = ""
    at: str

    @property
    def who(self) -> str:
        """As an error or a list shows it: the container where it is known."""
        return self.container or f"{self.engine}:{self.id}"

    def renewed(self, user: "User") -> "User":
        """This user as he comes once more: what is not told anew of him, holds."""
        container, cgroup = user.container or self.container, user.cgroup or self.cgroup
        return replace(user, container=container, cgroup=cgroup)


@dataclass(frozen=True, kw_only=True)
class Place(Record):
    """
    Where a container that uses an attachment runs, as its engine says: its limits act there.

    ``pid`` tells one run of the container from another; ``at_start``: limits are there from its
    first I/O on, by the OCI runtime wrapper.
    """

    engine: str
    container: str
    pid: int
    cgroup: str
    at_start: bool = False


ATTACHED, ATTACHING, DETACHING = "attached", "attaching", "detaching"


@dataclass(frozen=True, kw_only=True)
class Attachment(Record):
    """
    A volume made present on one node.

    ``status`` is attaching, attached or detaching; ``owner``, ``token`` and ``process`` name who
    attaches or detaches, and are empty in between. ``leaving`` is the user whose going began the
    detach. ``limited`` names the cgroups that may hold limits on the device, written here before
    they are written there. ``shared`` is the volume's, for when its record cannot be read.
    """

    volume: str
    node: str
    id: str
    status: str
    boot_id: str
    mountpoint: str
    device: str = ""
    mode: str = "rw"
    client: str = ""
    owner: str = ""
    token: str = ""
    process: JSON = field(default_factory=dict)
    users: tuple[User, ...] = ()
    places: tuple[Place, ...] = ()
    limited: tuple[str, ...] = ()
    shared: bool = True
    leaving: JSON = field(default_factory=dict)

    def to_json(self) -> JSON:
        lists = {
            "Users": [user.to_json() for user in self.users],
            "Places": [place.to_json() for place in self.places],
            "Limited": list(self.limited),
        }
        return {**super().to_json(), **lists}

    @classmethod
    def from_json(cls, data: JSON) -> Self:
        lists = {
            "Users": tuple(User.from_json(user) for user in data.get("Users", ())),
            "Places": tuple(Place.from_json(place) for place in data.get("Places", ())),
            "Limited": tuple(data.get("Limited", ())),
        }
        return super().from_json({**data, **lists})

    def user(self, engine: str, id: str) -> User | None:
        return next((u for u in self.users if (u.engine, u.id) == (engine, id)), None)


@dataclass(frozen=True, kw_only=True)
class Reference(Record):
    """
    The containers on one node, of any state, that refer to a volume.

    ``engines`` has their ids by the engine that told of them; one without any is left out.
    """

    volume: str
    node: str
    engines: dict[str, list[str]]

    @property
    def who(self) -> list[str]:
        """As an error shows them."""
        return [f"{id}@{self.node}" for ids in self.engines.values() for id in ids]


@dataclass(frozen=True, kw_only=True)
class Operation(Record):
    """
    The one change in progress on a volume's data or existence.

    ``step`` is the last backend step that was about to be made ("" before the first); ``seconds``
    is the time that the owner has from ``started``; ``process`` is the owner's, kept here because
    the owner's own key goes when its lease does.
    """

    volume: str
    verb: str
    arguments: JSON
    owner: str
    token: str
    process: JSON
    node: str
    step: str = ""
    undoing: bool = False
    started: str
    seconds: float
    by: JSON = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Event(Record):
    """What happened to a volume; ``text`` is the line that operators read."""

    id: str
    time: str
    node: str
    volume: str
    subject: str
    verb: str
    success: bool
    text: str
    by: JSON = field(default_factory=dict)
    data: JSON = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trashed(Record):
    """
    A removed volume whose data are still there.

    ``parent`` is the Id of the snapshot that it was cloned from; ``nodes`` are its keys
    ``data/<volume>/<node>``, by node; ``busy`` names the operation that works on it.
    """

    volume: Volume
    at: str
    until: str
    by: JSON = field(default_factory=dict)
    parent: str = ""
    nodes: dict[str, JSON] = field(default_factory=dict)
    busy: str = ""

    def to_json(self) -> JSON:
        return {**super().to_json(), "Volume": self.volume.to_json()}

    @classmethod
    def from_json(cls, data: JSON) -> Self:
        return super().from_json({**data, "Volume": Volume.from_json(data["Volume"])})

    @property
    def state(self) -> JSON:
        """What the copy of the volume's record says of it: all that a lost store would miss."""
        return {"At": self.at, "Until": self.until, "By": self.by, "Parent": self.parent}
