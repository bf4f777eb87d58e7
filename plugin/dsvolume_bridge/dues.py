"""
How many mounts of a volume the users of one engine should have, as its containers are.

Docker names a mount by an ID, and does not say whose it is. So an ID is tied to its container as
soon as that is known, by the engine's event or by inference; an inference may be wrong while
several containers start at once. Hence what counts comes first: the containers that run have so
many mounts, and as many IDs are kept for them, the newest first; a wrong tie is mended so. Any
other ID:

* a young one is kept: its container may not run yet;
* tied to a container that is gone: it goes;
* tied to one to which nothing is being done, no start and no copy: it goes. An engine answers no
  question about a container while it does something to it, so who is told of it after a mount knows
  that this mount is over, or the container runs;
* where Docker never heard that its mount was granted: it goes;
* tied to none: it goes when the engine is another instance than at its mount, or after a while; and
  where the bridge of its mount was killed, as soon as nothing is being done to any container of the
  volume: its unmount may have been lost.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .begun import NEVER, Begun
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
    killed
        When the last bridge was killed with calls that it may not have read.
    """

    now: datetime
    instance: datetime
    unanswered: Begun | frozenset[str] = frozenset()
    killed: datetime = NEVER

    def sure(self, user: User) -> bool:
        """Does the engine know of all mounts of this ID that were granted?"""
        return user.at > self.instance and user.id not in self.unanswered

    def passing(self, user: User) -> bool:
        """May it be somebody's of whom nothing is known, such as a container's in the making?"""
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


def asked_about(
    user: User, containers: Mapping[str, Container], moment: Moment, held: Mapping[str, str]
) -> set[str]:
    """
    The containers to which something may be being done that a user's mounts are for.

    held
        As ``kept`` has told.
    """
    if user.id in held:
        # A copy from a running container is a mount more.
        found = {held[user.id]} if user.count > 1 else set()
    elif moment.young(user):
        found = set()
    elif user.container:
        found = {user.container}
    elif user.at < moment.killed:
        found = {id for id, one in containers.items() if one.volumes[user.volume]}
    else:
        found = set()
    return found & set(containers)


def due(
    user: User, container: Container | None, moment: Moment, *, held: bool, left_alone: bool
) -> int:
    """
    How many mounts a user should have.

    container
        The one that it is tied to, where that is there.
    held
        It is kept for a container that runs.
    left_alone
        Nothing is being done to those that were asked about.
    """
    if held:
        return user.count if moment.sure(user) and not left_alone else 1
    if not moment.sure(user):
        return 0
    if moment.young(user):
        return user.count
    if user.container:
        over = container is None or left_alone
    else:
        over = not moment.passing(user) or (left_alone and user.at < moment.killed)
    return 0 if over else user.count
