"""A volume is taken by force; nodes are emptied, declared dead, forgotten, and come back."""

from contextlib import suppress
from dataclasses import replace

from lab.faults import Scenario
from lab.site import NODE
from libstorage.errors import NoSuchNode
from libstorage.manager import Given, VolumeManager

from .words import KINDS, V, assert_intact, write_marker

OTHER = "node2"


def scenarios() -> list[Scenario]:
    """All of this group."""
    return [
        *(_forced(kind) for kind in ("directory", "ext4", "ram")),
        _drained(),
        _fenced(),
        _back("directory"),
        _forgotten(),
    ]


def _other(manager: VolumeManager) -> VolumeManager:
    """The manager of another node on the same root."""
    config = manager.config
    return VolumeManager(
        replace(
            config,
            node=OTHER,
            run_dir=config.root / f"run-{OTHER}",
            mount_root=config.root / f"mounts-{OTHER}",
        )
    )


def _used_elsewhere(manager: VolumeManager) -> None:
    manager.create(V, Given(**KINDS["directory"]))
    write_marker(manager)
    other = _other(manager)
    other.mount(V)
    other.close()


def _forced(kind: str) -> Scenario:
    def used(manager: VolumeManager) -> None:
        manager.create(V, Given(**KINDS[kind]))
        write_marker(manager)
        manager.mount(V, id="web")
        manager.mount(V, id="job")

    def forced(manager: VolumeManager) -> None:
        manager.cluster.force_detach(V, NODE)

    def whole(manager: VolumeManager) -> None:
        assert_intact(manager)
        forced(manager)
        assert not manager.info(V)[0]["Containers"]

    return Scenario(f"force_detach-{kind}", used, forced, whole)


def _drained() -> Scenario:
    def used(manager: VolumeManager) -> None:
        manager.create(V, Given(**KINDS["ext4"]))
        write_marker(manager)
        manager.mount(V)

    def drained(manager: VolumeManager) -> None:
        manager.cluster.drain(NODE, force=True)

    def whole(manager: VolumeManager) -> None:
        drained(manager)
        assert not manager.info(V)[0]["Containers"]
        manager.cluster.undrain(NODE)
        assert_intact(manager)

    return Scenario("drain", used, drained, whole)


def _fenced() -> Scenario:
    def fenced(manager: VolumeManager) -> None:
        manager.cluster.fence(OTHER, confirmed=True)

    def released(manager: VolumeManager) -> None:
        fenced(manager)
        assert not manager.info(V)[0]["Containers"]
        _come_back(manager)
        assert_intact(manager)

    return Scenario("fence", _used_elsewhere, fenced, released)


def _come_back(manager: VolumeManager) -> None:
    other = _other(manager)
    assert not [f for f in other.doctor(fix=True) if f["Fixed"] is False]
    other.close()
    assert not [row for row in manager.nodes() if "Fenced" in row]


def _back(kind: str) -> Scenario:
    """The node itself is the one that was fenced."""

    def was_fenced(manager: VolumeManager) -> None:
        manager.create(V, Given(**KINDS[kind]))
        write_marker(manager)
        manager.mount(V)
        manager.close()
        other = _other(manager)
        other.cluster.fence(NODE, confirmed=True)
        other.close()

    def back(manager: VolumeManager) -> None:
        manager.doctor(fix=True)

    def whole(manager: VolumeManager) -> None:
        back(manager)
        assert not [row for row in manager.nodes() if "Fenced" in row]
        assert not manager.info(V)[0]["Containers"]
        assert_intact(manager)

    return Scenario(f"come_back-{kind}", was_fenced, back, whole)


def _forgotten() -> Scenario:
    def held_there(manager: VolumeManager) -> None:
        manager.create("here", Given(**KINDS["directory"]))
        other = _other(manager)
        other.create(V, Given(**KINDS["ext4"]))
        other.snapshot_create(f"{V}@s")
        other.snapshot_clone(f"{V}@s", "clone")
        other.close()

    def forgotten(manager: VolumeManager) -> None:
        with suppress(NoSuchNode):
            manager.cluster.forget(OTHER, force=True)

    def nothing_left(manager: VolumeManager) -> None:
        forgotten(manager)
        assert [record["Name"] for record in manager.ls()] == ["here"]
        assert [row["Name"] for row in manager.nodes()] == [NODE]
        # The node's disk is out of reach for good; here it is ours.
        for folder in ("images", "snapshots"):
            for file in (manager.config.root / folder).iterdir():
                file.unlink()

    return Scenario("forget_node", held_there, forgotten, nothing_left)
