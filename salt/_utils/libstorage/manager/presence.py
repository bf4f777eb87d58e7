"""Make an attached volume present below ``mount_root``, and take it away again. Host work only."""

import os
from collections.abc import Callable
from pathlib import Path

from ..controllers import options
from ..controllers.contract import Controller, Serves, Source, Wipes
from ..errors import BackendError, CommandFailed, MountBusy
from ..host import loops, mounts
from ..host.commands import Work
from ..records import Volume


def need_free(point: Path) -> None:
    """Raise BackendError where somebody else's mount is in the way; it is left alone."""
    if mounted := mounts.at(point):
        raise BackendError(f"{point} already shows {mounted.source}; run doctor fix=True")


def present(
    work: Work,
    controller: Controller,
    volume: Volume,
    point: Path,
    note: Callable[[Source], None] = lambda _: None,
) -> str:
    """
    Attach and mount a volume at ``point``.

    note
        Is told what attach has made, before anything is written to it or mounted.

    Returns what is mounted there (a loop device, a directory, tmpfs), for :func:`shown`.
    """
    source = controller.attach(work, volume)
    note(source)
    source.mend()
    mounts.make_point(point, node=source.kind == "device")
    flags = [*options.mount_flags(volume.options), *source.options]
    if source.kind == "device":
        mounts.bind(work, source.path, point)
    elif source.kind == "directory":
        mounts.bind(work, source.path, point, ",".join(flags))
    else:
        words = ",".join(flags)
        try:
            if source.kind == "image":
                loops.mount(work, source.path, point, source.fstype, words)
            else:
                mounts.mount(work, str(source.path), point, source.fstype, words)
        except CommandFailed:
            source.explain()
            raise
    mounted = mounts.at(point)
    device = mounted.source if source.kind == "image" and mounted else str(source.path)
    if not _shows(mounted, device, point):
        raise BackendError(f"{point} does not show {source.path} although it was mounted")
    return device


def shown(device: str, point: Path) -> bool:
    """Is what was mounted still to be seen at the mount point?"""
    return _shows(mounts.at(point), device, point)


def _shows(mounted: mounts.Mount | None, device: str, point: Path) -> bool:
    if mounted is None:
        return False
    if mounted.source == device:
        return True
    try:
        return os.path.samefile(device, point)
    except OSError:
        return False


def take_away(
    work: Work, controller: Controller, volume: Volume, point: Path, *, lazy: bool = False
) -> None:
    """
    Unmount and detach a volume, from whatever state a crash may have left it in.

    lazy
        Unmount it also where somebody holds it.

    Raises MountBusy, with the volume still mounted, while somebody holds it (what must be wiped
    has been wiped).
    """
    if isinstance(controller, Serves):
        controller.give_up(work, volume.id)
    if isinstance(controller, Wipes) and mounts.at(point) is not None:
        controller.wipe(work, volume, point)
    held = mounts.unmount(work, point, lazy=lazy)
    try:
        controller.detach(work, volume.id)
    except MountBusy as exc:
        if held:
            exc.add_note(f"it was unmounted by force, and is held by {held}")
        raise
    mounts.remove_point(point)
