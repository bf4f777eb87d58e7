"""
Limits in effect on this node: what the records say, written to the host's cgroups.

A limit that stays on a device when the volume has gone would slow down whoever is given the device
next. So the attachment names the cgroups that may hold limits (``Limited``), and its device,
before the first is written there, and they are lifted before the unmount.

Two that change limits at the same moment, and one that changes them while the volume goes: who has
written to the host looks at the records once more, and again until they say what he has written.
The last to write therefore has seen the last word, whoever was stopped in between. One that was
killed in between has left what the doctor finds.

A limit holds up our own work on a mounted volume too: before a snapshot what is dirty is written,
which at 10,000 bytes per second takes minutes. So limits rest for a step of an operation, ``lift``,
and are there again before it ends; who undoes or finishes a dead one's brings them back.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from ..errors import BackendError
from ..host import throttling
from ..host.throttling import NONE, Limits
from ..records import ATTACHED, Attachment, Operation, Place, User, Volume
from ..store.contract import Entry, KeyAtRevision, Put
from . import keys
from .context import Context
from .memory import AttachmentMemory
from .profiles import Profiles

LIFT, LIMIT = "lift", "limit"
"""Steps of an operation: the volume's limits rest; they are there again."""


class Limiter:
    """Writes limits to this node's cgroups."""

    def __init__(self, context: Context, profiles: Profiles) -> None:
        self._context = context
        self._store = context.store
        self._profiles = profiles
        self._memory = AttachmentMemory(context)

    @property
    def _host(self) -> throttling.Hierarchy | None:
        return throttling.hierarchy(self._context.config.qos_cgroup)

    # -- what should be -----------------------------------------------------------------------

    def wanted(self, volume: Volume) -> Limits:
        """What the records say that the volume's users may have now."""
        if not volume.qos_state or not self._profiles.enabled() or self._lifted(volume.name):
            return NONE
        profile = self._profiles.effective(volume.qos_profile)
        return Limits(
            read_iops=profile.read_iops,
            read_bw=profile.read_bw,
            write_iops=profile.write_iops,
            write_bw=profile.write_bw,
            weight=profile.weight,
        )

    def _lifted(self, name: str) -> bool:
        entry = self._store.get(keys.operation(name), linearizable=True)
        if entry is None:
            return False
        operation = Operation.from_json(entry.value)
        return operation.step == LIFT and not operation.undoing

    def cgroups(self, users: Sequence[User], places: Sequence[Place] = ()) -> tuple[str, ...]:
        """Where limits for these users, and for containers in these places, are written to."""
        if self._host is None:
            return ()
        theirs = (user.cgroup for user in users if user.cgroup)
        running = (place.cgroup for place in places)
        return tuple(dict.fromkeys((self._host.base(), *theirs, *running)))

    def may_hold(self, attachment: Attachment, users: Sequence[User]) -> tuple[str, ...]:
        """
        The cgroups that may hold limits of an attachment, once these are its users.

        A cgroup that is gone has taken its limits with it.
        """
        held = (place for place in attachment.limited if self.knows(place))
        return tuple(dict.fromkeys((*held, *self.cgroups(users, attachment.places))))

    # -- what is ------------------------------------------------------------------------------

    @property
    def scope(self) -> str:
        """What a limit holds for on this node; "" where it has no means to limit."""
        return self._host.scope if self._host else ""

    def knows(self, cgroup: str) -> bool:
        """Is there such a cgroup here?"""
        return self._host is None or self._host.exists(cgroup)

    def in_effect(self, attachment: Attachment) -> dict[str, Limits]:
        """The limits that the host has on an attachment's device, by cgroup."""
        host = self._host
        if host is None:
            return {}
        mine = self.cgroups(attachment.users, attachment.places)
        places = dict.fromkeys((*mine, *attachment.limited))
        return {place: host.limits(place, attachment.device) for place in places}

    def agrees(self, attachment: Attachment, volume: Volume) -> bool:
        """Does the host have the limits that the records say?"""
        wanted, mine = self.wanted(volume), self.cgroups(attachment.users, attachment.places)
        return all(
            _rates(now) == (_rates(wanted) if place in mine else NONE)
            for place, now in self.in_effect(attachment).items()
            if self.knows(place)
        )

    # -- write --------------------------------------------------------------------------------

    def begin(self, attachment: Attachment, volume: Volume) -> None:
        """
        Let a device that is about to be used have the volume's limits.

        What its last user has left is lifted, where the volume has none of its own.
        """
        wanted = self.wanted(volume)
        self._write(attachment.device, attachment.limited or self.cgroups(()), wanted)

    def enforce(self, name: str) -> None:
        """Let this node's attachment of a volume have its limits, until nothing changes more."""
        while True:
            found = self._attached(name)
            if found is None:
                return
            entry, attachment, volume = found
            wanted, mine = self.wanted(volume), self.cgroups(attachment.users, attachment.places)
            if wanted == NONE and not attachment.limited:
                return
            if wanted != NONE and not set(mine) <= set(attachment.limited):
                self._note(entry, attachment)
                continue
            if self._host is not None:
                self._host.settle(mine, attachment.device, wanted)
            self._write(attachment.device, mine, wanted)
            rest = [place for place in attachment.limited if place not in mine]
            self._write(attachment.device, rest, NONE)
            again = self._attached(name)
            if again is None:
                self.lift(attachment)
                return
            if again[0].revision == entry.revision and self.wanted(again[2]) == wanted:
                return

    @contextmanager
    def resting(self, name: str, step: Callable[[str], None]) -> Iterator[None]:
        """
        Let the limits of a volume that is in use here rest for the block.

        step
            Records a step of the operation that this is part of.

        Where the block fails they rest until the operation is undone, or goes on.
        """
        found = self._attached(name)
        if found is None or not found[1].limited:
            yield
            return
        step(LIFT)
        self.catch_up(name)
        yield
        step(LIMIT)
        self.catch_up(name)

    def catch_up(self, name: str) -> None:
        """Enforce; what the host does not take holds up no operation, and the doctor finds it."""
        with suppress(BackendError):
            self.enforce(name)

    def lift(self, attachment: Attachment) -> None:
        """Take the limits off the device of an attachment that goes, or has gone."""
        if not attachment.limited or not attachment.device:
            return
        # Nothing that goes is held up by its limits; who gets the device next lifts them too.
        with suppress(BackendError):
            self._write(attachment.device, attachment.limited, NONE)
        # If it went long ago, another volume may have its device by now.
        for value in self._store.values(keys.ATTACHMENTS):
            other = Attachment.from_json(value)
            same = (other.node, other.device) == (attachment.node, attachment.device)
            if same and other.volume != attachment.volume:
                self.enforce(other.volume)

    def _write(self, device: str, places: Sequence[str], limits: Limits) -> None:
        host = self._host
        if host is None or not throttling.number(device):
            return
        for place in places:
            host.limit(place, device, limits)

    def _note(self, entry: Entry, attachment: Attachment) -> None:
        """Say in the attachment where limits are about to be written; the caller looks again."""
        limited = self.may_hold(attachment, attachment.users)
        noted = replace(attachment, limited=limited).to_json()
        self._store.transact([KeyAtRevision(entry.key, entry.revision)], [Put(entry.key, noted)])
        self._memory.follow(attachment.volume)

    def _attached(self, name: str) -> tuple[Entry, Attachment, Volume] | None:
        """This node's attachment and the record of a volume that is in use here."""
        entry = self._store.get(keys.attachment(name, self._context.node), linearizable=True)
        record = self._store.get(keys.volume(name), linearizable=True)
        if entry is None or record is None:
            return None
        attachment, volume = Attachment.from_json(entry.value), Volume.from_json(record.value)
        if attachment.status != ATTACHED or attachment.id != volume.id:
            return None
        return entry, attachment, volume


def _rates(limits: Limits) -> Limits:
    """Without the weight, which not every device knows."""
    return replace(limits, weight=0)
