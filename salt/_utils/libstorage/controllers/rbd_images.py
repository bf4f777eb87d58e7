"""
RBD images: volumes of ds-ceph, with their snapshots, and the copies of records in their metadata.

::

    <pool>/<Id>                       an image; its metadata:
        dsvolume.copy                   the record's copy
        dsvolume.snapshot.<Id>          the copy of a snapshot's record
    <pool>/<Id>@<snapshot's Id>       a snapshot
    <pool>/dsvolume.images            an object: the images' Ids -> their volumes' names (omap)
    <pool>/dsvolume.snapshots         an object: the snapshots' Ids -> their images' (omap)

An Id is in its index from before its image or snapshot is made until it is gone. What is in no
index, and carries no copy, is somebody else's: it is not listed, and nothing here ever removes it.
"""

import json
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC
from typing import Any

from ..errors import BackendError, InvalidInput
from ..records import JSON
from .contract import Found
from .rbd_connection import Connection, bindings

COPY = "dsvolume.copy"
SNAPSHOT = "dsvolume.snapshot."
IMAGES = "dsvolume.images"
INDEX = "dsvolume.snapshots"
TRASH = "rbd_trash"
PAGE = 1000
AT_ONCE = 32
"""Writes of up to a MB that are under way."""
HEAD = 2**17
"""Bytes at the beginning of an image in which every filesystem says what it is."""


