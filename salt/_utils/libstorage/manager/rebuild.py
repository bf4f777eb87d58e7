"""
The store made anew, from the copies of records that lie with the data.

It is asked for by an operator, on an empty store. The volumes and snapshots are written first and
the schema last: until then every other verb is refused, so that a rebuild that dies is simply
made again. Mounts are not touched: what is mounted is attached again, with the users that this
node remembers, else with one user (salt, ``recovered``).
"""

from ..errors import ConfigInvalid, InvalidInput, StoreUnavailable
from ..host import mounts
from ..records import ATTACHED, JSON, Attachment, Snapshot, Trashed, User, Volume, now
from ..store.contract import KeyAbsent, Put, Write
from . import keys
from .context import Context
from .memory import AttachmentMemory
from .profiles import Profiles

RECOVERED = "recovered"


class Rebuild:
    """Makes an empty store anew."""

    def __init__(self, context: Context, profiles: Profiles) -> None:
        self._context = context
        self._profiles = profiles
        self._store = context.store
        self._memory = AttachmentMemory(context)

    def run(self) -> list[JSON]:
        """
        Write what the copies say, as findings that are fixed.

        Raises InvalidInput where the store is not empty, ConfigInvalid where the copies are of
        several clusters, StoreUnavailable where there are none.
        """
        if self._context.schema() is not None:
            raise InvalidInput("The store is not empty: only a lost one is made anew")
        cluster, found = self._copies()
        copies = [copy["record"] for copy in found if "trashed" not in copy]
        volumes = _newest(copies)
        clones: dict[str, list[str]] = {}
        for volume in sorted(volumes.values(), key=lambda volume: volume.created_at):
            if volume.parent_snapshot:
                clones.setdefault(volume.parent_snapshot, []).append(volume.name)
        told = [self._volume(volume) for volume in volumes.values()]
        for record in copies:
            if "Volume" in record and record["Volume"] in volumes:
                told.append(self._snapshot(Snapshot.from_json(record), clones))
        for volume in volumes.values():
            told += self._attachment(volume)
        for name in self._profiles.restore(cluster):
            told.append(_told(name, f"The QoS profile {name} was made anew from its copy."))
        told += [self._trashed(copy) for copy in found if "trashed" in copy]
        self._context.found(cluster)
        return told

    def _copies(self) -> tuple[str, list[JSON]]:
        """The one cluster's id, and its copies."""
        copies = [copy for c in self._context.controllers.all() for copy in c.copies()]
        clusters = sorted({str(copy["cluster"]) for copy in copies})
        if not clusters:
            raise StoreUnavailable("No copy of a record lies with any data: there is nothing here")
        if len(clusters) > 1:
            raise ConfigInvalid(
                f"The data here are of several clusters ({', '.join(clusters)}): move away those "
                f"of all but one"
            )
        return clusters[0], copies

    def _volume(self, volume: Volume) -> JSON:
        controller = self._context.controller(volume)
        writes: list[Write] = [Put(keys.volume(volume.name), volume.to_json())]
        if controller.node_local(volume):
            made = controller.exists(volume)
            data = {"id": volume.id, "made": made, "boot_id": self._context.boot_id()}
            writes.append(Put(keys.data(volume.name, self._context.node), data))
        self._store.transact([KeyAbsent(keys.volume(volume.name))], writes)
        return _told(volume.name, f"The record of {volume.name} was made anew from its copy.")

    def _trashed(self, copy: JSON) -> JSON:
        """A removed volume is in the trash again, for as long as it was to be."""
        volume = Volume.from_json(copy["record"])
        controller = self._context.controller(volume)
        data: JSON = {}
        if controller.node_local(volume):
            made = controller.exists(volume)
            data = {"id": volume.id, "made": made, "boot_id": self._context.boot_id()}
        trashed = Trashed(
            volume=volume,
            at=copy["trashed"]["At"],
            until=copy["trashed"]["Until"],
            by=copy["trashed"]["By"],
            parent=copy["trashed"]["Parent"],
            nodes={self._context.node: data} if data else {},
        )
        key = keys.trash(volume.id)
        self._store.transact([KeyAbsent(key)], [Put(key, trashed.to_json())])
        return _told(volume.name, f"{volume.name} is in the trash again, as its copy says.")

    def _snapshot(self, snapshot: Snapshot, clones: dict[str, list[str]]) -> JSON:
        name = snapshot.full_name
        record = {**snapshot.to_json(), "Children": clones.get(name, [])}
        key = keys.snapshot(snapshot.volume, snapshot.name)
        self._store.transact([KeyAbsent(key)], [Put(key, record)])
        return _told(name, f"The record of {name} was made anew from its copy.")

    def _attachment(self, volume: Volume) -> list[JSON]:
        """What is mounted stays so, and is attached again."""
        point = self._context.config.mount_root / volume.name
        mounted = mounts.at(point)
        if mounted is None:
            return []
        held = self._memory.recall(volume.name)
        remembered = Attachment.from_json(held) if held else None
        if remembered is not None and remembered.id == volume.id:
            users, device, limited = remembered.users, remembered.device, remembered.limited
            places = remembered.places
        else:
            limited, places = (), ()
            users = (User(engine="salt", id=RECOVERED, at=now()),)
            # Anything but a loop device is told by what the mount point itself shows.
            loop = mounted.source.startswith("/dev/loop")
            device = mounted.source if loop else str(point)
        attachment = Attachment(
            volume=volume.name,
            node=self._context.node,
            id=volume.id,
            status=ATTACHED,
            boot_id=self._context.boot_id(),
            mountpoint=str(point),
            device=device,
            users=users,
            places=places,
            limited=limited,
            shared=volume.shared,
        )
        key = keys.attachment(volume.name, self._context.node)
        self._store.transact([KeyAbsent(key)], [Put(key, attachment.to_json())])
        who = ", ".join(user.who for user in users)
        return [_told(volume.name, f"{volume.name} is mounted, and attached again for {who}.")]


def _newest(copies: list[JSON]) -> dict[str, Volume]:
    """The volumes by name; of two copies of one name the one that was changed more often."""
    found: dict[str, Volume] = {}
    for record in copies:
        if "Policy" not in record:
            continue
        volume = Volume.from_json(record)
        if volume.name not in found or found[volume.name].revision < volume.revision:
            found[volume.name] = volume
    return found


def _told(name: str, says: str) -> JSON:
    return {"Kind": "rebuilt", "Name": name, "Says": says, "Fixed": True}
