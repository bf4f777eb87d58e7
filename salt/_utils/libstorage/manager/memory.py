"""
What this node remembers of its attachments beside the store: a file each in ``<run_dir>``.

A store that was lost is made anew from the copies of records that lie with the data; who uses what
is mounted now lies nowhere but here. Like the mounts themselves it goes with the boot.
"""

from pathlib import Path

from ..errors import BackendError
from ..host import files
from ..records import JSON
from . import keys
from .context import Context

_TRIES = 5


class AttachmentMemory:
    """Follows the store; it is a help and no truth, so nothing fails for its sake."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._folder = context.config.run_dir / "attachments"

    def follow(self, name: str) -> None:
        """Bring the file of a volume's attachment up to date."""
        key = keys.attachment(name, self._context.node)
        path = self._folder / f"{name}.json"
        try:
            # Two that follow at the same moment: each looks again whether it wrote the last word.
            for _ in range(_TRIES):
                entry = self._context.store.get(key)
                if entry is None:
                    files.remove(path)
                else:
                    if not self._folder.is_dir():
                        files.make_directory(self._folder, 0o700)
                    files.write_json(path, entry.value, durable=False)
                now = self._context.store.get(key)
                if (now and now.revision) == (entry and entry.revision):
                    return
        except BackendError:
            return

    def refresh(self) -> None:
        """
        Bring all files up to date: who wrote the store may have died before he wrote here.

        Raises StoreUnavailable.
        """
        self._context.need_store(hurried=True)
        if self._context.awaited():
            return  # the store has yet to learn from here
        end = f"/{self._context.node}"
        entries = self._context.store.list(keys.ATTACHMENTS)
        known = {entry.key.split("/")[1] for entry in entries if entry.key.endswith(end)}
        for name in sorted(known.union(self.names())):
            self.follow(name)

    def names(self) -> list[str]:
        """The volumes of which something is remembered."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def recall(self, name: str) -> JSON | None:
        """What is remembered of a volume's attachment in this boot."""
        path: Path = self._folder / f"{name}.json"
        held = files.read_json(path)
        if held is None or held.get("BootId") != self._context.seen_boot_id():
            return None
        return held
