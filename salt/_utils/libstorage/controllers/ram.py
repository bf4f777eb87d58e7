"""
ds-ram: policies ``ram`` and ``secure``, in this host's memory.

``ram`` is a tmpfs at ``<root>/ram/<Id>`` from the first use until it is removed or the host
reboots; an attachment shows it by a bind mount, so that what was written stays between users.
``secure`` is a tmpfs made by the mount itself and gone with its one user, wiped before it goes,
never in swap.
"""

from pathlib import Path

from ..errors import InvalidInput, NoSpace, Unsupported
from ..host import files, memory, mounts
from ..host.commands import Work
from ..records import JSON, MB, Volume
from . import options
from .contract import Found, Shape, Site, Source, Wish
from .copies import all_in, drop, found, put

DEFAULT_SIZE = 100
TMPFS = "tmpfs"
_OPTIONS = {**options.MOUNT, "mode": options.mode}


class Ram:
    """The controller. Every node keeps its own memory."""

    name = "ds-ram"
    policies = ("ram", "secure")

    def __init__(self, site: Site) -> None:
        self.folder = site.root / "ram"

    def _path(self, id: str) -> Path:
        return self.folder / id

    def _copy(self, id: str) -> Path:
        return self.folder / f"{id}.json"

    def node_local(self, volume: Volume) -> bool:
        return True

    def volatile(self, volume: Volume) -> bool:
        return True

    def normalise(self, wish: Wish) -> Shape:
        secure = wish.policy == "secure"
        if secure and wish.shared:
            raise InvalidInput("A secure volume cannot be shared; leave shared out, or say false")
        size = DEFAULT_SIZE if wish.mb_size is None else wish.mb_size
        if size < 1:
            raise InvalidInput(f"{wish.policy} needs at least 1 MB, asked {size}")
        warnings = []
        if wish.fstype not in (None, TMPFS):
            warnings.append(f"A volume in memory is always tmpfs; fstype {wish.fstype} is not used")
        if wish.auto_migrate:
            warnings.append("A volume in memory cannot be migrated; automigrate stays false")
        return Shape(
            voltype=self.name,
            fstype=TMPFS,
            mb_size=size,
            shared=not secure and wish.shared is not False,
            auto_migrate=False,
            options=options.read(wish.options, _OPTIONS, wish.policy),
            warnings=tuple(warnings),
        )

    def check(self, volume: Volume) -> None:
        available = memory.available()[1]
        if volume.mb_size * MB > available:
            raise NoSpace(
                f"This host has {available // MB} MB of memory available, "
                f"asked {volume.mb_size}; ask for less"
            )
        if volume.policy == "secure" and memory.may_swap():
            raise Unsupported(
                "A secure volume must never reach swap: this host has swap on and its kernel "
                "(older than 6.4) cannot keep a tmpfs out of it; switch swap off"
            )

    def create(self, work: Work, volume: Volume) -> None:
        files.make_directory(self.folder, 0o711)
        if volume.policy == "ram":
            path = self._path(volume.id)
            files.make_directory(path)
            if mounts.at(path) is None:
                mode = volume.options.get("mode", "0755")
                mounts.mount(work, TMPFS, path, TMPFS, f"size={volume.mb_size}m,mode={mode}")

    def exists(self, volume: Volume) -> bool:
        return volume.policy == "secure" or mounts.at(self._path(volume.id)) is not None

    def destroy(self, work: Work, id: str) -> None:
        drop(self._copy(id))
        path = self._path(id)
        mounts.unmount(work, path)
        mounts.remove_tree(path)

    def attach(self, work: Work, volume: Volume) -> Source:
        if volume.policy == "ram":
            return Source(kind="directory", path=self._path(volume.id))
        self.check(volume)
        flags = [f"size={volume.mb_size}m", f"mode={volume.options.get('mode', '0700')}", "noexec"]
        if memory.knows_noswap():
            flags.append("noswap")
        return Source(kind=TMPFS, path=Path(TMPFS), fstype=TMPFS, options=tuple(flags))

    def detach(self, work: Work, id: str) -> None:
        """What attach made went with the unmount."""

    def wipe(self, work: Work, volume: Volume, mountpoint: Path) -> None:
        mounted = mounts.at(mountpoint)
        # Something else mounted there is not ours to wipe.
        if volume.policy == "secure" and mounted and mounted.fstype == TMPFS:
            files.wipe(mountpoint)

    def inspect(self, work: Work, volume: Volume) -> Path | None:
        path = self._path(volume.id)
        return path if mounts.at(path) is not None else None

    def end_inspection(self, work: Work, id: str) -> None:
        """inspect makes nothing."""

    def put_copy(self, volume: Volume, cluster: str, trashed: JSON | None = None) -> None:
        files.make_directory(self.folder, 0o711)
        put(self._copy(volume.id), volume, cluster, trashed)

    def drop_copy(self, id: str) -> None:
        drop(self._copy(id))

    def copy_of(self, id: str) -> JSON | None:
        return files.read_json(self._copy(id))

    def copies(self) -> list[JSON]:
        return all_in(self.folder)

    def inventory(self) -> list[Found]:
        return [
            item
            for path in self.folder.glob("*")
            if path.is_dir()
            for item in found(path.name, path, self._copy(path.name), "memory at")
        ]

    def in_use(self) -> dict[str, str]:
        return {}

    def capacity(self) -> tuple[int, int]:
        return memory.available()


CONTROLLER = Ram
