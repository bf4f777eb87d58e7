"""
Attachments: each is its own journal, so that a hung mount on one node blocks no other.

The key
    ``attachments/V/<node>`` says that volume V is, or is being, made present on that node, and who
    uses it there. It exists before the host is touched and until the host is clean again.

The order
    * mount, first user: *claim* (one transaction: the record at the revision read, no operation,
      no attachment of ours, and of what only one node may have none at all -> ``attaching`` with
      owner and token) -> attach and mount -> one transaction: ``attached`` with its user, and the
      event.
    * further users, and unmount of all but the last: one transaction on the attachment at the
      revision read. So a mount and the last unmount can never both succeed.
    * unmount, last user: he goes and ``attached`` -> ``detaching`` in one transaction that also
      compares *no operation on V* -> unmount and detach -> one transaction: the attachment goes,
      with the event. An operation never keeps a user from going: then he goes alone, and the
      detach follows when the operation is over; if that outlasts the limit, the attachment stays
      without users for the next call or doctor.

Why a crash between any two lines is harmless
    Whoever meets ``attaching`` or ``detaching`` of a dead owner ends its children, takes the
    attachment over (``detaching``, own token, at the revision read), takes from the host whatever
    was made (found by the volume's Id and the mount point) and drops the attachment. One of an
    older boot needs no host work: its mounts went with the boot.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..controllers.contract import Serves, Source, Volatile
from ..errors import (
    BackendError,
    Damaged,
    LibstorageError,
    MountBusy,
    StoreUnavailable,
    Superseded,
)
from ..host import mounts
from ..host.commands import Work
from ..records import (
    ATTACHED,
    ATTACHING,
    DAMAGED,
    DETACHING,
    JSON,
    OK,
    Attachment,
    User,
    Volume,
    now,
)
from ..store.contract import (
    Compare,
    Delete,
    Entry,
    KeyAbsent,
    KeyAtRevision,
    PrefixEmpty,
    Put,
    Write,
)
from . import keys, presence
from .context import Context, Deadline
from .edits import Edits
from .events import Events
from .journal import POLL
from .limiter import Limiter
from .memory import AttachmentMemory
from .nodes import Nodes
from .owners import Owners

HOST_SECONDS = 110.0
"""For the host's part of a mount: the engine gives up on one after 120 s."""

_TAKEN_OVER = (
    "The mount of {} was taken over by a recovery because this process seemed dead; see the events"
)


Found = tuple[Entry, Attachment]


