"""The doctor himself meets a fault."""

import functools
import os
from contextlib import suppress

from lab.faults import Scenario, Trap, fork_victim, points_of
from libstorage.errors import LibstorageError
from libstorage.manager import VolumeManager


def recovery(victim: Scenario) -> Scenario:
    """The fault comes while the doctor recovers what a killed verb has left."""

    @functools.cache
    def middle() -> int:
        """In the middle of the verb: after its first command, or half of its points."""
        return len(points_of(victim, "kill")) // 2 + 1

    def left_behind(manager: VolumeManager) -> None:
        victim.prepare(manager)
        pid, pipe = fork_victim(manager.config, victim.act, Trap(middle(), "kill"))
        os.close(pipe)
        os.waitpid(pid, 0)

    def doctor(manager: VolumeManager) -> None:
        with suppress(LibstorageError):
            manager.doctor(fix=True)

    name = f"doctor_after_{victim.name}"
    return Scenario(name, left_behind, doctor, victim.check, victim.settings, victim.shared)
