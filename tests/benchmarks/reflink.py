"""
The stories of a disk whose files share blocks: a copy takes the same time whatever the size.

The disk is an xfs in a sparse file of its own. A volume of 20 GB is measured beside one of 100 MB:
what stands as its floor is our own time for the small one, so that its ratio is how the time grows.
The copy does not grow, and the clone of an ext4 does not either; that of an xfs does, as far as
its log grows: xfs_admin writes the whole of it with the new UUID.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Step, Story
from benchmarks.place import Place, nothing
from libstorage.manager import Given
from libstorage.records import MB, RAW

SIZES = {"100m": (100, 40), "20g": (20 * 1024, 200)}
"""MB of a volume, and MB of data in it."""

Steps = Iterator[Step]


def stories(place: Place) -> list[Story]:
    return [_story(place, fstype) for fstype in ("xfs", "ext4", "raw")]


def _story(place: Place, fstype: str) -> Story:
    small, large = (f"{fstype}-{size}" for size in SIZES)
    snapshot, clone = (f"local.reflink_{verb}_{fstype}" for verb in ("snapshot", "clone"))
    names = (snapshot, clone, f"{snapshot}_20g", f"{clone}_20g")

    def begin() -> Callable[[int], Steps]:
        there = place.on_reflink()
        for size, (mb_size, data) in SIZES.items():
            _prepare(there, f"{fstype}-{size}", fstype, mb_size, data)
        return partial(life, there)

    def life(there: Place, number: int) -> Steps:
        manager, hand = there.manager, there.hand
        kept, born = f"s{number}", f"{fstype}-clone-{number}"
        yield Step(
            snapshot,
            partial(manager.snapshot_create, f"{small}@{kept}"),
            partial(hand.snapshot, small),
        )
        yield Step(
            clone,
            partial(manager.snapshot_clone, f"{small}@{kept}", born),
            partial(hand.clone, small, born, fstype),
        )
        yield Step("", partial(hand.remove_image, born), partial(hand.forget, small))
        # The same once more, at the moment at which the large one is measured.
        yield Step(
            f"{snapshot}_20g",
            partial(manager.snapshot_create, f"{large}@{kept}"),
            partial(manager.snapshot_create, f"{small}@{kept}-again"),
        )
        yield Step(
            f"{clone}_20g",
            partial(manager.snapshot_clone, f"{large}@{kept}", f"{born}-large"),
            partial(manager.snapshot_clone, f"{small}@{kept}-again", f"{born}-again"),
        )
        for name in (born, f"{born}-large", f"{born}-again"):
            yield Step("", partial(manager.rm, name), nothing)
        for name in (f"{small}@{kept}", f"{large}@{kept}", f"{small}@{kept}-again"):
            yield Step("", partial(manager.snapshot_rm, name), nothing)

    return Story(names, begin)


def _prepare(place: Place, name: str, fstype: str, mb_size: int, data: int) -> None:
    """A volume with so many MB of data, and the same by hand; once for all rounds."""
    if place.hand.image(name).exists():
        return
    given = Given(policy="local", fstype=fstype, mb_size=mb_size)
    record = place.manager.create(name, given)["Volume"]
    image = place.site.image(record)
    if fstype == RAW:
        _write(image, "r+b", data)
    else:
        _write(Path(place.manager.mount(name)["Mountpoint"]) / "data", "wb", data)
        place.manager.unmount(name)
    subprocess.run(["cp", "--reflink=always", image, place.hand.image(name)], check=True)
    os.sync()


def _write(path: Path, mode: str, mb: int) -> None:
    with open(path, mode) as file:
        for _ in range(mb):
            file.write(os.urandom(MB))