class Attachments:
    """This node's attachments: claimed, made, given up, and cleared after a crash."""

    def __init__(
        self, context: Context, owners: Owners, edits: Edits, events: Events, limiter: Limiter
    ) -> None:
        self._context = context
        self._store = context.store
        self._memory = AttachmentMemory(context)
        self._nodes = Nodes(context)
        self._owners = owners
        self.edits = edits
        self._events = events
        self.limiter = limiter

    def point(self, name: str) -> Path:
        """Where a volume is mounted on this node."""
        return self._context.config.mount_root / name

    def here(self, name: str) -> Found | None:
        """This node's attachment of a volume."""
        entry = self._store.get(keys.attachment(name, self._context.node), linearizable=True)
        return None if entry is None else (entry, Attachment.from_json(entry.value))

    def mounted_at(self, name: str) -> Path | None:
        """Where the volume really is mounted on this node."""
        found = self.here(name)
        if found is None or not self.shown(found[1]):
            return None
        return Path(found[1].mountpoint)

    def everywhere(self, name: str) -> list[Attachment]:
        """The attachments of a volume on all nodes."""
        return [Attachment.from_json(v) for v in self._store.values(keys.attachments(name))]

    def shown(self, attachment: Attachment) -> bool:
        """Does this node's mount table agree that the volume is attached?"""
        return presence.shown(attachment.device, Path(attachment.mountpoint))

    def served(self, volume: Volume) -> bool:
        """Does what this node has attached still reach its storage?"""
        controller = self._context.controller(volume)
        return not isinstance(controller, Serves) or controller.serves(volume.id)

    def give_up(self, volume: Volume) -> None:
        """Where it does not: whoever waits for its storage gets an error, at once."""
        controller = self._context.controller(volume)
        if isinstance(controller, Serves):
            controller.give_up(Work(), volume.id)

    def many_nodes(self, volume: Volume) -> bool:
        """May the volume be attached on several nodes at once?"""
        return volume.shared and self._context.controller(volume).node_local(volume)

    def settled(
        self, name: str, volume: Volume, deadline: Deadline, *, recover: bool
    ) -> Found | None:
        """
        This node's attachment once nobody attaches or detaches it; None where there is none.

        recover
            A dead owner's, or an older boot's, is released; otherwise it is judged as if it were.
        """
        while (found := self.here(name)) is not None:
            entry, attachment = found
            if attachment.boot_id != self._context.seen_boot_id():
                if not recover:
                    return None
                self._forget(entry, attachment)
            elif attachment.status == ATTACHED:
                return found
            elif not self._owners.dead(attachment):
                pid = attachment.process.get("pid", "?")
                deadline.check(
                    f"{name} is {attachment.status} by process {pid} on {attachment.node}; "
                    f"wait for it, or see operations"
                )
                self._context.await_change(entry, min(POLL, deadline.left()))
            elif recover:
                self._release(entry, attachment, volume)
            elif attachment.users:
                # Its mount had vanished and was being made again: the users stay, mounted or not.
                return entry, replace(_at_rest(attachment), device="")
            else:
                return None
        return None

    def unmoved(self, volume: Volume, settled: Found | None) -> Compare:
        """That nobody has begun to attach or detach since; an operation then keeps all from it."""
        if settled is not None:
            return KeyAtRevision(settled[0].key, settled[0].revision)
        if self.many_nodes(volume):
            return KeyAbsent(keys.attachment(volume.name, self._context.node))
        return PrefixEmpty(keys.attachments(volume.name))

    def _forget(self, entry: Entry, attachment: Attachment) -> None:
        """What an older boot had attached went with it, but for the bare mount point."""
        now = self._store.get(entry.key, linearizable=True)
        if now is not None and now.revision == entry.revision:
            mounts.remove_point(Path(attachment.mountpoint))
            self._write(entry, [Delete(entry.key)])

    # -- attach -------------------------------------------------------------------------------

    def claim(self, entry: Entry, volume: Volume, user: User) -> Entry | None:
        """
        Claim the volume, as ``entry`` shows it, for this node; None where something is there.

        user
            Who comes with it: the limits that a volume has are written to his cgroup.
        """
        name, node = volume.name, self._context.node
        if self._overtaken(name, self.point(name), 0):
            return None
        attachment = Attachment(
            volume=name,
            node=node,
            id=volume.id,
            status=ATTACHING,
            boot_id=self._context.boot_id(),
            mountpoint=str(self.point(name)),
            shared=volume.shared,
            limited=self.limiter.cgroups((user,)) if volume.qos_state else (),
            **self._owners.claim(),
        )
        key, data = keys.attachment(name, node), keys.data(name, node)
        compares: list[Compare] = [
            KeyAtRevision(entry.key, entry.revision),
            KeyAbsent(keys.operation(name)),
            KeyAbsent(key),
            *self._nodes.open(),
        ]
        if not self.many_nodes(volume):
            compares.append(PrefixEmpty(keys.attachments(name)))
        writes: list[Write] = []
        local = self._context.controller(volume).node_local(volume)
        if local and self._store.get(data) is None:
            writes.append(Put(data, {"id": volume.id, "made": False}))
        return self._take(key, attachment, compares, writes)

    def claim_again(
        self, entry: Entry, attachment: Attachment, compares: Sequence[Compare] = ()
    ) -> Entry | None:
        """The mount has vanished from under its users: claim it to mount once more."""
        if self._overtaken(attachment.volume, Path(attachment.mountpoint), entry.revision):
            return None
        again = replace(attachment, status=ATTACHING, **self._owners.claim())
        free = KeyAbsent(keys.operation(attachment.volume))
        unmoved = KeyAtRevision(entry.key, entry.revision)
        return self._take(entry.key, again, [unmoved, free, self._nodes.unfenced(), *compares])

    def _overtaken(self, name: str, point: Path, revision: int) -> bool:
        """Was somebody else faster? Raises BackendError where a foreign mount is in the way."""
        try:
            presence.need_free(point)
        except BackendError:
            found = self.here(name)
            if (found[0].revision if found else 0) != revision or mounts.at(point) is None:
                return True
            raise
        return False

    def attach(self, claimed: Entry, volume: Volume, user: User | None, by: JSON) -> None:
        """
        The host's part of a mount, and its commit; where it fails, the claim is taken back.

        user
            Who comes with it; None where a vanished mount is only restored.
        """
        attachment = Attachment.from_json(claimed.value)
        work = Work(attachment.token, HOST_SECONDS)
        controller = self._context.controller(volume)
        # Where its mount has vanished, its device has gone to others.
        self.limiter.lift(attachment)
        try:
            emptied = self._make_data(work, volume)

            def note(source: Source) -> None:
                """Who takes over from a dead node must know whom to shut out."""
                nonlocal claimed, attachment
                if source.client:
                    attachment = replace(attachment, client=source.client)
                    claimed = self._note(claimed, attachment)

            point = self.point(volume.name)
            device = presence.present(work, controller, volume, point, note)
            attachment = replace(attachment, device=device)
            if attachment.limited:
                # Limits stay on a device: who clears up after us must know which it was.
                claimed = self._note(claimed, attachment)
            self.limiter.begin(attachment, volume)
            writes: list[Write] = [self._accessed(volume.name)]
            users = attachment.users
            if user is not None:
                same = attachment.user(user.engine, user.id)
                users = (*(u for u in users if u is not same), user)
                writes.append(self._events.success(volume.name, "mount", by, **told(user)))
            if emptied:
                writes.append(self._events.success(volume.name, "empty", by, cause=emptied))
            if controller.node_local(volume):
                data = {"id": volume.id, "made": True, "boot_id": attachment.boot_id}
                writes.append(Put(keys.data(volume.name, self._context.node), data))
            rest = replace(_at_rest(attachment), users=users)
            if not self._write(claimed, [Put(claimed.key, rest.to_json()), *writes]):
                raise Superseded(_TAKEN_OVER.format(volume.name))
        except Superseded:
            raise
        except BaseException as exc:
            self._back_out(claimed, attachment, volume, exc)
            raise
        finally:
            self._owners.working.discard(attachment.token)
        self._memory.follow(volume.name)
        # Whoever has changed limits meanwhile has seen no attachment to change them on.
        self.limiter.enforce(volume.name)
        if volume.state != OK:
            self.edits.mark(volume, OK)

    def _note(self, claimed: Entry, attachment: Attachment) -> Entry:
        """Write what is known of an attachment that is being made."""
        value = attachment.to_json()
        compare = KeyAtRevision(claimed.key, claimed.revision)
        revision = self._store.transact([compare], [Put(claimed.key, value)])
        if revision is None:
            raise Superseded(_TAKEN_OVER.format(attachment.volume))
        return Entry(claimed.key, value, revision)

    def _make_data(self, work: Work, volume: Volume) -> str:
        """
        This node's own data set, made at the first mount here.

        Returns what has emptied memory that was made before ("" mostly). Other data that were made
        and are gone are never made anew.
        """
        controller = self._context.controller(volume)
        if not controller.node_local(volume):
            return ""
        entry = self._store.get(keys.data(volume.name, self._context.node))
        data = entry.value if entry else {}
        made, there = data.get("made"), controller.exists(volume)
        volatile = isinstance(controller, Volatile) and controller.volatile(volume)
        if made and not there and not volatile:
            raise BackendError(
                f"The data of {volume.name} on {self._context.node} are gone; restore them, or "
                f"remove the volume and create it anew"
            )
        if not (made and there):
            controller.create(work, volume)
        if not made:
            controller.put_copy(volume, self._context.cluster)
        if not made or there:
            return ""
        same_boot = data.get("boot_id") == self._context.boot_id()
        return "somebody who unmounted its memory" if same_boot else "reboot"

    def _back_out(
        self, claimed: Entry, attachment: Attachment, volume: Volume, exc: BaseException
    ) -> None:
        """Take the claim back, unless the store is away: the commit may have been made."""
        if isinstance(exc, StoreUnavailable):
            exc.add_note("What it had begun is ended by the next call or doctor")
            return
        try:
            self._clear(claimed, attachment, volume)
            if isinstance(exc, Damaged):
                self.edits.mark(volume, DAMAGED)
        except LibstorageError as second:
            exc.add_note(f"What it had begun is taken back by the next call or doctor: {second}")

    # -- detach -------------------------------------------------------------------------------

    def detach(self, entry: Entry, attachment: Attachment, volume: Volume, leaving: JSON) -> bool:
        """
        ``attached`` without remaining users -> ``detaching`` -> gone.

        leaving
            The last user's record and ``by``, for the event; {} where he has gone before. By
            force: ``forced``, who used it, and ``by``; then held files keep nothing mounted.

        Returns False where the attachment has moved on or an operation is on the volume. Raises
        MountBusy, with the volume attached as before but without users, where it is held.
        """
        going = replace(
            attachment, status=DETACHING, users=(), leaving=leaving, **self._owners.claim()
        )
        compares: list[Compare] = [
            KeyAtRevision(entry.key, entry.revision),
            KeyAbsent(keys.operation(volume.name)),
        ]
        taken = self._take(entry.key, going, compares)
        if taken is None:
            return False
        try:
            self._clear(taken, going, volume)
        except MountBusy:
            self._write(taken, [Put(taken.key, _at_rest(going).to_json())])
            self.limiter.enforce(volume.name)
            raise
        finally:
            self._owners.working.discard(going.token)
        return True

    def tidy(self, volume: Volume, deadline: Deadline) -> None:
        """Release this node's attachment where nobody uses it any more; what is held stays."""
        found = self.settled(volume.name, volume, deadline, recover=True)
        if found and not found[1].users:
            self.detach(*found, volume, {})

    def _release(self, entry: Entry, attachment: Attachment, volume: Volume) -> None:
        """Take over a dead owner's half-made or half-gone attachment and clear it."""
        self._owners.bury(attachment)
        taking = replace(attachment, status=DETACHING, **self._owners.claim())
        taken = self._take(entry.key, taking, [KeyAtRevision(entry.key, entry.revision)])
        if taken is None:
            return
        try:
            self._clear(taken, taking, volume)
        except MountBusy:
            self._write(taken, [Put(taken.key, _at_rest(taking).to_json())])
            self.limiter.enforce(volume.name)
        finally:
            self._owners.working.discard(taking.token)

    def _clear(self, entry: Entry, attachment: Attachment, volume: Volume) -> None:
        """Take the volume away from this host, then drop the attachment that carries our token."""
        work = Work(attachment.token, HOST_SECONDS)
        controller = self._context.controller(volume)
        self.limiter.lift(attachment)
        forced = "forced" in attachment.leaving
        point = Path(attachment.mountpoint)
        presence.take_away(work, controller, volume, point, lazy=forced)
        if attachment.users:
            # It was to be mounted again: its users still believe in it, so it stays theirs.
            self._write(entry, [Put(entry.key, _at_rest(attachment).to_json())])
            return
        writes: list[Write] = [Delete(entry.key)]
        if attachment.leaving:
            writes += [self._accessed(volume.name), self._left(attachment)]
        self._write(entry, writes)
        self._memory.follow(volume.name)

    def _left(self, attachment: Attachment) -> Put:
        """The event of the last user's leave."""
        name, leaving = attachment.volume, dict(attachment.leaving)
        by = leaving.pop("by", {})
        if "forced" in leaving:
            who = {"on": attachment.node, "users": leaving["forced"]}
            return self._events.success(name, "force_detach", by, **who)
        return self._events.success(name, "unmount", by, **told(User.from_json(leaving)))

    # -- transactions -------------------------------------------------------------------------

    def _take(
        self,
        key: str,
        attachment: Attachment,
        compares: Sequence[Compare],
        writes: Sequence[Write] = (),
    ) -> Entry | None:
        """Write an attachment that carries our token; None where a compare did not hold."""
        # Working on it before it can be seen: another thread must not take it for abandoned.
        self._owners.working.add(attachment.token)
        revision = None
        try:
            revision = self._store.transact(compares, [Put(key, attachment.to_json()), *writes])
        finally:
            if revision is None:
                self._owners.working.discard(attachment.token)
        return None if revision is None else Entry(key, attachment.to_json(), revision)

    def _write(
        self, entry: Entry, writes: Sequence[Write], compares: Sequence[Compare] = ()
    ) -> bool:
        """Write at the revision of ``entry``; False where it has moved on."""
        unmoved = KeyAtRevision(entry.key, entry.revision)
        return self._store.transact([unmoved, *compares], writes) is not None

    def change_users(
        self,
        entry: Entry,
        attachment: Attachment,
        users: tuple[User, ...],
        event: Put,
        compares: Sequence[Compare] = (),
    ) -> bool:
        """
        Another set of users, with the event of the change.

        Returns False where the attachment has moved on, or another compare did not hold.
        """
        changed = replace(attachment, users=users)
        if attachment.limited:
            changed = replace(changed, limited=self.limiter.may_hold(attachment, users))
        writes = [Put(entry.key, changed.to_json()), self._accessed(attachment.volume), event]
        done = self._write(entry, writes, compares)
        if done:
            self._memory.follow(attachment.volume)
            if changed.limited:
                self.limiter.enforce(attachment.volume)
        return done

    def tie(self, name: str, engine: str, id: str, container: str) -> bool:
        """Say which container a user here stands for; False where there is no such user."""
        while (found := self.here(name)) is not None:
            entry, attachment = found
            user = attachment.user(engine, id)
            if user is None or user.container == container:
                return user is not None
            users = tuple(
                replace(u, container=container) if u is user else u for u in attachment.users
            )
            if self._write(entry, [Put(entry.key, replace(attachment, users=users).to_json())]):
                self._memory.follow(name)
                return True
        return False

    def _accessed(self, name: str) -> Put:
        return Put(keys.access(name), {"volume": name, "at": now()})


def _at_rest(attachment: Attachment) -> Attachment:
    """Attached, with nobody working on it."""
    return replace(attachment, status=ATTACHED, owner="", token="", process={}, leaving={})


def told(user: User) -> JSON:
    """What an event tells of a user."""
    data = {"engine": user.engine, "id": user.id}
    return {**data, "container": user.container} if user.container else data
