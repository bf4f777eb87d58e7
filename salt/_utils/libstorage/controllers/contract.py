"""
The contract of every controller.

A controller drives one storage stack and knows neither the store nor Docker nor the other
controllers. Everything is addressed by a volume's Id, may be called again after a crash
(idempotent), and takes a :class:`~libstorage.host.commands.Work`: its token and time limit.

What a controller can do is what it has the methods for; :class:`Controller` is what all have.
A module that is one of these offers ``CONTROLLER``: a class whose constructor takes a
:class:`Site`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..host.commands import Work
from ..records import JSON, Snapshot, Volume


@dataclass(frozen=True, slots=True)
class Site:
    """
    Where on this node a controller may keep things, and how it is configured.

    run_dir
        What ends with the boot.
    settings
        Its own part of the configuration; {} for one that has none.
    """

    root: Path
    node: str
    run_dir: Path
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of a new volume; None (or absent) is what was not said."""

    policy: str
    mb_size: int | None = None
    fstype: str | None = None
    shared: bool | None = None
    auto_migrate: bool | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """
    What a wish comes to: the fields of the record that would result.

    tied
        The data live on the one node that makes them.
    warnings
        Sentences on what was asked and cannot be had.
    """

    voltype: str
    fstype: str
    mb_size: int
    shared: bool
    auto_migrate: bool
    options: dict[str, str]
    tied: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    What a volume is mounted from on this node.

    kind
        ``image``: a file that holds a filesystem; ``filesystem``: a block device that holds one;
        ``device``: a block device, shown as it is; ``directory``: bind-mounted; ``tmpfs``: memory
        that is made by mounting it.
    options
        Mount options beyond nosuid and nodev.
    client
        By what address the storage knows this node's access; "" where nobody else could reach it.
    mend
        What is to be done to it before it is mounted, once it is noted who the client is.
    explain
        Where it could not be mounted: raises Damaged where its filesystem is why.
    """

    kind: str
    path: Path
    fstype: str = ""
    options: tuple[str, ...] = ()
    client: str = ""
    mend: Callable[[], None] = lambda: None
    explain: Callable[[], None] = lambda: None


class Controller(Protocol):
    """What every controller has."""

    name: str
    policies: tuple[str, ...]

    def node_local(self, volume: Volume) -> bool:
        """Does each node keep its own data, made at the first mount there?"""

    def normalise(self, wish: Wish) -> Shape:
        """
        What a wish comes to. Reads nothing but the wish.

        Raises InvalidInput for what this storage cannot be asked.
        """

    def check(self, volume: Volume) -> None:
        """Raise ToolMissing, NoSpace or Unsupported where the volume could not be made here."""

    def create(self, work: Work, volume: Volume) -> None:
        """
        Make the backend object of a new volume.

        Raises BackendError where a block volume of this Id is there already: nothing is formatted
        over. Node-local data that are there already are as good as made.
        """

    def exists(self, volume: Volume) -> bool:
        """Is the backend object there?"""

    def destroy(self, work: Work, id: str) -> None:
        """
        Remove the backend object, whole or half made; absent is as good.

        Its copy goes first: what is half removed must not pass for a volume.
        """

    def attach(self, work: Work, volume: Volume) -> Source:
        """
        Make the volume ready to be mounted on this node.

        Raises Damaged where its filesystem needs a human.
        """

    def detach(self, work: Work, id: str) -> None:
        """Take back what attach made, after the unmount; nothing made is as good."""

    def inspect(self, work: Work, volume: Volume) -> Path | None:
        """
        Show the files of an unmounted volume read-only, for reading usage.

        Returns the directory (of a raw volume the file); None where nothing is there to look at.
        """

    def end_inspection(self, work: Work, id: str) -> None:
        """Take back what inspect made; nothing made is as good."""

    def put_copy(self, volume: Volume, cluster: str, trashed: JSON | None = None) -> None:
        """
        Keep a copy of the record, with the cluster's id, beside the data.

        trashed
            What the trash knows of a removed volume; None: it is not in the trash.
        """

    def drop_copy(self, id: str) -> None:
        """Remove the copy; absent is as good."""

    def copy_of(self, id: str) -> JSON | None:
        """The copy of a volume's record, as it was put; None where there is none."""

    def copies(self) -> "list[JSON]":
        """
        All copies of records on this node, of volumes and snapshots.

        Each ``{"cluster": id, "record": record}``, as it was put; of a volume in the trash with
        ``trashed`` too.
        """

    def inventory(self) -> "list[Found]":
        """All that exists in the backend on this node."""

    def in_use(self) -> dict[str, str]:
        """What attach and inspect hold on the host now: Id -> a loop device, a mount."""

    def capacity(self) -> tuple[int, int]:
        """Total and available bytes; a total of 0 says that it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    A backend object that an inventory found.

    copy
        The record beside it, as it was put; None where there is none.
    trashed
        What the copy says of its time in the trash; None: it is not there.
    age
        Seconds since it was last changed.
    """

    id: str
    what: str
    age: float
    copy: JSON | None = None
    trashed: JSON | None = None
    cluster: str = ""


