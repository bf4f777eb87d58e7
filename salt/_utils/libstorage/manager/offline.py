"""
Mounts and unmounts of an engine while the store is away.

An engine cannot wait: it starts a container with a volume that is mounted here already, or tells
that one has gone. Both are answered from what this node remembers (``memory.py``), noted in
``<run_dir>/offline/<volume>.json`` before that, and told to the store when it is back: by the next
mount or unmount of that volume, by the agent, or by the doctor.

Nothing is mounted or unmounted meanwhile. Each note says how many mounts the user had (``Was``) and
has (``Is``), so that a note whose change the store has heard of after all changes nothing more.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..errors import VolumeInUse
from ..host import files
from ..records import ATTACHED, COUNTED, JSON, Attachment, User, now
from . import presence
from .context import Context
from .memory import AttachmentMemory

Notes = list[JSON]


class Offline:
    """This node's notes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._memory = AttachmentMemory(context)
        self._folder = context.config.run_dir / "offline"

    # -- while the store is away --------------------------------------------------------------

    def come(self, name: str, user: User) -> Attachment | None:
        """
        Grant a mount of what is mounted here.

        Returns the attachment as it would be; None where it is not mounted here. Raises
        VolumeInUse.
        """
        return self._note(name, user, 1)

    def go(self, name: str, engine: str, id: str) -> Attachment | None:
        """Note that a user has gone; None where nothing is known of the volume here."""
        return self._note(name, User(engine=engine, id=id, at=now()), -1)

    def _note(self, name: str, user: User, change: int) -> Attachment | None:
        with self._locked(name):
            notes = self._read(name)
            attachment = self._remembered(name, notes)
            if attachment is None:
                return None
            mine = attachment.user(user.engine, user.id)
            was = mine.count if mine else 0
            user = mine.renewed(user) if mine else user
            if change > 0 and was and user.engine not in COUNTED:
                return attachment
            if change > 0 and attachment.users and mine is None and not attachment.shared:
                who = ", ".join(f"{u.who}@{attachment.node}" for u in attachment.users)
                raise VolumeInUse(f"Volume in use by {who}")
            if was + change < 0:
                return attachment
            notes.append({"User": user.to_json(), "Was": was, "Is": was + change})
            boot = self._context.seen_boot_id()
            files.write_json(self._path(name), {"Volume": name, "BootId": boot, "Notes": notes})
            return self._remembered(name, notes)

    def _remembered(self, name: str, notes: Notes) -> Attachment | None:
        """This node's attachment as it last was, and what was noted since; None: not mounted."""
        held = self._memory.recall(name)
        if held is None or held["Status"] != ATTACHED:
            return None
        attachment = Attachment.from_json(held)
        if not presence.shown(attachment.device, Path(attachment.mountpoint)):
            return None
        for note in notes:
            user = replace(User.from_json(note["User"]), count=note["Is"])
            others = tuple(u for u in attachment.users if (u.engine, u.id) != _key(user))
            attachment = replace(attachment, users=(*others, user) if note["Is"] else others)
        return attachment

    # -- when it is back ----------------------------------------------------------------------

    def names(self) -> list[str]:
        """The volumes of which something is noted."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    @contextmanager
    def telling(self, name: str) -> Iterator[Notes]:
        """Within, nobody notes more of the volume; then the notes are gone, if all went well."""
        if not self._path(name).exists():
            yield []
            return
        with self._locked(name):
            yield self._read(name)
            files.remove(self._path(name))

    def attachments(self, name: str = "", *, refresh: bool = False) -> list[JSON]:
        """
        This node's attachments as they last were, with what was noted since.

        name
            Only this volume's.
        refresh
            Read the store first.
        """
        if refresh:
            self._memory.refresh()
        names = [name] if name else self._memory.names()
        found = (self._remembered(name, self._read(name)) for name in names)
        return [attachment.to_json() for attachment in found if attachment is not None]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _read(self, name: str) -> Notes:
        """Those of this boot: who was there before it has gone with it."""
        held = files.read_json(self._path(name)) or {}
        return list(held["Notes"]) if held.get("BootId") == self._context.seen_boot_id() else []

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        files.make_directory(self._folder, 0o700)
        with open(self._folder / f".{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _key(user: User) -> tuple[str, str]:
    return user.engine, user.id
