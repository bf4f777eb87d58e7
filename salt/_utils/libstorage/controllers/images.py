"""
Images: volumes of ds-local that are a filesystem (or nothing: raw) in a sparse file.

::

    <root>/images/<Id>.img        an image;             <Id>.json: the record's copy
    <root>/images/<Id>.attached   it was attached and not yet detached: after a crash of the
                                  host this is what says that the filesystem must be checked
    <root>/images/<Id>.unchecked  such a one was found, and no check has gone well yet
    <root>/images/<Id>.new        what a rollback will put in its place
    <root>/snapshots/<Id>.img     a snapshot;           <Id>.json: the record's copy
    <root>/maintenance/<Id>       where an unmounted image is looked at, mended or grown

A snapshot is a copy: by reflink where the disk's filesystem can (xfs, btrfs: at once, whatever the
size), else of what the image holds. A mounted one is frozen meanwhile, so that the copy is of one
moment; a copy that would take longer than a filesystem may be frozen is refused.
"""

from pathlib import Path

from ..errors import BackendError, CommandFailed, Damaged, NoSpace, Unsupported
from ..host import files, filesystems, freezing, images, loops, mounts
from ..host.commands import Work
from ..records import MB, RAW, Snapshot, Volume
from .contract import Found, Source
from .copies import drop, found, put_snapshot

FREEZE_LIMIT = 8.0
"""Seconds that a copy of a mounted image may take; the freeze itself ends after 10."""


