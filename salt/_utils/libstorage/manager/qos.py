"""
The verbs on QoS: profiles, which volumes they limit, and the global switch.

What the records say is changed first, in one transaction each; then this node's limits follow (see
``limiter.py``). A process that dies in between has changed the records: the next call of the same
verb, or the doctor, brings the limits after.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from ..errors import InvalidInput, ProfileExists, ProfileInUse
from ..limits import read_limits
from ..records import JSON, Attachment, Profile, Volume, check_name
from . import keys
from .context import Context, Deadline
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
from .requests import Request, Requests

GLOBAL = "global"
"""Stands for all volumes, where an event or a job names one."""

Begin = Callable[[str, float | None], Deadline]


class QoS:
    """
    Limits on volumes' I/O.

    The arguments ``by``, ``timeout``, ``test`` and ``request`` are those of the volume manager's
    other verbs, and so are the errors. Limits are ``read_iops``, ``write_iops`` (operations per
    second), ``read_bw``, ``write_bw`` (bytes per second; 0 is no limit) and ``weight``.
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

    def create(
        self,
        name: str,
        limits: Mapping[str, object],
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
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

        return self._change("qos_create", name, asked, change, by, timeout, test, request)

    def edit(
        self,
        name: str,
        limits: Mapping[str, object],
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
        """
        Change limits of a profile; those that are not named stay. Volumes follow at once.

        Returns ``{"Profile": record, "Changed": bool}``. Raises NoSuchProfile.
        """
        asked = read_limits(limits)
        if not asked:
            raise InvalidInput("qos edit needs a limit, such as read_bw=10000")

        def change(was: Profile | None) -> Profile:
            return replace(was or self._profiles.known(name), **asked)

        answer = self._change("qos_edit", name, asked, change, by, timeout, test, request)
        if not test:
            self._follow(lambda volume: (volume.qos_profile or DEFAULT) == name)
        return answer

    def rm(
        self,
        name: str,
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> JSON:
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

        return self._change("qos_rm", name, {}, change, by, timeout, test, request)

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
        by: JSON | None,
        timeout: float | None,
        test: bool,
        request: Request | None,
    ) -> JSON:
        check_name(name, "profile")
        deadline = self._begin(name, timeout)

        def act() -> JSON:
            with self._events.refusals(name, verb, by or {}, test=test):
                was = self._profiles.find(name)
                becomes = change(was)
                changed = becomes != was
                if changed and not test:
                    event = self._events.success(name, verb, by or {}, **arguments)
                    changed = self._profiles.change(name, change, event, deadline)
                    becomes = self._profiles.find(name) if becomes else None
            profile = becomes or was
            return {"Profile": profile.to_json() if profile else {}, "Changed": changed}

        return self._requests.once(None if test else request, verb, name, arguments, deadline, act)

    # -- volumes ------------------------------------------------------------------------------

    def apply(
        self,
        profile: str,
        names: Sequence[str],
        *,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> list[JSON]:
        """
        Give volumes a profile. It limits them where QoS is enabled for them, and globally.

        Returns their records as they are, or under ``test`` would be. Raises NoSuchProfile,
        NoSuchVolume; Unsupported for a volume that cannot be limited.
        """
        check_name(profile, "profile")
        if not names:
            raise InvalidInput("qos apply needs a volume")
        told = {"profile": profile}
        self._profiles.known(profile)
        self._check("qos_apply", names, told, by, timeout, test)

        def edit(name: str, deadline: Deadline) -> Volume:
            return self._edits.qos(
                name,
                "qos_apply",
                {"qos_profile": profile},
                by=by or {},
                deadline=deadline,
                test=test,
                beside=lambda: self._profiles.unmoved(profile),
            )

        return self._each("qos_apply", names, told, edit, by, timeout, test, request)

    def enable(
        self,
        names: Sequence[str],
        *,
        everywhere: bool = False,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> list[JSON]:
        """
        Let volumes be limited by their profiles.

        everywhere
            Switch QoS on globally too; ``names`` may then be empty.

        Returns as apply.
        """
        return self._switch(True, names, everywhere, by, timeout, test, request)

    def disable(
        self,
        names: Sequence[str],
        *,
        everywhere: bool = False,
        by: JSON | None = None,
        timeout: float | None = None,
        test: bool = False,
        request: Request | None = None,
    ) -> list[JSON]:
        """Let volumes be limited no more; the rest as enable."""
        return self._switch(False, names, everywhere, by, timeout, test, request)

    def _switch(
        self,
        on: bool,
        names: Sequence[str],
        everywhere: bool,
        by: JSON | None,
        timeout: float | None,
        test: bool,
        request: Request | None,
    ) -> list[JSON]:
        verb = "qos_enable" if on else "qos_disable"
        if not names and not everywhere:
            raise InvalidInput(f"{verb.replace('_', ' ')} needs a volume, or global=True")
        self._check(verb, names, {}, by, timeout, test)
        if everywhere and not test:
            self._switch_all(on, by, timeout, request)

        def edit(name: str, deadline: Deadline) -> Volume:
            return self._edits.qos(
                name, verb, {"qos_state": on}, by=by or {}, deadline=deadline, test=test
            )

        return self._each(verb, names, {}, edit, by, timeout, test, request)

    def _switch_all(
        self, on: bool, by: JSON | None, timeout: float | None, request: Request | None
    ) -> None:
        verb = "qos_enable_all" if on else "qos_disable_all"
        deadline = self._begin(GLOBAL, timeout)

        def act() -> JSON:
            event = self._events.success(GLOBAL, verb, by or {})
            return {"Changed": self._profiles.switch(on, event, deadline)}

        self._requests.once(request, verb, GLOBAL, {}, deadline, act)
        self._follow(lambda volume: volume.qos_state)

    def _each(
        self,
        verb: str,
        names: Sequence[str],
        told: JSON,
        edit: Callable[[str, Deadline], Volume],
        by: JSON | None,
        timeout: float | None,
        test: bool,
        request: Request | None,
    ) -> list[JSON]:
        return [
            self._one(verb, name, told, edit, by, timeout, test, request)
            for name in dict.fromkeys(names)
        ]

    def _one(
        self,
        verb: str,
        name: str,
        told: JSON,
        edit: Callable[[str, Deadline], Volume],
        by: JSON | None,
        timeout: float | None,
        test: bool,
        request: Request | None,
    ) -> JSON:
        deadline = self._begin(name, timeout)

        def act() -> JSON:
            with self._events.refusals(name, verb, by or {}, test=test, **told):
                return edit(name, deadline).to_json()

        record = self._requests.once(None if test else request, verb, name, told, deadline, act)
        if not test:
            self._limiter.enforce(name)
        return record

    def _check(
        self,
        verb: str,
        names: Iterable[str],
        told: JSON,
        by: JSON | None,
        timeout: float | None,
        test: bool,
    ) -> None:
        """All of several volumes can be limited, before the first is touched."""
        for name in names:
            deadline = self._begin(name, timeout)
            with self._events.refusals(name, verb, by or {}, test=test, **told):
                volume = self._lookup.known(name, deadline)[1]
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
