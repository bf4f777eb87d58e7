"""Volumes go into the trash, come back from it, or go for good."""

from contextlib import suppress
from dataclasses import replace

from lab.faults import Scenario
from lab.site import KEEPS_TRASH
from libstorage.errors import NotInTrash, VolumeExists
from libstorage.manager import Given, VolumeManager

from .recovery import recovery
from .words import KINDS, TRASHED, V, assert_intact, write_marker


def scenarios() -> list[Scenario]:
    """All of this group."""
    found = [scenario for kind in TRASHED for scenario in _with_trash(kind)]
    victims = ("rm_into_trash-ext4", "undelete_renamed-directory", "purge-ram")
    dying = [recovery(scenario) for scenario in found if scenario.name in victims]
    return [*found, *_clone_with_trash("ext4"), *dying]


def _with_trash(kind: str) -> list[Scenario]:
    """The ways into the trash and out of it; what has been removed is whole, there or back."""
    given = Given(**KINDS[kind])

    def written(manager: VolumeManager) -> None:
        manager.create(V, given)
        if kind != "secure":
            write_marker(manager)

    def removed(manager: VolumeManager) -> None:
        written(manager)
        manager.rm(V)

    def back(manager: VolumeManager, new: str = V) -> None:
        with suppress(NotInTrash, VolumeExists):
            manager.undelete(V, new=new)

    def whole(manager: VolumeManager) -> None:
        """It is once, in the trash or out of it, and the copy beside the data says the same."""
        assert not [finding for finding in manager.doctor() if finding["Kind"] == "copy"]
        rows = manager.trash_ls()
        assert len(manager.ls()) + len(rows) == 1
        for row in rows:
            manager.undelete(row["Name"])
        [record] = manager.ls()
        assert_intact(manager, name=record["Name"])

    def whole_or_gone(manager: VolumeManager) -> None:
        if manager.ls() or manager.trash_ls():
            whole(manager)

    def purge(manager: VolumeManager) -> None:
        manager.rm(V, purge=True)

    scenarios = [
        Scenario(f"rm_into_trash-{kind}", written, lambda m: m.rm(V), whole),
        Scenario(f"undelete-{kind}", removed, back, whole),
        Scenario(f"undelete_renamed-{kind}", removed, lambda m: back(m, "new"), whole),
        Scenario(f"purge-{kind}", removed, purge, whole_or_gone),
    ]
    return [replace(scenario, settings={"trash": KEEPS_TRASH}) for scenario in scenarios]


def _clone_with_trash(kind: str) -> list[Scenario]:
    """A clone goes into the trash and comes back: its parent always knows its children."""
    snapshot, clone = f"{V}@s", "clone"

    def cloned(manager: VolumeManager) -> None:
        manager.create(V, Given(**KINDS[kind]))
        write_marker(manager)
        manager.snapshot_create(snapshot)
        manager.snapshot_clone(snapshot, clone)

    def removed(manager: VolumeManager) -> None:
        cloned(manager)
        manager.rm(clone)

    def back(manager: VolumeManager) -> None:
        with suppress(NotInTrash, VolumeExists):
            manager.undelete(clone)

    def a_child_or_in_the_trash(manager: VolumeManager) -> None:
        names = [record["Name"] for record in manager.ls() if record["Name"] != V]
        assert manager.snapshot_info(snapshot)[0]["Children"] == names
        assert len(names) + len(manager.trash_ls()) == 1
        back(manager)
        assert manager.snapshot_info(snapshot)[0]["Children"] == [clone]
        assert_intact(manager, name=clone)

    acts = (("rm", cloned, lambda m: m.rm(clone)), ("undelete", removed, back))
    settings = {"trash": KEEPS_TRASH}
    return [
        Scenario(f"{verb}_clone_with_trash-{kind}", before, act, a_child_or_in_the_trash, settings)
        for verb, before, act in acts
    ]