class RbdImages:
    """The images of one pool."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._trash_is_there = False

    def path(self, id: str) -> str:
        """How Ceph's own tools name an image."""
        return f"{self._connection.place}/{id}"

    @contextmanager
    def _open(
        self, id: str, doing: str, *, read_only: bool = True, snapshot: str | None = None
    ) -> Iterator[Any]:
        """An image, open. Raises rbd.ImageNotFound."""
        with self._connection.pool(doing) as pool:
            _, rbd = bindings()
            image = rbd.Image(pool, id, snapshot=snapshot, read_only=read_only)
            try:
                yield image
            finally:
                image.close()

    @contextmanager
    def _absent_is_fine(self) -> Iterator[None]:
        _, rbd = bindings()
        with suppress(rbd.ImageNotFound):
            yield

    # -- images -------------------------------------------------------------------------------

    def create(self, id: str, name: str, size: int) -> None:
        """
        Make an image of ``size`` bytes for the volume ``name``.

        Raises BackendError where there is one of this Id: it is left alone.
        """
        doing = f"The image of {name} cannot be made"
        with self._connection.pool(doing) as pool:
            _, rbd = bindings()
            self._make_trash(pool)
            _note(pool, IMAGES, id, name)
            try:
                rbd.RBD().create(pool, id, size, old_format=False, features=_features(rbd))
            except rbd.ImageExists:
                raise BackendError(
                    f"{self.path(id)} exists already and is left alone; run doctor"
                ) from None

    def fill(self, id: str, pieces: Iterable[tuple[int, bytes]]) -> None:
        """
        Write to an image that was just made; it is on the disks when this returns.

        pieces
            Where, and what.
        """
        with self._open(id, f"{self.path(id)} cannot be written to", read_only=False) as image:
            under_way: deque[Any] = deque()
            # One after the other each would wait for the object map's write.
            for at, data in pieces:
                under_way.append(image.aio_write(data, at, lambda _: None))
                if len(under_way) == AT_ONCE:
                    _wait(under_way.popleft())
            for write in under_way:
                _wait(write)
            image.flush()

    def _make_trash(self, pool: Any) -> None:
        """
        Make the object of RBD's trash, through which every image goes that is removed.

        RBD makes it with the first removal, for which a pool that has become full has no room.
        """
        if not self._trash_is_there:
            rados, _ = bindings()
            with rados.WriteOpCtx() as write:
                write.new(rados.LIBRADOS_CREATE_IDEMPOTENT)
                pool.operate_write_op(write, TRASH)
            self._trash_is_there = True

    def exists(self, id: str) -> bool:
        _, rbd = bindings()
        try:
            with self._open(id, f"Whether {self.path(id)} is there cannot be told"):
                return True
        except rbd.ImageNotFound:
            return False

    def size(self, id: str) -> int:
        """Its size in bytes."""
        with self._open(id, f"The size of {self.path(id)} cannot be read") as image:
            return int(image.size())

    def resize(self, id: str, size: int) -> None:
        """Give it another size in bytes; its snapshots keep theirs."""
        doing = f"{self.path(id)} cannot be resized"
        with self._open(id, doing, read_only=False) as image:
            image.resize(size)

    def remove(self, id: str) -> None:
        """Remove an image that nobody has open; absent is as good."""
        self._remove(id)
        with self._connection.pool(f"The image {id} cannot be forgotten") as pool:
            _forget(pool, IMAGES, id)

    def _remove(self, id: str) -> None:
        _, rbd = bindings()
        doing = f"{self.path(id)} cannot be removed"
        try:
            with self._connection.pool(doing) as pool:
                rbd.RBD().remove(pool, id)
        except rbd.ImageHasSnapshots:
            raise BackendError(
                f"{self.path(id)} still has snapshots that others made; look at them with rbd snap "
                f"ls {self.path(id)}, remove them, and try again"
            ) from None
        except rbd.ImageNotFound:
            # It says so, too, where a full pool has no room for its trash.
            if self.exists(id):
                raise BackendError(
                    f"{doing}; where the pool is full, make room for a moment (ceph osd "
                    f"set-full-ratio, ceph osd pool set-quota)"
                ) from None

    def look(self, name: str) -> tuple[int, bytes]:
        """
        The size in bytes of an image that others have made, and its beginning.

        Raises InvalidInput, with the way out, where it is not there, is ours, or is not by itself.
        """
        path, copy = self.path(name), None
        _, rbd = bindings()
        try:
            with self._open(name, f"{path} cannot be read") as image:
                copy = _read(image).get(COPY)
                snapshots = [one["name"] for one in image.list_snaps()]
                size = int(image.size())
                head = bytes(image.read(0, min(size, HEAD)))
                cloned = _has_parent(image)
        except rbd.ImageNotFound:
            raise InvalidInput(f"There is no image {path}; see: rbd ls") from None
        if copy is not None:
            raise InvalidInput(f"{path} is the volume {copy['record']['Name']}'s; run doctor")
        if snapshots:
            raise InvalidInput(
                f"{path} has snapshots ({', '.join(snapshots)}), which no volume would know; "
                f"remove them, or adopt a copy: rbd cp {path} {path}-copy"
            )
        if cloned:
            raise InvalidInput(f"{path} is a clone; make it whole first: rbd flatten {path}")
        return size, head

    def rename(self, image: str, id: str, name: str) -> None:
        """Let an image be that of the volume ``name``."""
        with self._connection.pool(f"{self.path(image)} cannot be renamed") as pool:
            _, rbd = bindings()
            _note(pool, IMAGES, id, name)
            rbd.RBD().rename(pool, image, id)

    def give_back(self, id: str, image: str) -> None:
        """Take a rename back; one that was not made is as good."""
        if self.exists(id) and not self.exists(image):
            with self._connection.pool(f"{self.path(id)} cannot be renamed") as pool:
                _, rbd = bindings()
                rbd.RBD().rename(pool, id, image)
        with self._connection.pool(f"The image {id} cannot be forgotten") as pool:
            _forget(pool, IMAGES, id)

    def clients(self, id: str) -> list[str]:
        """The addresses of the clients that have it open to write; none where it is not there."""
        found = []
        with (
            self._absent_is_fine(),
            self._open(id, f"Who uses {self.path(id)} cannot be told") as image,
        ):
            found = Look(image).clients()
        return found

    @contextmanager
    def looked_at(self, id: str, name: str) -> Iterator["Look"]:
        """
        An image, open to read only for a while.

        Raises BackendError where the image of the volume ``name`` is not there.
        """
        _, rbd = bindings()
        with ExitStack() as stack:
            try:
                doing = f"Who uses {self.path(id)} cannot be told"
                image = stack.enter_context(self._open(id, doing))
            except rbd.ImageNotFound:
                raise BackendError(
                    f"The image of {name} is missing: {self.path(id)}; restore it"
                ) from None
            yield Look(image)

    def allocated(self, id: str) -> int:
        """Bytes that it takes, told by its object map: in whole objects."""
        total = 0

        def add(_: int, length: int, exists: bool) -> None:
            nonlocal total
            total += length if exists else 0

        with self._open(id, f"What {self.path(id)} holds cannot be read") as image:
            image.diff_iterate(0, image.size(), None, add, include_parent=False, whole_object=True)
        return total

    def ids(self) -> list[str]:
        """The names of all images."""
        with self._connection.pool("The images of the pool cannot be listed") as pool:
            _, rbd = bindings()
            names: list[str] = rbd.RBD().list(pool)
            return names

    # -- copies -------------------------------------------------------------------------------

    def put(self, id: str, key: str, value: JSON) -> None:
        """
        Keep something in its metadata; it is on the disks when this returns.

        Asked of the image's header, as librbd does: to open the image would take ten times as long,
        and be a watcher for everybody who looks meanwhile.
        """
        with self._connection.pool(f"{self.path(id)} cannot be written to") as pool:
            _ask_header(pool, id, "metadata_set", _u32(1), _text(key), _text(json.dumps(value)))

    def drop(self, id: str, key: str) -> None:
        """Remove it again; absent is as good, and so is an image that is not there."""
        rados, _ = bindings()
        with (
            self._connection.pool(f"{self.path(id)} cannot be written to") as pool,
            suppress(rados.ObjectNotFound),
        ):
            _ask_header(pool, id, "metadata_remove", _text(key))

    def metadata(self, id: str) -> dict[str, JSON]:
        """All that is kept so, by key, as far as it can be read; {} where there is no image."""
        found: dict[str, JSON] = {}
        with (
            self._absent_is_fine(),
            self._open(id, f"{self.path(id)} cannot be read") as image,
        ):
            found = _read(image)
        return found

    def inventory(self) -> Iterator[tuple[Found, dict[str, JSON], list[str]]]:
        """Every image of ours as an inventory lists it, its metadata, and our snapshots of it."""
        with self._connection.pool("What is ours in the pool cannot be read") as pool:
            ours, kept = _noted(pool, IMAGES), _noted(pool, INDEX)
        for id in self.ids():
            metadata: dict[str, JSON] | None = None
            with (
                self._absent_is_fine(),
                self._open(id, f"{self.path(id)} cannot be read") as image,
            ):
                age = time.time() - image.modify_timestamp().replace(tzinfo=UTC).timestamp()
                snapshots = [one["name"] for one in image.list_snaps() if one["name"] in kept]
                metadata = _read(image)
            if metadata is not None and (id in ours or COPY in metadata):
                what = f"image {self.path(id)}"
                yield found(id, what, age, metadata.get(COPY)), metadata, snapshots

    # -- snapshots ----------------------------------------------------------------------------

    def snapshot_create(self, id: str, snapshot: str) -> None:
        """Keep what an image holds now; a snapshot that is there is as good."""
        doing = f"The snapshot {self.path(id)}@{snapshot} cannot be made"
        with self._connection.pool(doing) as pool:
            _note(pool, INDEX, snapshot, id)
        with self._open(id, doing, read_only=False) as image:
            if not _has(image, snapshot):
                image.create_snap(snapshot)

    def image_of(self, snapshot: str) -> str | None:
        """The image that a snapshot is, or was to be, of."""
        rados, _ = bindings()
        doing = f"The snapshot {snapshot} cannot be looked up"
        with self._connection.pool(doing) as pool, rados.ReadOpCtx() as read:
            values, _ = pool.get_omap_vals_by_keys(read, (snapshot,))
            try:
                pool.operate_read_op(read, INDEX)
                return next((value.decode() for _, value in values), None)
            except rados.ObjectNotFound:
                return None

    def snapshot_exists(self, snapshot: str) -> bool:
        id = self.image_of(snapshot)
        if id is None:
            return False
        found = False
        with (
            self._absent_is_fine(),
            self._open(id, f"The snapshots of {self.path(id)} cannot be read") as image,
        ):
            found = _has(image, snapshot)
        return found

    def snapshot_remove(self, snapshot: str) -> None:
        """Remove a snapshot and its copy; absent is as good."""
        if (id := self.image_of(snapshot)) is None:
            return
        self.drop(id, SNAPSHOT + snapshot)
        with self._absent_is_fine():
            doing = f"The snapshot {self.path(id)}@{snapshot} cannot be removed"
            with self._open(id, doing, read_only=False) as image:
                if _has(image, snapshot):
                    image.remove_snap(snapshot)
        with self._connection.pool(f"The snapshot {snapshot} cannot be forgotten") as pool:
            _forget(pool, INDEX, snapshot)

    def rollback(self, id: str, snapshot: str) -> None:
        """Bring an image that nobody has open back to a snapshot, its size too."""
        doing = f"{self.path(id)} cannot be rolled back"
        with self._open(id, doing, read_only=False) as image:
            image.rollback_to_snap(snapshot)

    def flatten(self, id: str) -> None:
        """Copy what an image that nobody has open shares with the snapshot it is a clone of."""
        with self._open(id, f"{self.path(id)} cannot be flattened", read_only=False) as image:
            if _has_parent(image):
                image.flatten()

    def clone(self, snapshot: str, new: str, name: str) -> None:
        """Make an image from a snapshot. Raises BackendError where there is one of this Id."""
        parent = self.image_of(snapshot)
        if parent is None:
            raise BackendError(f"The snapshot {snapshot} is not in {self._connection.place}")
        with self._connection.pool(f"The image of {name} cannot be made") as pool:
            _, rbd = bindings()
            _note(pool, IMAGES, new, name)
            try:
                features = _features(rbd)
                rbd.RBD().clone(pool, parent, snapshot, pool, new, features=features)
            except rbd.ImageExists:
                raise BackendError(
                    f"{self.path(new)} exists already and is left alone; run doctor"
                ) from None