class Images:
    """The images on this node, and their snapshots."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "images"
        self.snapshots = root / "snapshots"
        self.maintenance = root / "maintenance"

    def path(self, id: str) -> Path:
        return self.folder / f"{id}.img"

    def copy(self, id: str) -> Path:
        return self.folder / f"{id}.json"

    def _attached(self, id: str) -> Path:
        return self.folder / f"{id}.attached"

    def _unchecked(self, id: str) -> Path:
        return self.folder / f"{id}.unchecked"

    def _new(self, id: str) -> Path:
        return self.folder / f"{id}.new"

    def kept(self, id: str) -> Path:
        return self.snapshots / f"{id}.img"

    def check(self, volume: Volume) -> None:
        filesystems.need_tools(volume.fstype)
        free = files.free_space(self.folder)[1]
        if volume.mb_size * MB > free:
            raise NoSpace(
                f"{self.folder} has {free // MB} MB free, asked {volume.mb_size}; "
                f"free space or ask for less"
            )

    def create(self, work: Work, volume: Volume) -> None:
        image = self.path(volume.id)
        files.make_directory(self.folder, 0o700)
        files.make_sparse(image, volume.mb_size * MB)
        try:
            filesystems.make(work, image, volume.fstype, volume.mb_size)
        except CommandFailed as exc:
            # Not every mkfs says that this is why.
            if files.free_space(self.folder)[1] < MB:
                full = f"{self.folder} has no room for the {volume.fstype} of {volume.name}"
                raise NoSpace(f"{full}; free space and try again") from exc
            raise
        # The directory's entry comes to the disk with the copy's.
        files.sync(image)

    def destroy(self, work: Work, id: str) -> None:
        self.end_inspection(work, id)
        loops.detach(work, self.path(id))
        drop(self.copy(id))
        files.remove(self._attached(id))
        files.remove(self._unchecked(id))
        files.remove(self._new(id))
        files.remove(self.path(id))

    def attach(self, work: Work, volume: Volume) -> Source:
        image = self.path(volume.id)
        if not image.exists():
            raise BackendError(f"The image of {volume.name} is missing: {image}; restore it")
        if volume.fstype == RAW:
            return Source(kind="device", path=Path(loops.attach(image)))
        self.end_inspection(work, volume.id)
        loops.detach(work, image)
        attached, unchecked = self._attached(volume.id), self._unchecked(volume.id)
        try:
            if attached.exists():
                attached.rename(unchecked)
            found_unclean = unchecked.exists()
            if found_unclean:
                self._mend(work, volume)
            attached.touch(mode=0o600)
        except OSError as exc:
            raise files.explain(exc, f"{volume.name} cannot be marked as attached") from exc
        if found_unclean:
            files.remove(unchecked)
        return Source(kind="image", path=image, fstype=volume.fstype)

    def _mend(self, work: Work, volume: Volume) -> None:
        """Replay the log by a mount where only the kernel can, then check."""
        image = self.path(volume.id)
        if volume.fstype in ("xfs", "btrfs"):
            point = self._maintenance_point(volume.id)
            try:
                loops.mount(work, image, point, volume.fstype, "nosuid,nodev")
            except CommandFailed as exc:
                repair = filesystems.KINDS[volume.fstype].repair
                raise Damaged(
                    f"The {volume.fstype} of {volume.name} cannot be mounted ({exc.words}); "
                    f"repair it with: {repair} {image}"
                ) from exc
            finally:
                self.end_inspection(work, volume.id)
        filesystems.check(work, image, volume.fstype)

    def _maintenance_point(self, id: str) -> Path:
        point = self.maintenance / id
        # What is mounted there has a mode of its own, which is the volume's.
        if mounts.at(point) is None:
            files.make_directory(point, 0o700)
        return point

    def detach(self, work: Work, id: str) -> None:
        # An attach that was ended in the middle of a check has left it mounted there.
        self.end_inspection(work, id)
        loops.detach(work, self.path(id))
        files.remove(self._attached(id))

    def inspect(self, work: Work, volume: Volume) -> Path | None:
        image = self.path(volume.id)
        if volume.fstype == RAW:
            return image
        point = self._maintenance_point(volume.id)
        if mounts.at(point) is None:
            read_only = filesystems.KINDS[volume.fstype].read_only
            loops.mount(work, image, point, volume.fstype, f"nosuid,nodev,{read_only}")
        return point

    def end_inspection(self, work: Work, id: str) -> None:
        point = self.maintenance / id
        if point.exists():
            mounts.unmount(work, point)
            point.rmdir()
            loops.detach(work, self.path(id))

    def inventory(self) -> list[Found]:
        return [
            item
            for path in self.folder.glob("*.img")
            for item in found(path.stem, path, self.copy(path.stem), "image")
        ]

    def in_use(self) -> dict[str, str]:
        held = {
            file.stem: f"loop device {device}"
            for device, file in loops.behind().items()
            if file.parent == self.folder
        }
        if self.maintenance.is_dir():
            held |= {p.name: f"maintenance mount {p}" for p in self.maintenance.iterdir()}
        return held

    # -- growth -------------------------------------------------------------------------------

    def check_growth(self, volume: Volume, mb_size: int) -> None:
        if volume.fstype != RAW:
            filesystems.check_growth(volume.fstype, mb_size)
            filesystems.need_growing_tools(volume.fstype)
        free = files.free_space(self.folder)[1]
        more = mb_size - volume.mb_size
        if more * MB > free:
            raise NoSpace(
                f"{self.folder} has {free // MB} MB free, asked {more} more; "
                f"free space or ask for less"
            )

    def grow(self, work: Work, volume: Volume, mb_size: int, mountpoint: Path | None) -> None:
        image = self.path(volume.id)
        again = image.stat().st_size == mb_size * MB
        files.truncate(image, mb_size * MB)
        try:
            if mountpoint is None:
                self._grow(work, volume, image, again=again)
            else:
                loops.refresh(work, image)
                filesystems.grow(work, image, volume.fstype, mountpoint)
        except Unsupported:
            files.truncate(image, volume.mb_size * MB)
            loops.refresh(work, image)
            raise
        files.sync(image)

    # -- snapshots ----------------------------------------------------------------------------

    def snapshot_create(
        self, work: Work, volume: Volume, snapshot: Snapshot, mountpoint: Path | None
    ) -> None:
        image, kept = self.path(volume.id), self.kept(snapshot.id)
        files.make_directory(self.snapshots, 0o700)
        if mountpoint is None:
            images.copy(work, image, kept, work.left())
        elif volume.fstype == RAW:
            # Nobody can be frozen: what the device has is what a power cut would leave.
            files.sync(mountpoint)
            images.copy(work, image, kept, work.left())
        else:
            self._need_quick_copy(volume)
            with freezing.frozen(work, mountpoint) as meanwhile:
                images.copy(meanwhile, image, kept, FREEZE_LIMIT)
        files.sync(kept)

    def _need_quick_copy(self, volume: Volume) -> None:
        image = self.path(volume.id)
        if images.can_reflink(self.snapshots):
            return
        seconds = images.copy_seconds(image)
        if seconds > FREEZE_LIMIT:
            raise Unsupported(
                f"{volume.name} is mounted, and copying the {images.allocated(image) // MB} MB "
                f"that it holds would freeze it for {seconds:.0f} s; unmount it first, or keep "
                f"{self.folder} on xfs or btrfs, where a copy takes no time"
            )

    def put_snapshot_copy(self, volume: Volume, snapshot: Snapshot, cluster: str) -> None:
        put_snapshot(self.snapshots / f"{snapshot.id}.json", volume, snapshot, cluster)

    def snapshot_remove(self, id: str) -> None:
        drop(self.snapshots / f"{id}.json")
        files.remove(self.kept(id))

    def snapshot_inventory(self) -> list[Found]:
        return [
            item
            for path in self.snapshots.glob("*.img")
            for item in found(path.stem, path, path.with_suffix(".json"), "snapshot")
        ]

    def rollback(self, work: Work, volume: Volume, snapshot: Snapshot) -> None:
        """Copied beside, grown to the current size, then in place at once."""
        image, new = self.path(volume.id), self._new(volume.id)
        # A rollback that was killed may have been growing it.
        self.end_inspection(work, volume.id)
        loops.detach(work, new)
        files.remove(new)
        loops.detach(work, image)
        images.copy(work, self.kept(snapshot.id), new, work.left())
        size = volume.mb_size * MB
        if new.stat().st_size < size:
            files.truncate(new, size)
            self._grow(work, volume, new)
        files.sync(new)
        files.replace(new, image)
        files.sync(self.folder)
        files.remove(self._attached(volume.id))
        files.remove(self._unchecked(volume.id))

    def _grow(self, work: Work, volume: Volume, image: Path, *, again: bool = False) -> None:
        """
        Grow the filesystem of an unmounted image to its file's size.

        again
            Somebody may have died of it before.
        """
        if filesystems.KINDS[volume.fstype].grows_mounted:
            self.end_inspection(work, volume.id)
            point = self._maintenance_point(volume.id)
            try:
                loops.mount(work, image, point, volume.fstype, "nosuid,nodev")
                filesystems.grow(work, image, volume.fstype, point)
            finally:
                mounts.unmount(work, point)
                point.rmdir()
                loops.detach(work, image)
        elif volume.fstype != RAW:
            filesystems.grow(work, image, volume.fstype, again=again)

    def clone(self, work: Work, snapshot: Snapshot, volume: Volume) -> None:
        """A copy of a snapshot with a filesystem UUID of its own, so that both may be mounted."""
        image = self.path(volume.id)
        files.make_directory(self.folder, 0o700)
        images.copy(work, self.kept(snapshot.id), image, work.left())
        if volume.fstype != RAW:
            filesystems.renew_uuid(
                work, image, volume.fstype, lambda flags: self._mount_once(work, volume, flags)
            )
        files.sync(image)

    def _mount_once(self, work: Work, volume: Volume, flags: str) -> None:
        """Let the kernel replay what waits in the log."""
        point = self._maintenance_point(volume.id)
        options = ",".join(["nosuid,nodev", *([flags] if flags else [])])
        try:
            loops.mount(work, self.path(volume.id), point, volume.fstype, options)
        finally:
            self.end_inspection(work, volume.id)
