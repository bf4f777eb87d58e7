"""The stories of volumes: local (images and directories), ram, secure."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Step, Story
from benchmarks.place import SIZE, Place, nothing
from libstorage.host import memory
from libstorage.records import FSTYPES

MOUNTED = ("ext4", "xfs")
"""The filesystems whose whole life is measured; of the others the create."""

SECRET = 8 * 2**20  # bytes in a secure volume when it is unmounted

Steps = Iterator[Step]


def stories(place: Place) -> list[Story]:
    """All of them."""
    found = [_image(place, fstype) for fstype in FSTYPES]
    return [*found, _snapshots(place), _directory(place), _ram(place), _secure(place)]


def _image(place: Place, fstype: str) -> Story:
    manager, hand = place.manager, place.hand
    create, mount, unmount, remove, usage = (
        f"local.{verb}_{fstype}" for verb in ("create", "mount", "unmount", "rm", "usage")
    )
    whole = fstype in MOUNTED
    again = "local.mount_again" if fstype == "ext4" else ""
    usage = usage if fstype == "ext4" else ""

    def life(number: int) -> Steps:
        name = f"{fstype}-{number}"
        yield Step(
            create,
            partial(place.create, name, "local", fstype),
            partial(hand.create_image, name, fstype, SIZE),
        )
        if whole:
            yield Step(
                mount,
                partial(manager.mount, name, id="one"),
                partial(hand.mount_image, name, fstype),
            )
            place.check_mounts(name)
            if again:
                yield from _again(place, name, again)
            yield Step(
                unmount, partial(manager.unmount, name, id="one"), partial(hand.unmount_image, name)
            )
            if usage:
                yield Step(usage, partial(manager.usage, name), partial(hand.usage, name, fstype))
        yield Step(
            remove if whole else "", partial(manager.rm, name), partial(hand.remove_image, name)
        )

    names = (create, mount, unmount, remove) if whole else (create,)
    return Story((*names, *filter(None, (again, usage))), lambda: life)


def _again(place: Place, name: str, again: str) -> Steps:
    """A second user comes and goes: nothing happens but in the store."""
    yield Step(
        again,
        partial(place.manager.mount, name, id="two"),
        partial(place.bare.transact, f"again/{name}", place.record),
    )
    yield Step("", partial(place.manager.unmount, name, id="two"), nothing)


def _snapshots(place: Place) -> Story:
    """Of a volume that is not mounted: kept, cloned, brought back, made larger."""
    manager, hand = place.manager, place.hand
    names = tuple(f"local.{verb}" for verb in ("snapshot", "clone", "rollback", "resize"))

    def life(number: int) -> Steps:
        name, clone = f"kept-{number}", f"clone-{number}"
        yield Step(
            "",
            partial(place.create, name, "local", "ext4"),
            partial(hand.create_image, name, "ext4", SIZE),
        )
        yield Step(
            names[0],
            partial(manager.snapshot_create, f"{name}@s"),
            partial(hand.snapshot, name),
        )
        yield Step(
            names[1],
            partial(manager.snapshot_clone, f"{name}@s", clone),
            partial(hand.clone, name, clone),
        )
        yield Step(names[2], partial(manager.rollback, f"{name}@s"), partial(hand.rollback, name))
        yield Step(
            names[3],
            partial(manager.resize, name, 2 * SIZE),
            partial(hand.grow, name, 2 * SIZE),
        )
        yield Step("", partial(manager.rm, clone), partial(hand.remove_image, clone))
        yield Step("", partial(manager.snapshot_rm, f"{name}@s"), partial(hand.forget, name))
        yield Step("", partial(manager.rm, name), partial(hand.remove_image, name))

    return Story(names, lambda: life)


def _directory(place: Place) -> Story:
    return Story(
        ("local.create_directory",),
        lambda: lambda number: _record(place, "local.create_directory", "local", number),
    )


def _record(place: Place, step: str, policy: str, number: int) -> Steps:
    """A volume of which each node makes its own data when it first needs them: only a record."""
    name = f"{policy}-{number}"
    yield Step(
        step,
        partial(place.create, name, policy),
        partial(place.hand.keep_record, place.bare, name),
    )
    yield Step("", partial(place.manager.rm, name), nothing)


def _ram(place: Place) -> Story:
    manager, hand = place.manager, place.hand

    def life(number: int) -> Steps:
        name = f"ram-{number}"
        yield Step(
            "ram.create",
            partial(place.create, name, "ram"),
            partial(hand.keep_record, place.bare, name),
        )
        yield Step(
            "ram.mount", partial(manager.mount, name), partial(hand.mount_memory, name, SIZE)
        )
        place.check_mounts(name)
        yield Step("ram.unmount", partial(manager.unmount, name), partial(hand.unmount, name))
        yield Step("ram.rm", partial(manager.rm, name), partial(hand.remove_memory, name))

    return Story(("ram.create", "ram.mount", "ram.unmount", "ram.rm"), lambda: life)


def _secure(place: Place) -> Story:
    manager, hand = place.manager, place.hand
    flags = f"nosuid,nodev,size={SIZE}m,mode=0700,noexec"
    if memory.knows_noswap():
        flags += ",noswap"

    def life(number: int) -> Steps:
        name = f"secure-{number}"
        yield Step("", partial(place.create, name, "secure"), nothing)
        yield Step(
            "secure.mount", partial(manager.mount, name), partial(hand.mount_secure, name, flags)
        )
        place.check_mounts(name)
        yield Step("", _filled(place.point(name)), _filled(hand.point(name)))
        yield Step(
            "secure.unmount", partial(manager.unmount, name), partial(hand.unmount_secure, name)
        )
        yield Step("", partial(manager.rm, name), nothing)

    return Story(("secure.mount", "secure.unmount"), lambda: life)


def _filled(point: Path) -> Callable[[], object]:
    return lambda: (point / "secret").write_bytes(os.urandom(SECRET))
