"""
ds-ceph: policy distributed, as images of an RBD pool, attached on one node at a time.

What the single writer rests on: the manager's claim; that no client has the image open when it is
attached; and that the address of the client that then opens it is known before anything is mounted,
so that a dead node's can be shut out (``fence``).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import (
    BackendError,
    CommandFailed,
    Damaged,
    InvalidInput,
    Unsupported,
    VolumeInUse,
)
from ..host import addresses, files, filesystems, freezing, mounts
from ..host.commands import Work
from ..records import FSTYPES, JSON, MB, RAW, Snapshot, Volume
from . import options
from .contract import Adoptable, Found, Health, Shape, Site, Source, Wish
from .rbd_connection import Connection, Place, bindings, host_of, instance_of
from .rbd_images import COPY, SNAPSHOT, Look, RbdImages, found
from .rbd_mappers import Mappers
from .rbd_pool import RbdPool

DEFAULT_FSTYPE = "xfs"
DEFAULT_SIZE = 100
PROFILES = "dsvolume.profiles"
CLIENT_SECONDS = 30.0
"""How long Ceph believes in a client that has died."""
PASSING_SECONDS = 3.0
"""A manager has an image open for some milliseconds, to write a copy of the record."""


class Ceph:
    """Images in one pool, for all nodes."""

    name = "ds-ceph"
    policies = ("distributed",)

    def __init__(self, site: Site) -> None:
        settings = site.settings
        place = Place(
            Path(settings["conf"]), settings["client"], settings["pool"], settings["namespace"]
        )
        self._connection = Connection(place)
        self._images = RbdImages(self._connection)
        self._pool = RbdPool(self._connection)
        self._mapper = Mappers(place, site.run_dir, site.node, settings["mapper"])
        self._maintenance = site.root / "maintenance"

    def node_local(self, volume: Volume) -> bool:
        return False

    def normalise(self, wish: Wish) -> Shape:
        fstype = DEFAULT_FSTYPE if wish.fstype is None else wish.fstype
        if fstype not in FSTYPES:
            raise InvalidInput(f"Unknown fstype {fstype!r}; there are {', '.join(FSTYPES)}")
        size = DEFAULT_SIZE if wish.mb_size is None else wish.mb_size
        filesystems.check_size(fstype, size)
        return Shape(
            voltype=self.name,
            fstype=fstype,
            mb_size=size,
            shared=wish.shared is not False,
            auto_migrate=bool(wish.auto_migrate),
            options=options.read(wish.options, {} if fstype == RAW else options.MOUNT, wish.policy),
        )

    def check(self, volume: Volume) -> None:
        bindings()
        self._mapper.need()
        filesystems.need_tools(volume.fstype)
        self._pool.need_room(volume.mb_size)

    # -- made and removed ---------------------------------------------------------------------

    def create(self, work: Work, volume: Volume) -> None:
        size = volume.mb_size * MB
        if volume.fstype == RAW:
            self._images.create(volume.id, volume.name, size)
            return
        files.make_directory(self._maintenance)
        # mkfs writes piece by piece and waits for each: on this host's disk that takes no time.
        with filesystems.made(work, self._maintenance, volume.fstype, volume.mb_size) as pieces:
            self._images.create(volume.id, volume.name, size)
            self._images.fill(volume.id, pieces)

    def exists(self, volume: Volume) -> bool:
        return self._images.exists(volume.id)

    def destroy(self, work: Work, id: str) -> None:
        self.end_inspection(work, id)
        self._mapper.unmap(work, id)
        self._need_alone(id, self._images.path(id))
        self.drop_copy(id)
        self._images.remove(id)

    # -- adopted ------------------------------------------------------------------------------

    def adoptable(self, object: str) -> Adoptable:
        image = self._named(object)
        size, head = self._images.look(image)
        self._need_alone(image, object)
        if size % MB:
            raise InvalidInput(
                f"{object} has {size} bytes, which are no whole MB; grow it first: "
                f"rbd resize {object} --size {-(-size // MB)}M"
            )
        fstype = filesystems.identify(Work(), head, size)
        return Adoptable(fstype if fstype in FSTYPES else RAW, size // MB)

    def adopt(self, work: Work, object: str, volume: Volume) -> None:
        if not self._images.exists(volume.id):
            image = self._named(object)
            self._need_alone(image, object)
            self._images.rename(image, volume.id, volume.name)

    def disown(self, work: Work, object: str, id: str) -> None:
        self.drop_copy(id)
        self._images.give_back(id, self._named(object))

    def _named(self, object: str) -> str:
        """The image that is named ``POOL/IMAGE``. Raises InvalidInput for one of another pool."""
        place = self._connection.place
        pool, _, image = object.rpartition("/")
        if not (pool and image) or "@" in image:
            raise InvalidInput(f"Not an image: {object[:60]!r}; write POOL/IMAGE")
        if pool != str(place):
            raise InvalidInput(
                f"{object} is not in {place}, where the volumes are; copy it there first: "
                f"rbd deep cp {object} {place}/{image}"
            )
        return image

    # -- attached -----------------------------------------------------------------------------

    def attach(self, work: Work, volume: Volume) -> Source:
        id = volume.id
        self.end_inspection(work, id)
        self._mapper.unmap(work, id)
        with ExitStack() as stack:
            with self._mapper.beginning(work, id):
                look = stack.enter_context(self._images.looked_at(id, volume.name))
                self._need_alone(id, volume.name, look.clients)
                # From here on nobody writes to it.
                sound = _sound(volume, look)
            device = self._mapper.map(work, id)
            client = self._client(work, volume, look.clients)
        if volume.fstype == RAW:
            return Source(kind="device", path=device, client=client)
        return Source(
            kind="filesystem",
            path=device,
            fstype=volume.fstype,
            client=client,
            mend=lambda: None if sound else filesystems.check(work, device, volume.fstype),
            explain=lambda: self._explain(work, volume, device),
        )

    def _client(self, work: Work, volume: Volume, clients_now: Callable[[], list[str]]) -> str:
        """
        The address of the client that has just opened the image, which nobody had open before.

        A manager that writes a copy of the record has it open for a moment, too.
        """
        until = time.monotonic() + PASSING_SECONDS
        while len(clients := clients_now()) != 1:
            if time.monotonic() > until:
                self._mapper.unmap(work, volume.id)
                raise VolumeInUse(
                    f"{volume.name} is not this node's alone in Ceph: its clients are "
                    f"{', '.join(clients) or 'none'}; try again"
                )
            time.sleep(0.05)
        known = self._mapper.client(volume.id)
        if known and instance_of(known) != instance_of(clients[0]):
            self._mapper.unmap(work, volume.id)
            raise VolumeInUse(f"{volume.name} is in use by Ceph's client {clients[0]}; try again")
        return clients[0]

    def _need_alone(
        self, id: str, name: str, clients_now: Callable[[], list[str]] | None = None
    ) -> None:
        """
        Raise VolumeInUse while another client has the image open to write.

        A mapper that died on this host is waited for, since Ceph believes in it for a while; and
        anybody for a moment: a manager may be writing a copy of the record.
        """
        began = time.monotonic()
        while clients := clients_now() if clients_now else self._images.clients(id):
            ours = all(addresses.is_own(host_of(client)) for client in clients)
            if time.monotonic() > began + (CLIENT_SECONDS if ours else PASSING_SECONDS):
                raise VolumeInUse(
                    f"{name} is in use by Ceph's client {', '.join(clients)}; where that "
                    f"has died, Ceph forgets it within {CLIENT_SECONDS:g} s"
                )
            time.sleep(0.2)

    def _explain(self, work: Work, volume: Volume, device: Path) -> None:
        """Raise Damaged where it cannot be mounted, whatever the options are."""
        try:
            with self._mounted(work, volume, device, ""):
                """It can: something else was wrong."""
        except CommandFailed as exc:
            repair = filesystems.KINDS[volume.fstype].repair
            raise Damaged(
                f"The {volume.fstype} of {volume.name} cannot be mounted ({exc.words}); "
                f"repair it with: {repair} {device}"
            ) from exc

    def detach(self, work: Work, id: str) -> None:
        self.end_inspection(work, id)
        self._mapper.unmap(work, id)

    def serves(self, id: str) -> bool:
        return self._mapper.lives(id)

    def give_up(self, work: Work, id: str) -> None:
        self._mapper.give_up(work, id)

    def inspect(self, work: Work, volume: Volume) -> Path | None:
        if volume.fstype == RAW:
            return None
        if self._mapper.find(volume.id) is None:
            self._need_alone(volume.id, volume.name)
        device = self._mapper.map(work, volume.id)
        point = self._point(volume.id)
        if mounts.at(point) is None:
            read_only = filesystems.KINDS[volume.fstype].read_only
            flags = f"nosuid,nodev,{read_only}"
            mounts.mount(work, str(device), point, volume.fstype, flags)
        return point

    def end_inspection(self, work: Work, id: str) -> None:
        point = self._maintenance / id
        if point.exists():
            mounts.unmount(work, point)
            point.rmdir()
            self._mapper.unmap(work, id)

    def _point(self, id: str) -> Path:
        point = self._maintenance / id
        if mounts.at(point) is None:
            files.make_directory(point, 0o700)
        return point

    @contextmanager
    def _mounted(self, work: Work, volume: Volume, device: Path, flags: str) -> Iterator[Path]:
        """Mounted out of sight, for as long as something is done to it."""
        point = self._point(volume.id)
        words = ",".join(["nosuid,nodev", *([flags] if flags else [])])
        try:
            mounts.mount(work, str(device), point, volume.fstype, words)
            yield point
        finally:
            mounts.unmount(work, point)
            point.rmdir()

    # -- copies, and all that is there --------------------------------------------------------

    def put_copy(self, volume: Volume, cluster: str, trashed: JSON | None = None) -> None:
        state = {} if trashed is None else {"trashed": trashed}
        copy = {"cluster": cluster, "record": volume.to_json(), **state}
        self._images.put(volume.id, COPY, copy)

    def drop_copy(self, id: str) -> None:
        self._images.drop(id, COPY)

    def copy_of(self, id: str) -> JSON | None:
        return self._images.metadata(id).get(COPY)

    def copies(self) -> list[JSON]:
        return [
            value
            for _, metadata, _ in self._images.inventory()
            for key, value in metadata.items()
            if key == COPY or key.startswith(SNAPSHOT)
        ]

    def inventory(self) -> list[Found]:
        return [item for item, _, _ in self._images.inventory()]

    def snapshot_inventory(self) -> list[Found]:
        return [
            found(
                snapshot,
                f"snapshot {self._images.path(image.id)}@{snapshot}",
                image.age,
                metadata.get(SNAPSHOT + snapshot),
            )
            for image, metadata, snapshots in self._images.inventory()
            for snapshot in snapshots
        ]

    def in_use(self) -> dict[str, str]:
        held = self._mapper.held()
        if self._maintenance.is_dir():
            mounted = {path.name: path for path in self._maintenance.iterdir()}
            held |= {id: f"maintenance mount {mounted[id]}" for id in held if id in mounted}
        return held

    def capacity(self) -> tuple[int, int]:
        room = self._pool.room()
        return room.total, room.available

    def storage(self) -> str:
        return f"pool {self._connection.place.pool}"

    def health(self) -> Health:
        return self._pool.health()

    # -- growth -------------------------------------------------------------------------------

    def check_growth(self, volume: Volume, mb_size: int) -> None:
        if volume.fstype != RAW:
            filesystems.check_growth(volume.fstype, mb_size)
            filesystems.need_growing_tools(volume.fstype)
        self._pool.need_room(mb_size)

    def grow(self, work: Work, volume: Volume, mb_size: int, mountpoint: Path | None) -> None:
        again = self._images.size(volume.id) == mb_size * MB
        self._images.resize(volume.id, mb_size * MB)
        try:
            if mountpoint is not None:
                self._mapper.grow(work, volume.id, mb_size * MB)
                device = self._mapper.map(work, volume.id)
                filesystems.grow(work, device, volume.fstype, mountpoint)
            else:
                self._grow(work, volume, again=again)
        except Unsupported:
            self._images.resize(volume.id, volume.mb_size * MB)
            self._mapper.grow(work, volume.id, volume.mb_size * MB)
            raise

    def _grow(self, work: Work, volume: Volume, *, again: bool = False) -> None:
        """
        Grow the filesystem of an image that is not mounted to all of it.

        again
            Somebody may have died of it before.
        """
        if volume.fstype == RAW:
            return
        self.end_inspection(work, volume.id)
        self._mapper.unmap(work, volume.id)
        self._need_alone(volume.id, volume.name)
        device = self._mapper.map(work, volume.id)
        if filesystems.KINDS[volume.fstype].grows_mounted:
            with self._mounted(work, volume, device, "") as point:
                filesystems.grow(work, device, volume.fstype, point)
        else:
            filesystems.grow(work, device, volume.fstype, again=again)
        self._mapper.unmap(work, volume.id)

    # -- snapshots ----------------------------------------------------------------------------

    def need_snapshots(self, volume: Volume) -> None:
        """Every image keeps snapshots."""

    def snapshot_create(
        self, work: Work, volume: Volume, snapshot: Snapshot, mountpoint: Path | None
    ) -> None:
        if mountpoint is None:
            self._images.snapshot_create(volume.id, snapshot.id)
        elif volume.fstype == RAW:
            # Nobody can be frozen: what the device has is what a power cut would leave.
            files.sync(mountpoint)
            self._images.snapshot_create(volume.id, snapshot.id)
        else:
            with freezing.frozen(work, mountpoint):
                self._images.snapshot_create(volume.id, snapshot.id)

    def snapshot_remove(self, work: Work, id: str) -> None:
        self._images.snapshot_remove(id)

    def snapshot_exists(self, snapshot: Snapshot) -> bool:
        return self._images.snapshot_exists(snapshot.id)

    def put_snapshot_copy(self, volume: Volume, snapshot: Snapshot, cluster: str) -> None:
        copy = {"cluster": cluster, "record": snapshot.to_json(), "volume": volume.id}
        self._images.put(volume.id, SNAPSHOT + snapshot.id, copy)

    def rollback(self, work: Work, volume: Volume, snapshot: Snapshot) -> None:
        self.end_inspection(work, volume.id)
        self._mapper.unmap(work, volume.id)
        self._need_alone(volume.id, volume.name)
        self._images.rollback(volume.id, snapshot.id)
        if self._images.size(volume.id) < volume.mb_size * MB:
            self._images.resize(volume.id, volume.mb_size * MB)
            self._grow(work, volume, again=True)

    def clone(self, work: Work, snapshot: Snapshot, volume: Volume) -> None:
        """An image that shares the snapshot's data, with a filesystem UUID of its own."""
        self._images.clone(snapshot.id, volume.id, volume.name)
        if volume.fstype != RAW:
            device = self._mapper.map(work, volume.id)

            def mount_once(flags: str) -> None:
                with self._mounted(work, volume, device, flags):
                    """The kernel replays the log."""

            filesystems.renew_uuid(work, device, volume.fstype, mount_once)
            self._mapper.unmap(work, volume.id)

    def flatten(self, work: Work, volume: Volume) -> None:
        self.end_inspection(work, volume.id)
        self._mapper.unmap(work, volume.id)
        self._need_alone(volume.id, volume.name)
        self._images.flatten(volume.id)

    # -- limits -------------------------------------------------------------------------------

    def need_limits(self, volume: Volume) -> None:
        """Every image has a device."""

    def put_profiles(self, blob: JSON) -> None:
        self._connection.put(PROFILES, blob)

    def profiles(self) -> JSON | None:
        return self._connection.get(PROFILES)

    # -- a dead node --------------------------------------------------------------------------

    def shut_out(self, id: str, client: str) -> None:
        # Without an address nothing was written yet: what has it open must only make room.
        clients = [client] if client else self._images.clients(id)
        for one in clients:
            self._connection.shut_out(one)
        until = time.monotonic() + CLIENT_SECONDS
        while still := set(clients).intersection(self._images.clients(id)):
            if time.monotonic() > until:
                raise BackendError(
                    f"Ceph's client {still.pop()} is on the blocklist and still has "
                    f"{self._images.path(id)} open; see ceph osd blocklist ls"
                )
            time.sleep(0.05)

    def allocated(self, volume: Volume) -> int:
        return self._images.allocated(volume.id)


def _sound(volume: Volume, look: Look) -> bool:
    """Need it not be checked? The logs of xfs and btrfs are replayed by their mount."""
    if volume.fstype == RAW or filesystems.KINDS[volume.fstype].replays:
        return True
    return filesystems.clean(look.head(filesystems.CLEAN))


CONTROLLER = Ceph