def _wait(write: Any) -> None:
    """Until a write has ended. Raises rbd.Error where it failed."""
    write.wait_for_complete_and_cb()
    if (number := write.get_return_value()) < 0:
        _, rbd = bindings()
        raise rbd.OSError("a write has failed", errno=-number)


class Look:
    """What an image that is open to read only tells."""

    def __init__(self, image: Any) -> None:
        self._image = image

    def clients(self) -> list[str]:
        """The addresses of the clients that have it open to write now; we are none of them."""
        return [str(watcher["addr"]) for watcher in self._image.watchers_list()]

    def head(self, length: int) -> bytes:
        """What it begins with, while nobody writes to it."""
        return bytes(self._image.read(0, length))


def _note(pool: Any, index: str, id: str, of: str) -> None:
    """Say in an index that an Id is ours."""
    rados, _ = bindings()
    with rados.WriteOpCtx() as write:
        pool.set_omap(write, (id,), (of.encode(),))
        pool.operate_write_op(write, index)


def _forget(pool: Any, index: str, id: str) -> None:
    rados, _ = bindings()
    with suppress(rados.ObjectNotFound), rados.WriteOpCtx() as write:
        pool.remove_omap_keys(write, (id,))
        pool.operate_write_op(write, index)


def _noted(pool: Any, index: str) -> set[str]:
    """The Ids in an index."""
    rados, _ = bindings()
    found: set[str] = set()
    last, more = "", True
    while more:
        with rados.ReadOpCtx() as read:
            keys, _ = pool.get_omap_keys(read, last, PAGE)
            try:
                pool.operate_read_op(read, index)
            except rados.ObjectNotFound:
                return found
            page = [key for key, _ in keys]
        found.update(page)
        more = len(page) == PAGE
        last = page[-1] if page else ""
    return found