@runtime_checkable
class Snapshots(Protocol):
    """A controller that keeps snapshots."""

    def need_snapshots(self, volume: Volume) -> None:
        """Raise Unsupported, with the way out, where this volume can have none."""

    def snapshot_create(
        self, work: Work, volume: Volume, snapshot: Snapshot, mountpoint: Path | None
    ) -> None:
        """
        Keep what the volume holds at one moment.

        mountpoint
            Where it is mounted on this node: it is frozen meanwhile. None: it is not mounted.

        Raises Unsupported where it cannot be frozen for as long as it would take.
        """

    def snapshot_remove(self, work: Work, id: str) -> None:
        """Remove a snapshot, whole or half made, and its copy; absent is as good."""

    def snapshot_exists(self, snapshot: Snapshot) -> bool:
        """Is it there?"""

    def put_snapshot_copy(self, volume: Volume, snapshot: Snapshot, cluster: str) -> None:
        """Keep a copy of the snapshot's record beside its data."""

    def rollback(self, work: Work, volume: Volume, snapshot: Snapshot) -> None:
        """Bring an unmounted volume back to a snapshot, in its current size."""

    def clone(self, work: Work, snapshot: Snapshot, volume: Volume) -> None:
        """Make the backend object of a new volume from a snapshot, with an identity of its own."""

    def snapshot_inventory(self) -> "list[Found]":
        """All snapshots that exist in the backend on this node."""


@dataclass(frozen=True, slots=True)
class Adoptable:
    """What others have made, as the volume that it would be."""

    fstype: str
    mb_size: int


@runtime_checkable
class Adopts(Protocol):
    """A controller that can make volumes of what others have made in its storage."""

    def adoptable(self, object: str) -> Adoptable:
        """
        What an object would be; reads only.

        Raises InvalidInput, with the way out, where it is not there or cannot be a volume;
        VolumeInUse while somebody has it open.
        """

    def adopt(self, work: Work, object: str, volume: Volume) -> None:
        """Make the object the volume's; done is as good."""

    def disown(self, work: Work, object: str, id: str) -> None:
        """Give the object the name back that it had, and drop its copy; not adopted is as good."""


@runtime_checkable
class Flattens(Protocol):
    """A controller whose clones share data with their snapshot."""

    def flatten(self, work: Work, volume: Volume) -> None:
        """Give an unmounted clone data of its own; one that has them is as good."""


@runtime_checkable
class Grows(Protocol):
    """A controller whose volumes can become larger."""

    def check_growth(self, volume: Volume, mb_size: int) -> None:
        """Raise Unsupported, InvalidInput, ToolMissing or NoSpace where it could not grow so."""

    def grow(self, work: Work, volume: Volume, mb_size: int, mountpoint: Path | None) -> None:
        """
        Grow a volume and its filesystem to ``mb_size`` MB; grown is as good.

        mountpoint
            Where it is mounted on this node; None: it is not mounted.

        Raises Unsupported, with the volume as it was, where it cannot grow as it is now.
        """


@runtime_checkable
class Throttles(Protocol):
    """A controller with volumes whose I/O can be limited, on the device that attach gives."""

    def need_limits(self, volume: Volume) -> None:
        """Raise Unsupported, with the way out, where this volume's I/O cannot be limited."""

    def put_profiles(self, blob: JSON) -> None:
        """Keep a copy of the QoS profiles beside the data."""

    def profiles(self) -> JSON | None:
        """The copy, as it was put; None where there is none."""


@runtime_checkable
class Fences(Protocol):
    """A controller whose storage can shut a node out that does not answer."""

    def shut_out(self, id: str, client: str) -> None:
        """
        Let nobody write to a volume any more who has it now; returns when that is so.

        client
            The address that attach has told, "" where it did not come to that.
        """


@dataclass(frozen=True, slots=True)
class Health:
    """
    How storage says that it is.

    status
        Its own word for it.
    checks
        What is wrong, a sentence each; none where all is well.
    """

    status: str
    checks: tuple[str, ...]


@runtime_checkable
class Common(Protocol):
    """A controller whose storage is one for all nodes, and says itself how it is."""

    def storage(self) -> str:
        """Its name, the same on all nodes that use it."""

    def health(self) -> Health:
        """How it is now."""


@runtime_checkable
class Serves(Protocol):
    """A controller whose devices are served by a process on this node, which may die."""

    def serves(self, id: str) -> bool:
        """Does the device that attach gave still reach the storage?"""

    def give_up(self, work: Work, id: str) -> None:
        """Where its process has died: whoever waits for the device gets an error, at once."""


@runtime_checkable
class Measures(Protocol):
    """A controller that knows what a volume takes without looking at its files."""

    def allocated(self, volume: Volume) -> int:
        """Bytes."""


@runtime_checkable
class Wipes(Protocol):
    """A controller whose data must not outlive the last unmount."""

    def wipe(self, work: Work, volume: Volume, mountpoint: Path) -> None:
        """Overwrite what the volume holds, while it is still mounted."""


@runtime_checkable
class Volatile(Protocol):
    """A controller whose data do not outlive a boot."""

    def volatile(self, volume: Volume) -> bool:
        """True where a reboot empties the volume."""
