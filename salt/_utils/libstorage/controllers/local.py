"""
ds-local: policy ``local``, on this host's own disk.

Without a filesystem type a volume is a plain directory, on every node its own. With one it is a
sparse image that lives on the node that made it::

    <root>/local/<Id>/            a directory;          <Id>.json beside it: the record's copy
    <root>/images/<Id>.img        an image;             <Id>.json: the copy
    <root>/images/<Id>.attached   it was attached and not yet detached: after a crash of the
                                  host this is what says that the filesystem must be checked
    <root>/images/<Id>.unchecked  such a one was found, and no check has gone well yet
    <root>/maintenance/<Id>       where an unmounted image is looked at
"""

from pathlib import Path

from ..errors import BackendError, CommandFailed, Damaged, InvalidInput, NoSpace
from ..host import files, filesystems, loops, mounts
from ..host.commands import Work
from ..records import FSTYPES, MB, RAW, Volume
from . import options
from .contract import Found, Shape, Site, Source, Wish
from .copies import drop, found, put

DEFAULT_SIZE = 100


class Local:
    """The controller; each volume is served by one of the two kinds below."""

    name = "ds-local"
    policies = ("local",)

    def __init__(self, site: Site) -> None:
        self._images = Images(site.root)
        self._directories = Directories(site.root)

    def _kind(self, volume: Volume) -> "Images | Directories":
        return self._images if volume.fstype else self._directories

    def node_local(self, volume: Volume) -> bool:
        return not volume.fstype

    def normalise(self, wish: Wish) -> Shape:
        if wish.fstype is None:
            return self._directory(wish)
        if wish.fstype not in FSTYPES:
            raise InvalidInput(f"Unknown fstype {wish.fstype!r}; there are {', '.join(FSTYPES)}")
        size = DEFAULT_SIZE if wish.mb_size is None else wish.mb_size
        filesystems.check_size(wish.fstype, size)
        known = {} if wish.fstype == RAW else options.MOUNT
        return Shape(
            voltype=self.name,
            fstype=wish.fstype,
            mb_size=size,
            shared=wish.shared is not False,
            auto_migrate=bool(wish.auto_migrate),
            options=options.read(wish.options, known, wish.policy),
            tied=True,
        )

    def _directory(self, wish: Wish) -> Shape:
        warnings = []
        if wish.mb_size:
            warnings.append(
                "A local volume without fstype is a plain directory, which has no size; "
                "name an fstype to get one"
            )
        if wish.auto_migrate:
            warnings.append("A directory on one host cannot be migrated; automigrate stays false")
        return Shape(
            voltype=self.name,
            fstype="",
            mb_size=0,
            shared=wish.shared is not False,
            auto_migrate=False,
            options=options.read(wish.options, options.MOUNT, wish.policy),
            warnings=tuple(warnings),
        )

    def check(self, volume: Volume) -> None:
        self._kind(volume).check(volume)

    def create(self, work: Work, volume: Volume) -> None:
        self._kind(volume).create(work, volume)

    def exists(self, volume: Volume) -> bool:
        return self._kind(volume).path(volume.id).exists()

    def destroy(self, work: Work, id: str) -> None:
        self._images.destroy(work, id)
        self._directories.destroy(id)

    def attach(self, work: Work, volume: Volume) -> Source:
        return self._kind(volume).attach(work, volume)

    def detach(self, work: Work, id: str) -> None:
        self._images.detach(work, id)

    def inspect(self, work: Work, volume: Volume) -> Path | None:
        return self._kind(volume).inspect(work, volume)

    def end_inspection(self, work: Work, id: str) -> None:
        self._images.end_inspection(work, id)

    def put_copy(self, volume: Volume, cluster: str) -> None:
        put(self._kind(volume).copy(volume.id), volume, cluster)

    def drop_copy(self, id: str) -> None:
        drop(self._images.copy(id))
        drop(self._directories.copy(id))

    def inventory(self) -> list[Found]:
        return [*self._images.inventory(), *self._directories.inventory()]

    def in_use(self) -> dict[str, str]:
        return self._images.in_use()

    def capacity(self) -> tuple[int, int]:
        return files.free_space(self._images.folder)


class Images:
    """Volumes that are a filesystem (or nothing: raw) in a sparse file."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "images"
        self.maintenance = root / "maintenance"

    def path(self, id: str) -> Path:
        return self.folder / f"{id}.img"

    def copy(self, id: str) -> Path:
        return self.folder / f"{id}.json"

    def _attached(self, id: str) -> Path:
        return self.folder / f"{id}.attached"

    def _unchecked(self, id: str) -> Path:
        return self.folder / f"{id}.unchecked"

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
        files.remove(self.path(id))

    def attach(self, work: Work, volume: Volume) -> Source:
        image = self.path(volume.id)
        if not image.exists():
            raise BackendError(f"The image of {volume.name} is missing: {image}; restore it")
        if volume.fstype == RAW:
            return Source(kind="device", path=Path(loops.attach(work, image)))
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
                mounts.mount(work, str(image), point, volume.fstype, "loop,nosuid,nodev")
            except CommandFailed as exc:
                if "loop device" in exc.words:
                    # None was free: that says nothing about the filesystem.
                    raise
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
            mounts.mount(work, str(image), point, volume.fstype, f"loop,nosuid,nodev,{read_only}")
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


class Directories:
    """Volumes that are a plain directory, on each node its own."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "local"

    def path(self, id: str) -> Path:
        return self.folder / id

    def copy(self, id: str) -> Path:
        return self.folder / f"{id}.json"

    def check(self, volume: Volume) -> None:
        """A directory takes no space and needs no tool."""

    def create(self, work: Work, volume: Volume) -> None:
        files.make_directory(self.folder, 0o711)
        files.make_directory(self.path(volume.id))

    def destroy(self, id: str) -> None:
        drop(self.copy(id))
        mounts.remove_tree(self.path(id))

    def attach(self, work: Work, volume: Volume) -> Source:
        return Source(kind="directory", path=self.path(volume.id))

    def inspect(self, work: Work, volume: Volume) -> Path | None:
        path = self.path(volume.id)
        return path if path.is_dir() else None

    def inventory(self) -> list[Found]:
        return [
            item
            for path in self.folder.glob("*")
            if path.is_dir()
            for item in found(path.name, path, self.copy(path.name), "directory")
        ]


CONTROLLER = Local
