"""
The store made anew, from the copies of records that lie with the data.

It is asked for by an operator, on an empty store. The volumes and snapshots are written first and
the schema last: until then every other verb is refused, so that a rebuild that dies is simply
made again. Mounts are not touched: what is mounted is attached again, with the users that this
node remembers, else with one user (salt, ``recovered``).

A node knows what lies on it, and what it has mounted; the other nodes have theirs. So ``rebuilt``
says which nodes have told. Another one's doctor, or agent, first does so (``join``), and takes
nothing for a stray mount before; it only adds what the store does not have.
"""

from dataclasses import replace

from ..errors import ConfigInvalid, InvalidInput, StoreUnavailable
from ..host import mounts
from ..records import ATTACHED, JSON, Attachment, Snapshot, Trashed, User, Volume, now
from ..store.contract import KeyAbsent, KeyAtRevision, Put
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
            if self._context.awaited():
                return self.join()
            raise InvalidInput("The store is not empty: only a lost one is made anew")
        cluster, found = self._copies()
        told = self._tell(found)
        for name in self._profiles.restore(cluster):
            told.append(_told(name, f"The QoS profile {name} was made anew from its copy."))
        self._sign()
        self._context.found(cluster)
        return told

    def join(self) -> list[JSON]:
        """Add what this node alone knows to a store that was made anew; findings as of ``run``."""
        cluster = self._context.cluster
        copies = [copy for c in self._context.controllers.all() for copy in c.copies()]
        told = self._tell([copy for copy in copies if copy["cluster"] == cluster])
        self._sign()
        return told

    def _sign(self) -> None:
        """This node has told what it knows."""
        while True:
            entry = self._store.get(keys.REBUILT, linearizable=True)
            nodes = entry.value["Nodes"] if entry else []
            compare = KeyAtRevision(entry.key, entry.revision) if entry else KeyAbsent(keys.REBUILT)
            value = {"Nodes": sorted({*nodes, self._context.node})}
            if self._store.transact([compare], [Put(keys.REBUILT, value)]) is not None:
                return

    def _tell(self, found: list[JSON]) -> list[JSON]:
        """Write what the copies say, where the store has nothing, and what is mounted here."""
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
        told += [self._attachment(volume) for volume in volumes.values() if self._known(volume)]
        told += [self._trashed(copy) for copy in found if "trashed" in copy]
        return [finding for finding in told if finding]

    def _known(self, volume: Volume) -> bool:
        """Is it this volume that the store has under its name?"""
        entry = self._store.get(keys.volume(volume.name))
        return entry is not None and entry.value["Id"] == volume.id

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
        made = self._add(keys.volume(volume.name), volume.to_json())
        if controller.node_local(volume) and self._known(volume):
            self._add(keys.data(volume.name, self._context.node), self._data(volume))
        if not made:
            return {}
        return _told(volume.name, f"The record of {volume.name} was made anew from its copy.")

    def _data(self, volume: Volume) -> JSON:
        """What the store keeps of this node's own data of a volume."""
        made = self._context.controller(volume).exists(volume)
        return {"id": volume.id, "made": made, "boot_id": self._context.boot_id()}

    def _add(self, key: str, value: JSON) -> bool:
        """Write what is not there; was it so?"""
        return self._store.transact([KeyAbsent(key)], [Put(key, value)]) is not None

    def _trashed(self, copy: JSON) -> JSON:
        """A removed volume is in the trash again, for as long as it was to be."""
        volume = Volume.from_json(copy["record"])
        local = self._context.controller(volume).node_local(volume)
        trashed = Trashed(
            volume=volume,
            at=copy["trashed"]["At"],
            until=copy["trashed"]["Until"],
            by=copy["trashed"]["By"],
            parent=copy["trashed"]["Parent"],
            nodes={self._context.node: self._data(volume)} if local else {},
        )
        if not self._add(keys.trash(volume.id), trashed.to_json()):
            return {}
        return _told(volume.name, f"{volume.name} is in the trash again, as its copy says.")

    def _snapshot(self, snapshot: Snapshot, clones: dict[str, list[str]]) -> JSON:
        name = snapshot.full_name
        record = {**snapshot.to_json(), "Children": clones.get(name, [])}
        if not self._add(keys.snapshot(snapshot.volume, snapshot.name), record):
            return {}
        return _told(name, f"The record of {name} was made anew from its copy.")

    def _attachment(self, volume: Volume) -> JSON:
        """What is mounted stays so, and is attached again."""
        point = self._context.config.mount_root / volume.name
        mounted = mounts.at(point)
        if mounted is None:
            return {}
        # Anything but a volume's own device is told by what the mount point itself shows.
        own = mounted.source.startswith(("/dev/loop", "/dev/rbd", "/dev/nbd"))
        attachment = Attachment(
            volume=volume.name,
            node=self._context.node,
            id=volume.id,
            status=ATTACHED,
            boot_id=self._context.boot_id(),
            mountpoint=str(point),
            device=mounted.source if own else str(point),
            users=(User(engine="salt", id=RECOVERED, at=now()),),
            shared=volume.shared,
        )
        held = self._memory.recall(volume.name)
        if held is not None and held["Id"] == volume.id:
            was = Attachment.from_json(held)
            attachment = replace(
                attachment,
                device=was.device,
                client=was.client,
                users=was.users,
                places=was.places,
                limited=was.limited,
            )
        if not self._add(keys.attachment(volume.name, self._context.node), attachment.to_json()):
            return {}
        who = ", ".join(user.who for user in attachment.users)
        return _told(volume.name, f"{volume.name} is mounted, and attached again for {who}.")


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
