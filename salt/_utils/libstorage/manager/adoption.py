"""The verb adopt: what others have made in the storage becomes a volume, with the data it has."""

import uuid

from ..controllers.contract import Adopts, Wish
from ..errors import Superseded, Unsupported, VolumeExists
from ..records import JSON, Volume, now
from ..store.contract import KeyAbsent, Put, Write
from . import keys
from .context import Deadline
from .journal import Held, Journal, Rule, undo
from .verbs import Verbs

LABEL = "adopted"
"""Says what a volume was before: who asks again is told that it is done."""


class Adoption(Verbs):
    """
    Makes volumes of what is there.

    The object gets the volume's Id for a name. What dies before the commit is undone: it has the
    name back that it had.
    """

    def _tell_rules(self, journal: Journal) -> None:
        journal.rule("adopt", Rule(recover=self._recover))

    def adopt(
        self, name: str, object: str, policy: str, *, by: JSON, deadline: Deadline, test: bool
    ) -> tuple[Volume, bool]:
        """
        Make a volume of ``object``, as the storage behind ``policy`` names it.

        Returns its record and whether anything changed: it may have been adopted before. Raises
        VolumeExists; Unsupported where the storage cannot; InvalidInput, with the way out, for what
        cannot become a volume; VolumeInUse while somebody has it open.
        """
        while True:
            found = self._lookup.settled(name, deadline, recover=not test)
            if found is not None:
                if found[1].labels.get(LABEL) == object:
                    return found[1], False
                raise VolumeExists(f"Volume exists: {name}; adopt {object} under another name")
            able = self._ability(policy)
            volume = self._wanted(name, object, policy, able)
            if test:
                return volume, True
            arguments = {**volume.to_json(), "Object": object}
            free = [KeyAbsent(keys.volume(name))]
            held = self._journal.begin(name, "adopt", arguments, by, free, "adopt")
            if held is not None:
                self._take(held, able, volume, object)
                return volume, True
            deadline.check(f"{name} changes faster than this call can adopt it; try again")

    def _ability(self, policy: str) -> Adopts:
        controller = self._context.controllers.of_policy(policy)
        if not isinstance(controller, Adopts):
            raise Unsupported(f"{controller.name} adopts nothing: create a volume, and copy to it")
        return controller

    def _wanted(self, name: str, object: str, policy: str, able: Adopts) -> Volume:
        found = able.adoptable(object)
        wish = Wish(policy=policy, fstype=found.fstype, mb_size=found.mb_size)
        shape = self._context.controllers.of_policy(policy).normalise(wish)
        return Volume(
            name=name,
            voltype=shape.voltype,
            created_by=self._context.node,
            created_at=now(),
            policy=policy,
            fstype=shape.fstype,
            mb_size=shape.mb_size,
            auto_migrate=shape.auto_migrate,
            shared=shape.shared,
            options=shape.options,
            labels={LABEL: object},
            id=str(uuid.uuid4()),
            node="",
        )

    def _take(self, held: Held, able: Adopts, volume: Volume, object: str) -> None:
        try:
            able.adopt(held.work, object, volume)
            self._context.controller(volume).put_copy(volume, self._context.cluster)
            key = keys.volume(volume.name)
            done = self._events.success(volume.name, "adopt", held.record.by, object=object)
            writes: list[Write] = [Put(key, volume.to_json()), done]
            held.commit(lambda: ([KeyAbsent(key)], writes))
        except Superseded:
            raise
        except BaseException as exc:
            undo(held, lambda: able.disown(held.work, object, volume.id), exc)
            raise

    def _recover(self, held: Held) -> None:
        arguments = {k: v for k, v in held.record.arguments.items() if k != "Object"}
        volume, object = Volume.from_json(arguments), held.record.arguments["Object"]
        held.undo()
        self._ability(volume.policy).disown(held.work, object, volume.id)
        failed = self._events.failure(
            volume.name,
            "adopt",
            held.record.by,
            "its process ended before it was done",
            object=object,
        )
        held.commit(lambda: ([], [failed]))
