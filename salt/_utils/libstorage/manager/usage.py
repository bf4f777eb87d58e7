"""The verb usage: the room that a volume's files take, also of a volume that is not mounted."""

from pathlib import Path

from ..controllers.contract import Measures
from ..errors import BackendError, VolumeInUse
from ..host import usage as host_usage
from ..host.commands import Work
from ..records import JSON, RAW, Volume
from ..store.contract import KeyAbsent, KeyAtRevision, PrefixEmpty
from . import keys
from .context import Deadline
from .journal import Held, Journal, Rule, undo
from .verbs import Verbs


class Usage(Verbs):
    """
    Reads sizes on this node.

    Of a mounted volume, and of data that lie open on the host, nothing is written. An image that
    is not mounted is looked at read-only under an operation, so that nobody mounts it meanwhile.
    """

    def _tell_rules(self, journal: Journal) -> None:
        journal.rule("usage", Rule(recover=self._recover))

    def read(self, name: str, *, summary: bool, by: JSON, deadline: Deadline) -> JSON:
        """
        The usage of one volume: ``{"Name", "Usage": [{"file", "size"}], "Size", "Err", "Node"}``.

        Raises NoSuchVolume, NotHere; a backend's failure stands in ``Err``.
        """
        _, volume = self._lookup.known(name, deadline)
        self._need_here(volume, "ask")
        self._need_where_attached(volume, "ask")
        answer: JSON = {
            "Name": name,
            "Usage": [],
            "Size": f"{volume.mb_size}M",
            "Err": "",
            "Node": self._context.node,
        }
        try:
            answer["Usage"] = self._entries(volume, summary, by, deadline)
        except BackendError as exc:
            answer["Err"] = str(exc)
        return answer

    def _entries(
        self, volume: Volume, summary: bool, by: JSON, deadline: Deadline
    ) -> list[dict[str, str]]:
        controller = self._context.controller(volume)
        point = self._attachments.point(volume.name)
        if volume.fstype == RAW and isinstance(controller, Measures):
            size = host_usage.human(controller.allocated(volume))
            return [{"file": "total", "size": size}]
        while True:
            found = self._attachments.here(volume.name)
            if found and found[1].device and self._attachments.shown(found[1]):
                work = Work(seconds=deadline.left())
                return host_usage.below(work, point, point, summary=summary)
            if controller.node_local(volume):
                work = Work(seconds=deadline.left())
                path = controller.inspect(work, volume)
                return self._below(work, path, point, summary)
            held = self._begin(volume, by, deadline)
            if held is not None:
                return self._look(held, volume, point, summary)
            deadline.check(f"{volume.name} changes faster than this call can look; try again")

    def _below(
        self, work: Work, path: Path | None, point: Path, summary: bool
    ) -> list[dict[str, str]]:
        if path is None:
            return [{"file": "total", "size": "0"}]
        return host_usage.below(work, path, point, summary=summary)

    def _begin(self, volume: Volume, by: JSON, deadline: Deadline) -> Held | None:
        found = self._lookup.settled(volume.name, deadline, recover=True)
        if found is None:
            return None
        entry, record = found
        settled = self._attachments.settled(record.name, record, deadline, recover=True)
        if settled and settled[1].users and not self._attachments.shown(settled[1]):
            raise VolumeInUse(
                f"{record.name} is attached but its mount is gone; run doctor fix=True"
            )
        if settled:
            self._attachments.tidy(record, deadline)
        return self._journal.begin(
            record.name,
            "usage",
            record.to_json(),
            by,
            [
                KeyAtRevision(entry.key, entry.revision),
                KeyAbsent(keys.attachment(record.name, self._context.node)),
                PrefixEmpty(keys.attachments(record.name)),
            ],
            step="inspect",
        )

    def _look(self, held: Held, volume: Volume, point: Path, summary: bool) -> list[dict[str, str]]:
        controller = self._context.controller(volume)
        try:
            path = controller.inspect(held.work, volume)
            entries = self._below(held.work, path, point, summary)
        except BaseException as exc:
            undo(held, lambda: controller.end_inspection(held.work, volume.id), exc)
            raise
        try:
            controller.end_inspection(held.work, volume.id)
            held.commit()
        finally:
            held.let_go()
        return entries

    def _recover(self, held: Held) -> None:
        volume = Volume.from_json(held.record.arguments)
        self._context.controller(volume).end_inspection(held.work, volume.id)
        held.commit()
