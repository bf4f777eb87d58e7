"""Volumes in a Ceph come, are used, kept, cloned, grown and go."""

import subprocess
from contextlib import suppress
from typing import Any

from lab.faults import Act, Scenario
from libstorage.errors import NoSuchSnapshot, Unsupported, VolumeExists
from libstorage.manager import Given, VolumeManager

from .words import V, assert_intact, write_marker

WISH = Given(policy="distributed", fstype="ext4", mb_size=16)
GROWN = 32
NEW = "new"


def scenarios(settings: dict[str, Any]) -> list[Scenario]:
    """Every verb, on an ext4; ``settings`` say where the Ceph is."""

    def nothing(manager: VolumeManager) -> None:
        """No volume beforehand."""

    def create(manager: VolumeManager) -> None:
        manager.create(V, WISH)

    def written(manager: VolumeManager) -> None:
        create(manager)
        write_marker(manager)

    def used(manager: VolumeManager) -> None:
        written(manager)
        manager.mount(V, id="a")

    def kept(manager: VolumeManager) -> None:
        written(manager)
        manager.snapshot_create(f"{V}@s")

    def intact_or_absent(manager: VolumeManager) -> None:
        if any(record["Name"] == V for record in manager.ls()):
            write_marker(manager)
            assert_intact(manager)

    def intact(manager: VolumeManager) -> None:
        assert_intact(manager)
        for name in [record["Name"] for record in manager.ls()]:
            if name == NEW:
                manager.mount(NEW)
                manager.unmount(NEW)
                manager.rm(NEW)
        for snapshot in manager.snapshot_ls(V):
            manager.rollback(f"{V}@{snapshot['Name']}")
            assert_intact(manager)
            manager.snapshot_rm(f"{V}@{snapshot['Name']}")

    def one(name: str, prepare: Act, act: Act, check: Act) -> Scenario:
        return Scenario(f"ceph-{name}", prepare, act, check, settings)

    def keep(manager: VolumeManager) -> None:
        with suppress(VolumeExists):
            manager.snapshot_create(f"{V}@s")

    def drop(manager: VolumeManager) -> None:
        with suppress(NoSuchSnapshot):
            manager.snapshot_rm(f"{V}@s")

    def grow(manager: VolumeManager) -> None:
        with suppress(Unsupported):  # of a mounted ext4, by some kernels
            manager.resize(V, GROWN)

    def intact_when_left(manager: VolumeManager) -> None:
        assert_intact(manager)
        manager.unmount(V, id="a")
        intact(manager)

    return [
        one("create", nothing, create, intact_or_absent),
        one("mount", written, lambda m: m.mount(V, id="a"), intact),
        one("unmount", used, lambda m: m.unmount(V, id="a"), intact),
        one("rm", written, lambda m: m.rm(V), intact_or_absent),
        one("snapshot_create", written, keep, intact),
        one("snapshot_create_mounted", used, keep, intact_when_left),
        one("snapshot_rm", kept, drop, intact),
        one("rollback", kept, lambda m: m.rollback(f"{V}@s"), intact),
        one("clone", kept, lambda m: m.snapshot_clone(f"{V}@s", NEW), intact),
        one("adopt", *_adoption(settings, written)),
        one("flatten", *_flattening(kept, intact)),
        one("resize", written, grow, intact),
        one("resize_mounted", used, grow, intact_when_left),
        one("usage", written, lambda m: m.usage(V), intact),
    ]


def _flattening(kept: Act, intact: Act) -> tuple[Act, Act, Act]:
    """A clone no longer needs its snapshot: before, meanwhile, after."""

    def cloned(manager: VolumeManager) -> None:
        kept(manager)
        manager.snapshot_clone(f"{V}@s", NEW)

    def flatten(manager: VolumeManager) -> None:
        manager.flatten(NEW)

    def flat(manager: VolumeManager) -> None:
        """Once more, it is done; then the snapshot can go."""
        flatten(manager)
        [snapshot] = manager.snapshot_ls(V)
        assert snapshot["Children"] == []
        manager.snapshot_rm(f"{V}@s")
        intact(manager)

    return cloned, flatten, flat


def _adoption(settings: dict[str, Any], written: Act) -> tuple[Act, Act, Act]:
    """An image that others have made becomes a volume: before, meanwhile, after."""
    place = settings.get("ceph", {})
    theirs = f"{place.get('pool')}/{place.get('namespace')}/theirs"

    def rbd(*words: str) -> None:
        client = ("rbd", f"--conf={place['conf']}", f"--name=client.{place['client']}")
        subprocess.run([*client, *words], check=True)

    def foreign(manager: VolumeManager) -> None:
        written(manager)
        rbd("cp", "--no-progress", theirs.replace("theirs", manager.info(V)[0]["Id"]), theirs)
        rbd("image-meta", "remove", theirs, "dsvolume.copy")
        manager.rm(V, purge=True)

    def adopt(manager: VolumeManager) -> None:
        manager.adopt(V, theirs)

    def adopted(manager: VolumeManager) -> None:
        """As before, it can be adopted; as asked, it is."""
        adopt(manager)
        assert_intact(manager)

    return foreign, adopt, adopted
