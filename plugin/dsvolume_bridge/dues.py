"""
How many mounts of a volume the users of one engine should have, as its containers are.

Docker names a mount by an ID, and does not say whose it is. So an ID is tied to its container as
soon as that is known, by the engine's event or by inference; an inference may be wrong while
several containers start at once. Hence what counts comes first: the containers that run have so
many mounts, and as many IDs are kept for them, the newest first; a wrong tie is mended so. Any
other ID:

* a young one is kept: its container may not run yet;
* tied to a container that has ended since, or is gone: it goes;
* where Docker never heard that its mount was granted: it goes;
* else it goes when the engine is another instance than at its mount, or after a while.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .begun import Begun
from .engine import Container

YOUNG = timedelta(seconds=2)
"""A container runs so soon after its mount, mostly; nothing is inferred before."""
UNTIED = timedelta(seconds=130)
"""Docker gives up a mount after 120 s: an ID that nobody uses by then is nobody's."""
RUNS = ("running", "paused")


@dataclass(frozen=True, slots=True)
class User:
    """A user of this engine of a volume that is attached here."""

    volume: str
    id: str
    count: int
    container: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Moment:
    """
    When it is asked.

    instance
        Since when the engine is the one that it is.
    unanswered
        IDs whose mount was granted, but not answered.
    """

    now: datetime
    instance: datetime
    unanswered: Begun | frozenset[str] = frozenset()

    def sure(self, user: User) -> bool:
        """Does the engine know of all mounts of this ID that were granted?"""
        return user.at > self.instance and user.id not in self.unanswered

    def passing(self, user: User) -> bool:
        """May it be in use by what is no running container, a copy or one that starts?"""
        return self.sure(user) and self.now - user.at < UNTIED

    def young(self, user: User) -> bool:
        return self.now - user.at < YOUNG

    def begins(self, user: User) -> bool:
        """May its container be about to run? A killed engine's runs already, or never will."""
        return self.young(user) and self.sure(user)


def kept(
    users: Sequence[User], containers: Mapping[str, Container], moment: Moment
) -> dict[str, str]:
    """
    The IDs that the mounts of running containers are kept for.

    users
        All of one volume.

    Returns each ID's container. An ID that was tied to another one, or to none, is to be tied.
    """
    newest = sorted(users, key=lambda user: user.at, reverse=True)
    open_: Counter[str] = Counter()
    for container in containers.values():
        if container.state in RUNS and users:
            open_[container.id] = container.volumes[users[0].volume]
    found: dict[str, str] = {}
    for user in newest:
        if open_[user.container] > 0:
            open_[user.container] -= 1
            found[user.id] = user.container
    free = [
        user
        for user in newest
        if user.id not in found and not moment.begins(user) and not _starts(user, containers)
    ]
    free.sort(key=lambda user: user.container != "")
    for user, id in zip(free, sorted(open_.elements()), strict=False):
        found[user.id] = id
    return found


def _starts(user: User, containers: Mapping[str, Container]) -> bool:
    """Is its own container one that lives, but does not run (yet)?"""
    own = containers.get(user.container)
    return own is not None and own.lives and own.state not in RUNS


def due(
    user: User, container: Container | None, ended: datetime | None, moment: Moment, *, held: bool
) -> int:
    """
    How many mounts a user should have.

    container, ended
        The one that it is tied to, and when that one last ended.
    held
        It is kept for a container that runs.
    """
    if held:
        # A copy from a running container is a second mount, and may take long.
        return user.count if moment.sure(user) else 1
    if not moment.passing(user):
        return 0
    gone = container is None and user.container != ""
    died = container is not None and not container.lives and ended and ended >= user.at
    return 0 if (gone or died) and not moment.young(user) else user.count
