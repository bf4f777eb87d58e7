"""
The verbs on QoS: profiles, which volumes they limit, and the global switch.

What the records say is changed first, in one transaction each; then this node's limits follow (see
``limiter.py``). A process that dies in between has changed the records: the next call of the same
verb, or the doctor, brings the limits after.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Unpack

from ..errors import InvalidInput, ProfileExists, ProfileInUse
from ..limits import read_limits
from ..records import JSON, Attachment, Profile, Volume, check_name
from . import keys
from .calls import Call, Shared, Told
from .context import Context
from .edits import Edits
from .events import Events
from .limiter import Limiter
from .lookup import Lookup
from .profiles import (
    DEFAULT,
    NEW_PROFILE,
    Profiles,
    differing,
    need_limits,
)
from .requests import Requests

GLOBAL = "global"
"""Stands for all volumes, where an event or a job names one."""

Begin = Callable[[str, Call], Told]


class QoS:
    """
    Limits on volumes' I/O.

    The shared arguments and the errors are those of the volume manager's other verbs. Limits are
    ``read_iops``, ``write_iops`` (operations per second), ``read_bw``, ``write_bw`` (bytes per
    second; 0 is no limit) and ``weight``.
    """

    def __init__(
        self,
        context: Context,
        lookup: Lookup,
        edits: Edits,
        events: Events,
        requests: Requests,
        profiles: Profiles,
        limiter: Limiter,
        begin: Begin,
    ) -> None:
        self._context = context
        self._store = context.store
        self._lookup = lookup
        self._edits = edits
        self._events = events
        self._requests = requests
        self._profiles = profiles
        self._limiter = limiter
        self._begin = begin

    # -- profiles -----------------------------------------------------------------------------

    def create(self, name: str, limits: Mapping[str, object], **call: Unpack[Call]) -> JSON:
        """
        Make a profile, or find the one that is as asked.

        Returns ``{"Profile": record, "Changed": bool}``. Raises ProfileExists, naming the
        difference.
        """
        asked = read_limits(limits)

        def change(was: Profile | None) -> Profile:
            if was is None:
                return replace(NEW_PROFILE, name=name, **asked)
            if differences := differing(was, asked):
                said = ", ".join(
                    f"{word} {has}, asked {wanted}" for word, (has, wanted) in differences.items()
                )
                raise ProfileExists(f"QoS profile {name} exists with other limits: {said}; edit it")
            return was

        return self._change("qos_create", name, asked, change, call)

    def edit(self, name: str, limits: Mapping[str, object], **call: Unpack[Call]) -> JSON:
        """
        Change limits of a profile; those that are not named stay. Volumes follow at once.

        Returns ``{"Profile": record, "Changed": bool}``. Raises NoSuchProfile.
        """
        asked = read_limits(limits)
        if not asked:
            raise InvalidInput("qos edit needs a limit, such as read_bw=10000")

        def change(was: Profile | None) -> Profile:
            return replace(was or self._profiles.known(name), **asked)

        return self._change("qos_edit", name, asked, change, call)

    def rm(self, name: str, **call: Unpack[Call]) -> JSON:
        """
        Remove a profile.

        Returns ``{"Profile": the record that was, "Changed": True}``. Raises NoSuchProfile;
        ProfileInUse, naming the volumes, and for the default, which is always there.
        """

        def change(was: Profile | None) -> None:
            self._profiles.known(name)
            if name == DEFAULT:
                raise ProfileInUse(
                    f"QoS profile {DEFAULT} is for the volumes that have no other, and stays; "
                    f"edit it instead"
                )
            if users := self._users_of(name):
                raise ProfileInUse(
                    f"QoS profile {name} is in use by {', '.join(users)}; apply another to them "
                    f"first"
                )

        return self._change("qos_rm", name, {}, change, call)

    def ls(self) -> JSON:
        """The switch and all profiles: ``{"Global": bool, "Profiles": [record]}``."""
        self._context.need_store()
        profiles = [profile.to_json() for profile in self._profiles.all()]
        return {"Global": self._profiles.enabled(), "Profiles": profiles}

    def info(self, *names: str) -> list[JSON]:
        """Profiles with the ``Volumes`` that have them. Raises NoSuchProfile."""
        for name in names:
            check_name(name, "profile")
        self._context.need_store()
        found = [self._profiles.known(name) for name in names]
        return [{**p.to_json(), "Volumes": self._users_of(p.name)} for p in found]

    def _users_of(self, name: str) -> list[str]:
        return [v["Name"] for v in self._store.values(keys.VOLUMES) if v["QoSProfile"] == name]

    def _change(
        self,
        verb: str,
        name: str,
        arguments: JSON,
        change: Callable[[Profile | None], Profile | None],
        call: Call,
    ) -> JSON:
        check_name(name, "profile")
        told = self._begin(name, call)

        def act() -> JSON:
            with self._events.refusals(name, verb, told.by, test=told.test):
                was = self._profiles.find(name)
                becomes = change(was)
                changed = becomes != was
                if changed and not told.test:
                    event = self._events.success(name, verb, told.by, **arguments)
                    changed = self._profiles.change(name, change, event, told.deadline)
                    becomes = self._profiles.find(name) if becomes else None
            profile = becomes or was
            return {"Profile": profile.to_json() if profile else {}, "Changed": changed}

        answer = self._requests.once(told.request, verb, name, arguments, told.deadline, act)
        if not told.test:
            self._after(lambda volume: (volume.qos_profile or DEFAULT) == name)
        return answer

    def _after(self, concerned: Callable[[Volume], bool]) -> None:
        """Limits follow a change at once; then the copies, whose storage may be away."""
        self._follow(concerned)
        self._profiles.copy()

    # -- volumes ------------------------------------------------------------------------------

    def apply(self, profile: str, names: Sequence[str], **call: Unpack[Call]) -> list[JSON]:
        """
        Give volumes a profile. It limits them where QoS is enabled for them, and globally.

        Returns their records as they are, or under ``test`` would be. Raises NoSuchProfile,
        NoSuchVolume; Unsupported for a volume that cannot be limited.
        """
        check_name(profile, "profile")
        if not names:
            raise InvalidInput("qos apply needs a volume")
        arguments = {"profile": profile}
        self._profiles.known(profile)
        self._check("qos_apply", names, arguments, call)

        def edit(name: str, shared: Shared) -> Volume:
            return self._edits.qos(
                name,
                "qos_apply",
                {"qos_profile": profile},
                beside=lambda: self._profiles.unmoved(profile),
                **shared,
            )

        return self._each("qos_apply", names, arguments, edit, call)

    def enable(
        self, names: Sequence[str], *, everywhere: bool = False, **call: Unpack[Call]
    ) -> list[JSON]:
        """
        Let volumes be limited by their profiles.

        everywhere
            Switch QoS on globally too; ``names`` may then be empty.

        Returns as apply.
        """
        return self._switch(True, names, everywhere, call)

    def disable(
        self, names: Sequence[str], *, everywhere: bool = False, **call: Unpack[Call]
    ) -> list[JSON]:
        """Let volumes be limited no more: nothing to do for those that cannot be."""
        return self._switch(False, names, everywhere, call)

    def _switch(self, on: bool, names: Sequence[str], everywhere: bool, call: Call) -> list[JSON]:
        verb = "qos_enable" if on else "qos_disable"
        if not names and not everywhere:
            raise InvalidInput(f"{verb.replace('_', ' ')} needs a volume, or global=True")
        self._check(verb, names, {}, call, limits=on)
        if everywhere and not call.get("test"):
            self._switch_all(on, call)

        def edit(name: str, shared: Shared) -> Volume:
            return self._edits.qos(name, verb, {"qos_state": on}, **shared)

        return self._each(verb, names, {}, edit, call)

    def _switch_all(self, on: bool, call: Call) -> None:
        verb = "qos_enable_all" if on else "qos_disable_all"
        told = self._begin(GLOBAL, call)

        def act() -> JSON:
            event = self._events.success(GLOBAL, verb, told.by)
            return {"Changed": self._profiles.switch(on, event, told.deadline)}

        self._requests.once(told.request, verb, GLOBAL, {}, told.deadline, act)
        self._after(lambda volume: volume.qos_state)

    def _each(
        self,
        verb: str,
        names: Sequence[str],
        arguments: JSON,
        edit: Callable[[str, Shared], Volume],
        call: Call,
    ) -> list[JSON]:
        return [self._one(verb, name, arguments, edit, call) for name in dict.fromkeys(names)]

    def _one(
        self,
        verb: str,
        name: str,
        arguments: JSON,
        edit: Callable[[str, Shared], Volume],
        call: Call,
    ) -> JSON:
        told = self._begin(name, call)

        def act() -> JSON:
            with self._events.refusals(name, verb, told.by, test=told.test, **arguments):
                return edit(name, told.shared).to_json()

        record = self._requests.once(told.request, verb, name, arguments, told.deadline, act)
        if not told.test:
            self._limiter.enforce(name)
        return record

    def _check(
        self, verb: str, names: Iterable[str], arguments: JSON, call: Call, *, limits: bool = True
    ) -> None:
        """All of several volumes are there, and can be limited, before the first is touched."""
        for name in names:
            told = self._begin(name, call)
            with self._events.refusals(name, verb, told.by, test=told.test, **arguments):
                volume = self._lookup.known(name, told.deadline)[1]
                if limits:
                    need_limits(self._context.controller(volume), volume)

    def follow(self, name: str | None = None) -> None:
        """Bring this node's limits after a change by another: of all volumes here, or of one."""
        if name is not None:
            self._limiter.enforce(name)
        else:
            self._follow(lambda volume: volume.qos_state)

    def _follow(self, concerned: Callable[[Volume], bool]) -> None:
        """Bring the limits of the volumes in use here after a change of profiles or switch."""
        for value in list(self._store.values(keys.ATTACHMENTS)):
            attachment = Attachment.from_json(value)
            if attachment.node != self._context.node:
                continue
            found = self._lookup.record(attachment.volume)
            if found is not None and (concerned(found[1]) or attachment.limited):
                self._limiter.enforce(attachment.volume)
