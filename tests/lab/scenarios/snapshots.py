"""Snapshots, clones, rollback; growth."""

from contextlib import suppress

from lab.faults import Scenario
from libstorage.errors import NoSuchSnapshot, VolumeExists
from libstorage.manager import Given, VolumeManager

from .words import CHANGED, GROWN, KINDS, MARKER, V, assert_intact, read_marker, write_marker


def scenarios() -> list[Scenario]:
    """All of this group."""
    return [
        *(scenario for kind in GROWN for scenario in _on_snapshots(kind)),
        *(_resize(kind) for kind in GROWN),
    ]


def _on_snapshots(kind: str) -> list[Scenario]:
    """The verbs on snapshots: ``v@s`` holds the marker, ``v`` was changed since."""
    given = Given(**KINDS[kind])
    snapshot, clone = f"{V}@s", "clone"

    def written(manager: VolumeManager) -> None:
        manager.create(V, given)
        write_marker(manager)

    def mounted(manager: VolumeManager) -> None:
        written(manager)
        manager.mount(V, id="a")

    def kept(manager: VolumeManager) -> None:
        written(manager)
        manager.snapshot_create(snapshot)

    def changed(manager: VolumeManager) -> None:
        kept(manager)
        write_marker(manager, text=CHANGED)

    def cloned(manager: VolumeManager) -> None:
        kept(manager)
        manager.snapshot_clone(snapshot, clone)

    def keep(manager: VolumeManager) -> None:
        with suppress(VolumeExists):
            manager.snapshot_create(snapshot)

    def drop(manager: VolumeManager) -> None:
        with suppress(NoSuchSnapshot):
            manager.snapshot_rm(snapshot)

    def kept_or_not(manager: VolumeManager) -> None:
        """Nothing is frozen, and what is called a snapshot is one."""
        assert_intact(manager)
        if manager.snapshot_ls(V):
            manager.snapshot_clone(snapshot, clone)
            assert_intact(manager, name=clone)
            manager.rm(clone)
            manager.snapshot_rm(snapshot)

    def before_or_back(manager: VolumeManager) -> None:
        held = read_marker(manager)
        assert held in (MARKER, CHANGED), held
        manager.rollback(snapshot)
        assert_intact(manager)

    def born_or_not(manager: VolumeManager) -> None:
        [record] = manager.snapshot_info(snapshot)
        names = [volume["Name"] for volume in manager.ls() if volume["Name"] != V]
        assert record["Children"] == names
        for name in names:
            assert_intact(manager, name=name)
            manager.rm(name)
        assert manager.snapshot_info(snapshot)[0]["Children"] == []
        manager.rollback(snapshot)
        assert_intact(manager)

    return [
        Scenario(f"snapshot_create-{kind}", written, keep, kept_or_not),
        Scenario(f"snapshot_create_mounted-{kind}", mounted, keep, kept_or_not),
        Scenario(f"snapshot_rm-{kind}", kept, drop, kept_or_not),
        Scenario(f"rollback-{kind}", changed, lambda m: m.rollback(snapshot), before_or_back),
        Scenario(f"clone-{kind}", kept, lambda m: m.snapshot_clone(snapshot, clone), born_or_not),
        Scenario(f"rm_clone-{kind}", cloned, lambda m: m.rm(clone), born_or_not),
    ]


def _resize(kind: str) -> Scenario:
    given, larger = Given(**KINDS[kind]), GROWN[kind]

    def written(manager: VolumeManager) -> None:
        manager.create(V, given)
        write_marker(manager)

    def grown_or_not(manager: VolumeManager) -> None:
        size = manager.info(V)[0]["MBSize"]
        assert size in (given.mb_size, larger)
        assert_intact(manager)
        assert manager.resize(V, larger)["Volume"]["MBSize"] == larger
        assert_intact(manager)

    return Scenario(f"resize-{kind}", written, lambda m: m.resize(V, larger), grown_or_not)
