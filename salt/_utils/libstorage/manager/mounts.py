"""The verbs mount and unmount: users come and go, the first attaches, the last detaches."""

from contextlib import suppress
from dataclasses import dataclass, replace

from ..errors import Damaged, InvalidInput, NoSuchVolume, NotHere, VolumeInUse
from ..host import throttling
from ..records import COUNTED, JSON, Attachment, User, Volume
from ..store.contract import Entry
from .attachments import Attachments, told
from .context import Context, Deadline
from .events import Events
from .journal import Journal
from .lookup import Lookup
from .offline import Offline
from .verbs import Verbs


@dataclass(frozen=True, slots=True)
class Presence:
    """
    A volume's presence on this node after a mount or unmount.

    changed
        Whether the call changed anything (``test``: would change).
    mountpoint
        "" where it is not mounted.
    users
        As ``who@node``.
    """

    changed: bool
    mountpoint: str
    users: tuple[str, ...]


class Mounts(Verbs):
    """Who uses a volume on this node."""

    def __init__(
        self,
        context: Context,
        journal: Journal,
        lookup: Lookup,
        attachments: Attachments,
        events: Events,
        offline: Offline,
    ) -> None:
        super().__init__(context, journal, lookup, attachments, events)
        self._offline = offline

    def catch_up(self, name: str, *, by: JSON, deadline: Deadline) -> None:
        """Tell the store who came and went while it was away."""
        with self._offline.telling(name) as notes:
            for note in notes:
                user = User.from_json(note["User"])
                found = self._attachments.here(name)
                held = found[1].user(user.engine, user.id) if found else None
                # Where the store has another count, it has heard of it, or of what came later.
                if (held.count if held else 0) != note["Was"]:
                    continue
                with suppress(NoSuchVolume, VolumeInUse):
                    if note["Is"] > note["Was"]:
                        self.mount(name, user, by=by, deadline=deadline, test=False)
                    else:
                        self.unmount(
                            name, user.engine, user.id, by=by, deadline=deadline, test=False
                        )

    def mount(self, name: str, user: User, *, by: JSON, deadline: Deadline, test: bool) -> Presence:
        """
        Make a volume present on this node for a user.

        A user that is a set member and there already changes nothing.
        """
        self._context.need_mount_namespace()
        while True:
            entry, volume = self._find(name, deadline, test=test)
            self._check_node(volume)
            self._check_cgroup(user)
            found = self._attachments.settled(name, volume, deadline, recover=not test)
            if found is None:
                changed = self._come_first(entry, volume, user, by, deadline, test=test)
            else:
                changed = self._come(*found, volume, user, by, test=test)
            if changed is not None:
                if not test:
                    return self._presence(name, changed)
                users = found[1].users if found else ()
                return self._as_if(name, changed, _with(users, user) if changed else users)
            self._nodes.need_open()
            self._journal.settle(name, deadline)
            deadline.check(f"{name} changes faster than this call can mount it; try again")

    def unmount(
        self, name: str, engine: str, id: str, *, by: JSON, deadline: Deadline, test: bool
    ) -> Presence:
        """
        Take one user off a volume on this node; the last one out detaches it.

        Raises MountBusy, naming the holder, where the last user is out and a process still works
        in the volume.
        """
        self._context.need_mount_namespace()
        while True:
            _, volume = self._find(name, deadline, test=test)
            found = self._attachments.settled(name, volume, deadline, recover=not test)
            if found is None:
                return self._as_if(name, False, ())
            user = found[1].user(engine, id)
            if user is None and found[1].users:
                return self._as_if(name, False, found[1].users, self._attachments.shown(found[1]))
            if test:
                users, shown = _without(found[1].users, user), self._attachments.shown(found[1])
                return self._as_if(name, True, users, shown)
            if self._leave(*found, volume, user, by, deadline):
                return self._presence(name, True)
            deadline.check(f"{name} changes faster than this call can unmount it; try again")

    def _presence(self, name: str, changed: bool) -> Presence:
        found = self._attachments.here(name)
        if found is None:
            return self._as_if(name, changed, ())
        return self._as_if(name, changed, found[1].users, self._attachments.shown(found[1]))

    def _as_if(
        self, name: str, changed: bool, users: tuple[User, ...], shown: bool = True
    ) -> Presence:
        """What the volume's presence is, or would be, with these users; ``shown``: and mounted."""
        point = str(self._attachments.point(name)) if users and shown else ""
        node = self._context.node
        return Presence(changed, point, tuple(f"{user.who}@{node}" for user in users))

    def _find(self, name: str, deadline: Deadline, *, test: bool) -> tuple[Entry, Volume]:
        if not test:
            return self._lookup.known(name, deadline, recover=True)
        found = self._lookup.settled(name, deadline, recover=False)
        if found is None:
            raise NoSuchVolume(name)
        return found

    def _check_node(self, volume: Volume) -> None:
        if volume.node and volume.node != self._context.node:
            raise NotHere(
                f"{volume.name} has its data on {volume.node}; mount it there, not on "
                f"{self._context.node}"
            )

    def _check_cgroup(self, user: User) -> None:
        if not user.cgroup:
            return
        if not throttling.check(user.cgroup):
            raise InvalidInput(f"Not a cgroup: {user.cgroup[:60]!r}; write a path such as /docker")
        if not self._attachments.limiter.knows(user.cgroup):
            raise NotHere(
                f"{self._context.node} has no cgroup {user.cgroup} for block I/O; make it first, "
                f"or leave cgroup out"
            )

    def _come_first(
        self,
        entry: Entry,
        volume: Volume,
        user: User,
        by: JSON,
        deadline: Deadline,
        *,
        test: bool,
    ) -> bool | None:
        """The first user on this node; None where something was in the way: look again."""
        elsewhere = [
            attachment
            for attachment in self._attachments.everywhere(volume.name)
            if attachment.node != self._context.node
        ]
        if not self._attachments.many_nodes(volume):
            refuse_if_attached(elsewhere)
        if test:
            self._nodes.need_open()
            return True
        claimed = self._attachments.claim(entry, volume, user)
        if claimed is None:
            return None
        self._attachments.attach(claimed, volume, user, by)
        return True

    def _come(
        self,
        entry: Entry,
        attachment: Attachment,
        volume: Volume,
        user: User,
        by: JSON,
        *,
        test: bool,
    ) -> bool | None:
        """A user more on what is attached; None where it has moved on meanwhile: look again."""
        mine = attachment.user(user.engine, user.id)
        if mine is not None:
            user = mine.renewed(user)
        shown = self._attachments.shown(attachment)
        same = mine is not None and mine.cgroup == user.cgroup
        if same and user.engine not in COUNTED and shown:
            return False
        if mine is None and attachment.users and not volume.shared:
            refuse_if_attached([attachment])
        if shown and not self._attachments.served(volume):
            used = ", ".join(f"{u.who}@{attachment.node}" for u in attachment.users)
            raise Damaged(
                f"What served {volume.name} on {attachment.node} has died; unmount it everywhere "
                f"(it is used by {used or 'nobody'}), then mount it again"
            )
        if test:
            self._nodes.need_open()
            return True
        if not shown:
            again = self._attachments.claim_again(entry, attachment, self._nodes.open())
            if again is None:
                return None
            coming = _with(attachment.users, user)[-1]
            self._attachments.attach(again, volume, coming, by)
            return True
        event = self._events.success(volume.name, "mount", by, **told(user))
        users = _with(attachment.users, user)
        came = self._attachments.change_users(entry, attachment, users, event, self._nodes.open())
        return came or None

    def _leave(
        self,
        entry: Entry,
        attachment: Attachment,
        volume: Volume,
        user: User | None,
        by: JSON,
        deadline: Deadline,
    ) -> bool:
        """One user goes; False where the attachment has moved on meanwhile: look again."""
        users = _without(attachment.users, user)
        if not users:
            leaving = {**user.to_json(), "by": by} if user else {}
            if self._attachments.detach(entry, attachment, volume, leaving):
                return True
            if self._journal.find(volume.name) is None:
                return False
        if user is not None:
            event = self._events.success(volume.name, "unmount", by, **told(user))
            if not self._attachments.change_users(entry, attachment, users, event):
                return False
        if not users:
            # An operation is on the volume: the detach waits for it, the user did not have to.
            self._journal.settle(volume.name, deadline)
            self._attachments.tidy(volume, deadline)
        return True


def _with(users: tuple[User, ...], user: User) -> tuple[User, ...]:
    """The users with one more mount by ``user``, who comes last."""
    same = next((u for u in users if (u.engine, u.id) == (user.engine, user.id)), None)
    if same is not None and user.engine in COUNTED:
        user = replace(user, count=same.count + 1)
    return (*(u for u in users if u is not same), user)


def _without(users: tuple[User, ...], user: User | None) -> tuple[User, ...]:
    """The users with one mount less by ``user``."""
    rest = tuple(u for u in users if u is not user)
    if user is not None and user.count > 1:
        rest = (*rest, replace(user, count=user.count - 1))
    return rest


def refuse_if_attached(attachments: list[Attachment]) -> None:
    """Raise VolumeInUse, naming the users, where there are attachments."""
    users = [f"{user.who}@{a.node}" for a in attachments for user in a.users]
    if attachments:
        where = users or [f"{a.status}@{a.node}" for a in attachments]
        raise VolumeInUse(f"Volume in use by {', '.join(where)}")
