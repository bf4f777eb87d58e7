"""
The profiles and the global switch of QoS: what the store holds, without the volumes.

``qos/global`` holds the switch and a Revision that grows with every change of it or of a profile:
their copies beside the data are compared by it. ``default`` is there before anybody wrote it.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

from ..controllers.contract import Controller, Throttles
from ..errors import LibstorageError, NoSuchProfile, Unsupported
from ..records import JSON, Profile, Volume, check_name
from ..store.contract import Compare, Delete, Entry, KeyAbsent, KeyAtRevision, Put, Write
from . import keys
from .context import Context, Deadline

DEFAULT = "default"
DEFAULT_PROFILE = Profile(
    name=DEFAULT, read_iops=200, read_bw=20000, write_iops=100, write_bw=10000, weight=600
)
NEW_PROFILE = Profile(
    name="", read_iops=100, read_bw=10000, write_iops=100, write_bw=10000, weight=500
)
"""What a new profile has where nothing is said."""

COPY_TRIES = 20

Change = Callable[[Profile | None], Profile | None]
"""A profile as it is (None: there is none) -> as it shall be (None: gone)."""


class Profiles:
    """Reads and changes profiles and the switch."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    # -- read ---------------------------------------------------------------------------------

    def enabled(self) -> bool:
        """The global switch; it is on until somebody switches it off."""
        entry = self._store.get(keys.QOS_GLOBAL, linearizable=True)
        return bool(entry.value["Enabled"]) if entry else True

    def find(self, name: str) -> Profile | None:
        entry = self._store.get(keys.profile(name), linearizable=True)
        if entry is not None:
            return Profile.from_json(entry.value)
        return DEFAULT_PROFILE if name == DEFAULT else None

    def known(self, name: str) -> Profile:
        """Raises NoSuchProfile."""
        found = self.find(check_name(name, "profile"))
        if found is None:
            there_are = ", ".join(profile.name for profile in self.all())
            raise NoSuchProfile(f"No such QoS profile: {name}; there are {there_are}")
        return found

    def effective(self, name: str) -> Profile:
        """The profile of a volume: its own, or the default where it has none."""
        return self.find(name or DEFAULT) or self.find(DEFAULT) or DEFAULT_PROFILE

    def all(self) -> list[Profile]:
        """All profiles by name, the default first."""
        kept = {v["Name"]: Profile.from_json(v) for v in self._store.values(keys.PROFILES)}
        default = kept.pop(DEFAULT, DEFAULT_PROFILE)
        return [default, *kept.values()]

    # -- change -------------------------------------------------------------------------------

    def unmoved(self, name: str) -> tuple[list[Compare], list[Write]]:
        """
        For a transaction that refers to a profile: it is there, and its removal has to look again.

        The record is written as it is; that alone makes a removal's compare fail. Raises
        NoSuchProfile.
        """
        entry = self._store.get(keys.profile(name), linearizable=True)
        if entry is None:
            self.known(name)  # only the default needs no record
            return [KeyAbsent(keys.profile(name))], []
        return [KeyAtRevision(entry.key, entry.revision)], [Put(entry.key, entry.value)]

    def change(self, name: str, change: Change, event: Put, deadline: Deadline) -> bool:
        """
        Change one profile, with the event, in one transaction; limits and copies follow later.

        change
            Asked again where somebody was faster; may raise.

        Returns False where it is as it shall be already; then nothing is written.
        """
        key = keys.profile(name)
        while True:
            entry = self._store.get(key, linearizable=True)
            was = Profile.from_json(entry.value) if entry else self.find(name)
            becomes = change(was)
            if becomes == was:
                return False
            write: Write = Put(key, becomes.to_json()) if becomes else Delete(key)
            if self._write([_as_read(key, entry)], [write, event], {}):
                return True
            deadline.check(f"QoS profile {name} changes faster than this call; try again")

    def switch(self, on: bool, event: Put, deadline: Deadline) -> bool:
        """Switch QoS on or off for all volumes; False where it is so already."""
        while self.enabled() != on:
            if self._write([], [event], {"Enabled": on}):
                return True
            deadline.check("The QoS profiles change faster than this call can switch; try again")
        return False

    def _write(self, compares: list[Compare], writes: list[Write], switch: JSON) -> bool:
        _ = self._context.cluster
        entry = self._store.get(keys.QOS_GLOBAL, linearizable=True)
        was = entry.value if entry else {"Enabled": True, "Revision": 0}
        now = {**was, **switch, "Revision": was["Revision"] + 1}
        unmoved = _as_read(keys.QOS_GLOBAL, entry)
        done = self._store.transact([unmoved, *compares], [Put(keys.QOS_GLOBAL, now), *writes])
        return done is not None

    # -- copies -------------------------------------------------------------------------------

    def blob(self) -> JSON | None:
        """All that a copy holds; None while nobody has changed anything."""
        entry = self._store.get(keys.QOS_GLOBAL, linearizable=True)
        if entry is None:
            return None
        return {
            **entry.value,
            "Cluster": self._context.cluster,
            "Profiles": list(self._store.values(keys.PROFILES)),
        }

    def copy(self) -> None:
        """Bring the copies beside the data up to date; where that fails they lag."""
        for controller in self._throttling():
            with suppress(LibstorageError):
                self._copy_to(controller)

    def _copy_to(self, controller: Throttles) -> None:
        for _ in range(COPY_TRIES):
            blob = self.blob()
            if blob is None or controller.profiles() == blob:
                return
            controller.put_profiles(blob)

    def copied(self) -> bool:
        """Are the copies as they should be?"""
        blob = self.blob()
        return blob is None or all(c.profiles() == blob for c in self._throttling())

    def restore(self, cluster: str) -> list[str]:
        """Make a lost store's profiles anew; the highest Revision wins. Returns their names."""
        blobs = [blob for c in self._throttling() if (blob := c.profiles()) is not None]
        blobs = [blob for blob in blobs if blob["Cluster"] == cluster]
        if not blobs:
            return []
        newest = dict(max(blobs, key=lambda blob: int(blob["Revision"])))
        del newest["Cluster"]
        profiles = newest.pop("Profiles")
        for profile in profiles:
            key = keys.profile(profile["Name"])
            self._store.transact([KeyAbsent(key)], [Put(key, profile)])
        self._store.transact([KeyAbsent(keys.QOS_GLOBAL)], [Put(keys.QOS_GLOBAL, newest)])
        return [profile["Name"] for profile in profiles]

    def _throttling(self) -> list[Throttles]:
        return [c for c in self._context.controllers.all() if isinstance(c, Throttles)]


def need_limits(controller: Controller, volume: Volume) -> None:
    """Raise Unsupported where a volume's I/O cannot be limited."""
    if not isinstance(controller, Throttles):
        raise Unsupported(
            f"{controller.name} cannot limit I/O: {volume.name} is on no device; limit volumes "
            f"that are"
        )
    controller.need_limits(volume)


def _as_read(key: str, entry: Entry | None) -> Compare:
    return KeyAtRevision(key, entry.revision) if entry else KeyAbsent(key)


def differing(profile: Profile, limits: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """The limits that a profile has otherwise: word -> (has, asked)."""
    return {
        word: (getattr(profile, word), asked)
        for word, asked in limits.items()
        if getattr(profile, word) != asked
    }
