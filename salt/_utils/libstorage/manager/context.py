"""What the parts of the manager share: configuration, store, controllers, and this node."""

import time
import uuid
from functools import cached_property

from .. import __version__
from ..config import Config
from ..controllers import Controllers
from ..controllers.contract import Controller
from ..errors import ConfigInvalid, NotHere, OperationInProgress, StoreUnavailable
from ..host import mounts, node
from ..records import Volume
from ..store.contract import Entry, KeyAbsent, Put, Store
from . import keys

SCHEMA = 1
CLOCKS_DIFFER = 3600.0
"""Seconds by which the nodes' clocks may differ; what is older by them is kept so much longer."""


class Deadline:
    """The end of a call's patience."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def check(self, otherwise: str) -> None:
        """Raise OperationInProgress with the text once the time is over."""
        if not self.left():
            raise OperationInProgress(otherwise)


HURRY = 0.5
"""Seconds that an engine gives a store which has just been away."""


class Context:
    """One manager's surroundings. Cheap to make: nothing is opened or written before its use."""

    def __init__(self, config: Config, store: Store) -> None:
        self.config = config
        self.store = store
        self.node = config.node
        self.controllers = Controllers(config)
        self._ours = ""
        self._away = False

    def controller(self, volume: Volume) -> Controller:
        return self.controllers.named(volume.voltype)

    def boot_id(self) -> str:
        return node.boot_id(self.config.run_dir)

    def seen_boot_id(self) -> str:
        """The boot id, "" where nothing has needed one since the boot: reading makes none."""
        return node.read_boot_id(self.config.run_dir)

    @property
    def cluster(self) -> str:
        """
        The cluster's id; the first writer makes it. Raises as :meth:`need_store`.

        What this call has read already is not read again: every verb begins with need_store.
        """
        cluster = self._ours or self.schema()
        if cluster is None:
            self.need_store()
            self.found(str(uuid.uuid4()))
            cluster = self.schema()
        if cluster is None:
            raise StoreUnavailable("The store holds a manager but no schema; restore its schema")
        return cluster

    def awaited(self) -> bool:
        """Was the store made anew by another node, and has not heard yet what this one has?"""
        rebuilt = self.store.get(keys.REBUILT)
        return rebuilt is not None and self.node not in rebuilt.value["Nodes"]

    def found(self, cluster: str) -> None:
        """Make a store without schema that of this cluster, unless somebody is faster."""
        self.store.transact(
            [KeyAbsent(keys.SCHEMA), KeyAbsent(keys.MANAGER)],
            [
                Put(keys.SCHEMA, {"version": SCHEMA, "cluster": cluster}),
                Put(keys.MANAGER, {"name": self.config.manager, "version": __version__}),
            ],
        )

    def need_store(self, *, hurried: bool = False) -> None:
        """
        Raise ConfigInvalid for a foreign store, StoreUnavailable for a lost one.

        hurried
            Where the store was away just now, it has to answer within HURRY seconds.

        A store that is empty while this node holds volumes was lost: to answer from it would make
        every volume unknown, and somebody would create empty ones in their place.
        """
        try:
            if hurried and self._away:
                self.store.probe(HURRY)
            schema = self.schema()
        except StoreUnavailable:
            self._away = True
            raise
        self._away = False
        if schema is not None:
            return
        for controller in self.controllers.all():
            for copy in controller.copies():
                raise StoreUnavailable(
                    f"The store is empty, but this node holds volumes ({copy['record']['Name']}): "
                    f"restore the store, make it anew (doctor rebuild=True), or move them away"
                )

    def schema(self) -> str | None:
        """The cluster's id, None while nothing was ever written; checks that it is our store."""
        schema = self.store.get(keys.SCHEMA)
        if schema is None:
            self._ours = ""
            return None
        if schema.value["version"] > SCHEMA:
            raise ConfigInvalid(
                f"The store has schema {schema.value['version']}, this libstorage "
                f"{__version__} knows {SCHEMA}; update this node"
            )
        cluster = str(schema.value["cluster"])
        if cluster != self._ours:
            self._check_manager()
            self._ours = cluster
        return cluster

    def _check_manager(self) -> None:
        manager = self.store.get(keys.MANAGER)
        if manager is not None and manager.value["name"] != self.config.manager:
            raise ConfigInvalid(
                f"This cluster's volume manager is {manager.value['name']}, this node is "
                f"configured with {self.config.manager} (pillar dsvolume:manager)"
            )

    @cached_property
    def _may_mount(self) -> bool:
        return self.config.mount_namespace == "own" or mounts.in_host_namespace()

    def need_mount_namespace(self) -> None:
        """Raise NotHere where a mount made by this process would be seen by nobody else."""
        if not self._may_mount:
            raise NotHere(
                "This process has a mount namespace of its own, where the host would not see its "
                "mounts; call from the host's (PID 1's), or set dsvolume:mount_namespace to own"
            )

    def await_change(self, entry: Entry, seconds: float) -> None:
        """Wait until the entry's key is changed or deleted, ``seconds`` at most."""
        for _ in self.store.watch(entry.key, entry.revision + 1, timeout=max(seconds, 0.001)):
            return
