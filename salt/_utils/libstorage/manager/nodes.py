"""
Nodes: who is there, with which boot, configuration and versions.

``nodes/<node>`` is bound to the lease of the node's agent: it goes when the agent does. A name
belongs to one host: an agent that finds it taken by another living boot refuses to start. After a
reboot its own old key may outlive the old boot for a lease; it waits for that.

``drained/<node>`` closes a node to new mounts; ``fenced/<node>`` to every change of a volume, until
it has let go of what it had (``fencing.py``). Whoever claims a volume compares that they are not
there, in the very transaction.
"""

import hashlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict

from .. import __version__
from ..errors import ConfigInvalid, NodeClosed
from ..host import addresses
from ..records import JSON, now
from ..store.contract import Compare, KeyAbsent, KeyAtRevision, Put
from . import keys
from .context import SCHEMA, Context

OWN = ("node", "root", "run_dir", "mount_root", "fetch")
"""Settings that may differ from node to node."""
PATIENCE = 2.0
"""Lease times for which an agent waits for its predecessor's key."""


class Nodes:
    """The nodes' keys; this node's is written by its agent."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def register(self, stop: threading.Event) -> None:
        """
        Say that this node is here, as long as this process lives; or give up at ``stop``.

        Raises ConfigInvalid where another living host has the name.
        """
        _ = self._context.cluster
        until = time.monotonic() + PATIENCE * self._context.config.lease
        while True:
            entry = self._store.get(keys.node(self._context.node), linearizable=True)
            mine = self.describe()
            compare: Compare = KeyAbsent(keys.node(self._context.node))
            if entry is not None:
                compare = KeyAtRevision(entry.key, entry.revision)
                taken = entry.value["BootId"] != mine["BootId"]
                if taken and self._store.alive(entry.value["Owner"]):
                    if time.monotonic() > until:
                        raise ConfigInvalid(
                            f"The node name {self._context.node} belongs to a living host "
                            f"({', '.join(entry.value['Addresses'])}); give this one another "
                            f"minion id"
                        )
                    if stop.wait(min(0.1, self._context.config.lease / 3)):
                        return
                    continue
            key = keys.node(self._context.node)
            if self._store.transact([compare], [Put(key, mine, leased=True)]) is not None:
                return

    def registered(self) -> bool:
        """Is this node's key there, and this process's?"""
        entry = self._store.get(keys.node(self._context.node), linearizable=True)
        return entry is not None and entry.value["Owner"] == self._store.owner()

    def alive(self, node: str) -> bool:
        """Does an agent live on the node?"""
        entry = self._store.get(keys.node(node), linearizable=True)
        return entry is not None and self._store.alive(entry.value["Owner"])

    def living(self, node: str) -> bool:
        """Does any process of the node live, its agent or another?"""
        return self.alive(node) or any(
            entry.value.get("node") == node
            and self._store.alive(entry.key.removeprefix(keys.OWNERS))
            for entry in self._store.list(keys.OWNERS, linearizable=True)
        )

    # -- closed nodes -------------------------------------------------------------------------

    def unfenced(self) -> Compare:
        """That this node may touch volumes."""
        return KeyAbsent(keys.fenced(self._context.node))

    def open(self) -> tuple[Compare, ...]:
        """That new mounts may come to this node."""
        return self.unfenced(), KeyAbsent(keys.drained(self._context.node))

    def need_unfenced(self) -> None:
        """Raise NodeClosed where this node was fenced and has not let go yet."""
        node = self._context.node
        fenced = self._store.get(keys.fenced(node), linearizable=True)
        if fenced is not None:
            raise NodeClosed(
                f"{node} was fenced at {fenced.value['At']}: what it had mounted is no longer its "
                f"own; run doctor fix=True on it"
            )

    def need_open(self) -> None:
        """Raise NodeClosed where this node takes no new mounts."""
        self.need_unfenced()
        node = self._context.node
        drained = self._store.get(keys.drained(node), linearizable=True)
        if drained is not None:
            raise NodeClosed(
                f"{node} is drained since {drained.value['At']} and takes no new mounts; undrain "
                f"it first"
            )

    # -- what is told of them -----------------------------------------------------------------

    def describe(self) -> JSON:
        """What this node's key tells."""
        config = self._context.config
        return {
            "Name": config.node,
            "BootId": self._context.boot_id(),
            "Owner": self._store.owner(),
            "Host": socket.gethostname(),
            "Addresses": addresses.own(),
            "Policies": dict(config.policies),
            "ConfigHash": self.config_hash(),
            "Settings": self.settings(),
            "Versions": {"libstorage": __version__, "schema": SCHEMA},
            "Since": now(),
        }

    def config_hash(self) -> str:
        """Of the settings that all nodes should have alike; secrets of the store are not in it."""
        return _hash(self._shared())

    def settings(self) -> dict[str, str]:
        """The same for each of these settings, so that the doctor can tell which differ."""
        return {name: _hash(value) for name, value in self._shared().items()}

    def _shared(self) -> JSON:
        shared = {k: v for k, v in asdict(self._context.config).items() if k not in OWN}
        return shared | {"store": {"kind": shared["store"].get("kind")}}

    def differing(self) -> Iterator[tuple[str, str]]:
        """
        Living nodes that have other settings, or another libstorage, than most; as sentences.

        Where none is usual, this process is the measure; so it is for the agent of its own node.
        """
        here = self._context.node
        mine: JSON = {"Settings": self.settings(), "Versions": {"libstorage": __version__}}
        living = {v["Name"]: v for v in self._store.values(keys.NODES) if self._lives(v)}
        if here in living and (words := _unlike(living[here], mine)):
            yield here, f"The agent of {here} has {words} than this call: restart the minion."
        nodes = {**living, here: mine}
        usual = _usual(nodes.values(), mine)
        for name in sorted(nodes):
            if words := _unlike(nodes[name], usual):
                yield (
                    name,
                    f"{name} has {words} than the others: bring it up to date and restart its "
                    f"minion, unless it is meant so.",
                )

    def _lives(self, node: JSON) -> bool:
        return self._store.alive(node["Owner"])

    def known(self) -> list[str]:
        """Every node that any key tells of, by name."""
        names = {row["Name"] for row in self.ls()}
        names |= {value.get("node") for value in self._store.values(keys.OWNERS)}
        names |= {entry.key.split("/")[1] for entry in self._store.list("purge/")}
        names |= {entry.key.rpartition("/")[2] for entry in self._store.list(keys.REFERENCES)}
        for value in self._store.values(keys.OPERATIONS):
            names |= {value["Node"], value["Arguments"].get("Node")}
        for value in self._store.values(keys.TRASH):
            names |= {value["Volume"]["Node"], *value["Nodes"]}
        return sorted(name for name in names if name)

    def ls(self) -> list[JSON]:
        """
        Every node that has an agent, an attachment or data, by name.

        ``Alive`` says whether its agent lives; ``Drained`` and ``Fenced``, where they are there,
        since when; ``Attached`` and ``Data`` count volumes.
        """
        rows: dict[str, JSON] = {}
        for value in self._store.values(keys.NODES):
            row = {k: v for k, v in value.items() if k not in ("Owner", "Settings")}
            rows[value["Name"]] = {**row, "Alive": self._lives(value)}
        for prefix, field in ((keys.DRAINED, "Drained"), (keys.FENCED, "Fenced")):
            for entry in self._store.list(prefix):
                name = entry.key.removeprefix(prefix)
                rows.setdefault(name, {"Name": name, "Alive": False})[field] = entry.value["At"]
        for prefix, field in ((keys.ATTACHMENTS, "Attached"), ("data/", "Data")):
            for entry in self._store.list(prefix):
                name = entry.key.rpartition("/")[2]
                row = rows.setdefault(name, {"Name": name, "Alive": False})
                row[field] = row.get(field, 0) + 1
        for value in self._store.values(keys.VOLUMES):
            if value["Node"]:
                row = rows.setdefault(value["Node"], {"Name": value["Node"], "Alive": False})
                row["Data"] = row.get("Data", 0) + 1
        return [{"Attached": 0, "Data": 0, **rows[name]} for name in sorted(rows)]


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _usual(nodes: Collection[JSON], otherwise: JSON) -> JSON:
    """What more than half of the nodes have of each setting and version."""
    usual: JSON = {}
    for field in ("Settings", "Versions"):
        usual[field] = dict(otherwise[field])
        for name in otherwise[field]:
            value, times = Counter(n.get(field, {}).get(name) for n in nodes).most_common(1)[0]
            if times * 2 > len(nodes):
                usual[field][name] = value
    return usual


def _unlike(node: JSON, measure: JSON) -> str:
    """In which way a node differs; "" where it does not, or does not tell."""
    told = node.get("Settings", {})
    settings = [n for n, value in measure["Settings"].items() if told.get(n, value) != value]
    words = [f"other settings ({', '.join(sorted(settings))})"] if settings else []
    version = node["Versions"]["libstorage"]
    if version != measure["Versions"]["libstorage"]:
        words.append(f"another libstorage ({version})")
    return " and ".join(words)
