"""The verb resize: a volume becomes larger, mounted or not; smaller never."""

from dataclasses import replace

from ..controllers.contract import Grows
from ..errors import InvalidInput, LibstorageError, NoSuchVolume, Superseded, Unsupported
from ..records import JSON, Volume
from ..store.contract import Compare, KeyAtRevision, Put, Write
from . import keys
from .context import Deadline
from .given import MAX_SIZE
from .journal import Held, Journal, Rule
from .limiter import LIMIT
from .verbs import Verbs


class Growth(Verbs):
    """
    Grows volumes.

    What has begun is finished by recovery. Only where this host cannot do it as the volume is now
    (a kernel that lets no mounted ext4 grow) the controller takes it back, and the volume stays
    as it was.
    """

    def _tell_rules(self, journal: Journal) -> None:
        journal.rule("resize", Rule(recover=self._recover))

    def resize(
        self, name: str, mb_size: int, *, by: JSON, deadline: Deadline, test: bool
    ) -> tuple[Volume, bool]:
        """
        Make a volume ``mb_size`` MB large.

        Returns its record and whether anything changed. Raises InvalidInput for less than it has,
        Unsupported where it cannot grow (as it is now), NoSpace.
        """
        if not 1 <= mb_size <= MAX_SIZE:
            raise InvalidInput(f"size must be a number of MB from 1 up, not {mb_size}")
        while True:
            found = self._lookup.settled(name, deadline, recover=not test)
            if found is None:
                raise NoSuchVolume(name)
            entry, volume = found
            self._need_here(volume, "resize", test=test)
            self._need_where_attached(volume, "resize", test=test)
            able = self._ability(volume)
            if mb_size < volume.mb_size:
                raise InvalidInput(
                    f"{name} cannot be made smaller: size {volume.mb_size}, asked {mb_size}"
                )
            grown = replace(volume, mb_size=mb_size, revision=volume.revision + 1)
            if mb_size == volume.mb_size:
                return volume, False
            able.check_growth(volume, mb_size)
            # What a dead process half mounted is released first.
            here = self._attachments.settled(name, volume, deadline, recover=not test)
            if test:
                return grown, True
            arguments = {
                "Volume": volume.to_json(),
                "Size": mb_size,
                "Node": volume.node,
                "Id": volume.id,
            }
            unmoved = self._attachments.unmoved(volume, here)
            free = [KeyAtRevision(entry.key, entry.revision), unmoved]
            held = self._journal.begin(name, "resize", arguments, by, free, "grow")
            if held is not None:
                return self._grow(held), True
            deadline.check(f"{name} changes faster than this call can resize it; try again")

    def _ability(self, volume: Volume) -> Grows:
        controller = self._context.controller(volume)
        if not isinstance(controller, Grows):
            raise Unsupported(f"{controller.name} cannot resize: {volume.name} keeps its size")
        return controller

    def _grow(self, held: Held) -> Volume:
        try:
            return self._finish(held)
        except Unsupported:
            # The controller has taken it back.
            self._end_unchanged(held)
            raise
        except LibstorageError as exc:
            if not isinstance(exc, Superseded):
                exc.add_note(f"The resize of {held.volume} goes on at the next call or doctor")
            raise
        finally:
            held.let_go()

    def _finish(self, held: Held) -> Volume:
        was = Volume.from_json(held.record.arguments["Volume"])
        mb_size = int(held.record.arguments["Size"])
        point = self._attachments.mounted_at(was.name)
        with self._attachments.limiter.resting(was.name, held.step):
            self._ability(was).grow(held.work, was, mb_size, point)
        grown: list[Volume] = []

        def done() -> tuple[list[Compare], list[Write]]:
            key = keys.volume(was.name)
            entry = self._store.get(key, linearizable=True)
            if entry is None:
                return [], []  # a recovery has finished it: the operation is not ours any more
            record = Volume.from_json(entry.value)
            record = replace(record, mb_size=mb_size, revision=record.revision + 1)
            grown[:] = [record]
            event = self._events.success(was.name, "resize", held.record.by, size=mb_size)
            return [KeyAtRevision(key, entry.revision)], [Put(key, record.to_json()), event]

        held.commit(done)
        # As after every edit: it may lag, and who finds the volume removed takes it back.
        self._attachments.edits.copy(grown[0])
        return grown[0]

    def _end_unchanged(self, held: Held, *writes: Write) -> None:
        held.step(LIMIT)
        self._attachments.limiter.catch_up(held.volume)
        held.commit(lambda: ([], writes))

    def _recover(self, held: Held) -> None:
        try:
            self._finish(held)
        except Unsupported as exc:
            failed = self._events.failure(held.volume, "resize", held.record.by, str(exc))
            self._end_unchanged(held, failed)