def found(id: str, what: str, age: float, copy: JSON | None) -> Found:
    """A backend object, with what its copy says."""
    held = copy or {}
    return Found(
        id=id,
        what=what,
        age=age,
        copy=held.get("record"),
        trashed=held.get("trashed"),
        cluster=held.get("cluster", ""),
    )


def _features(rbd: Any) -> int:
    return int(
        rbd.RBD_FEATURE_LAYERING
        | rbd.RBD_FEATURE_EXCLUSIVE_LOCK
        | rbd.RBD_FEATURE_OBJECT_MAP
        | rbd.RBD_FEATURE_FAST_DIFF
    )


def _ask_header(pool: Any, id: str, method: str, *data: bytes) -> None:
    """A method of the class ``rbd`` on an image's header. Raises rados.ObjectNotFound."""
    _, answer = pool.execute(f"rbd_id.{id}", "rbd", "get_id", b"")
    [length] = struct.unpack_from("<I", answer)
    header = answer[4 : 4 + length].decode()
    pool.execute(f"rbd_header.{header}", "rbd", method, b"".join(data))


def _u32(number: int) -> bytes:
    return struct.pack("<I", number)


def _text(text: str) -> bytes:
    raw = text.encode()
    return _u32(len(raw)) + raw


def _has_parent(image: Any) -> bool:
    _, rbd = bindings()
    try:
        image.parent_info()
    except rbd.ImageNotFound:
        return False
    return True


def _has(image: Any, snapshot: str) -> bool:
    return any(one["name"] == snapshot for one in image.list_snaps())


def _read(image: Any) -> dict[str, JSON]:
    values: dict[str, JSON] = {}
    for key, text in image.metadata_list():
        with suppress(ValueError):
            value = json.loads(text)
            if isinstance(value, dict):
                values[key] = value
    return values
