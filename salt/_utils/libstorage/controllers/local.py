"""
ds-local: policy ``local``, on this host's own disk.

Without a filesystem type a volume is a plain directory, on every node its own. With one it is a
sparse image (see ``images.py``) that lives on the node that made it::

    <root>/local/<Id>/            a directory; <Id>.json beside it: the record's copy
    <root>/profiles/ds-local.json the copy of the QoS profiles
"""

from pathlib import Path

from ..errors import InvalidInput, Unsupported
from ..host import files, filesystems, mounts
from ..host.commands import Work
from ..records import FSTYPES, JSON, RAW, Snapshot, Volume
from . import options
from .contract import Found, Shape, Site, Source, Wish
from .copies import all_in, drop, found, put
from .images import Images

DEFAULT_SIZE = 100


class Local:
    """The controller; each volume is served by one of the two kinds below."""

    name = "ds-local"
    policies = ("local",)

    def __init__(self, site: Site) -> None:
        self._images = Images(site.root)
        self._directories = Directories(site.root)
        self._profiles = site.root / "profiles" / f"{self.name}.json"

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

    def put_copy(self, volume: Volume, cluster: str, trashed: JSON | None = None) -> None:
        self._directories.make_folder()
        put(self._kind(volume).copy(volume.id), volume, cluster, trashed)

    def drop_copy(self, id: str) -> None:
        drop(self._images.copy(id))
        drop(self._directories.copy(id))

    def copy_of(self, id: str) -> JSON | None:
        return files.read_json(self._images.copy(id)) or files.read_json(self._directories.copy(id))

    def check_growth(self, volume: Volume, mb_size: int) -> None:
        if not volume.fstype:
            raise Unsupported(
                f"{volume.name} is a plain directory, which has no size; create a volume with an "
                f"fstype for that"
            )
        self._images.check_growth(volume, mb_size)

    def grow(self, work: Work, volume: Volume, mb_size: int, mountpoint: Path | None) -> None:
        self._images.grow(work, volume, mb_size, mountpoint)

    # -- snapshots

    def need_snapshots(self, volume: Volume) -> None:
        if not volume.fstype:
            raise Unsupported(
                f"{volume.name} is a plain directory, which keeps no snapshots; create a volume "
                f"with an fstype for that"
            )

    def snapshot_create(
        self, work: Work, volume: Volume, snapshot: Snapshot, mountpoint: Path | None
    ) -> None:
        self._images.snapshot_create(work, volume, snapshot, mountpoint)

    def snapshot_remove(self, work: Work, id: str) -> None:
        self._images.snapshot_remove(id)

    def snapshot_exists(self, snapshot: Snapshot) -> bool:
        return self._images.kept(snapshot.id).exists()

    def put_snapshot_copy(self, volume: Volume, snapshot: Snapshot, cluster: str) -> None:
        self._images.put_snapshot_copy(volume, snapshot, cluster)

    def rollback(self, work: Work, volume: Volume, snapshot: Snapshot) -> None:
        self._images.rollback(work, volume, snapshot)

    def clone(self, work: Work, snapshot: Snapshot, volume: Volume) -> None:
        self._images.clone(work, snapshot, volume)

    def snapshot_inventory(self) -> list[Found]:
        return self._images.snapshot_inventory()

    # -- limits

    def need_limits(self, volume: Volume) -> None:
        if not volume.fstype:
            raise Unsupported(
                f"{volume.name} is a plain directory, whose I/O cannot be limited; create a "
                f"volume with an fstype for that"
            )

    def put_profiles(self, blob: JSON) -> None:
        files.make_directory(self._profiles.parent, 0o700)
        files.write_json(self._profiles, blob)

    def profiles(self) -> JSON | None:
        return files.read_json(self._profiles)

    # -- all that is there

    def copies(self) -> list[JSON]:
        folders = (self._images.folder, self._directories.folder, self._images.snapshots)
        return [copy for folder in folders for copy in all_in(folder)]

    def inventory(self) -> list[Found]:
        return [*self._images.inventory(), *self._directories.inventory()]

    def in_use(self) -> dict[str, str]:
        return self._images.in_use()

    def capacity(self) -> tuple[int, int]:
        return files.free_space(self._images.folder)


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

    def make_folder(self) -> None:
        files.make_directory(self.folder, 0o711)

    def create(self, work: Work, volume: Volume) -> None:
        self.make_folder()
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
