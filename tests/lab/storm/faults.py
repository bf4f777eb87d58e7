"""The faults of a storm: each begins, lasts for a while, and is over."""

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lab.etcd import Cluster, Member
from lab.network import Network
from lab.site import LEASE
from lab.storm.nodes import Node, Running


class Faults:
    """Makes faults on nodes, their network and the store."""

    def __init__(
        self, nodes: list[Node], network: Network, cluster: Cluster, choose: random.Random
    ) -> None:
        self._nodes = nodes
        self._network = network
        self._cluster = cluster
        self._choose = choose
        self.kinds: dict[str, tuple[int, Callable[[], Iterator[str]]]] = {
            "worker killed": (6, self._worker_killed),
            "worker stopped": (5, self._worker_stopped),
            "agent killed": (3, self._agent_killed),
            "agent stopped": (2, self._agent_stopped),
            "leader killed": (2, self._leader_killed),
            "two members away": (2, self._two_away),
            "member stopped": (2, self._member_stopped),
            "node cut off": (3, self._cut),
            "node rebooted": (2, self._rebooted),
        }
        """Each kind, how often it is taken, and itself; it yields what it has met."""

    def pick(self, used: tuple[str, ...] = ()) -> str:
        """A kind that is not among those used; the store has one fault at a time."""
        ruled_out = set(used)
        if ruled_out & _OF_STORE:
            ruled_out |= _OF_STORE
        free = [kind for kind in self.kinds if kind not in ruled_out]
        return self._choose.choices(free, [self.kinds[kind][0] for kind in free])[0]

    @contextmanager
    def on(self, kind: str) -> Iterator[str]:
        """Let one last for as long as the context does; what it has met."""
        run = contextmanager(self.kinds[kind][1])
        with run() as met:
            yield f"{kind}: {met}"

    # -- processes

    def _worker_killed(self) -> Iterator[str]:
        running = self._choose.choice([w for node in self._nodes for w in node.workers])
        running.signal(signal.SIGKILL)
        yield running.name

    def _worker_stopped(self) -> Iterator[str]:
        """For longer than its lease; whoever recovers its work on its node ends it."""
        yield from self._stopped(
            self._choose.choice([w for node in self._nodes for w in node.workers])
        )

    def _agent_killed(self) -> Iterator[str]:
        node = self._choose.choice(self._nodes)
        node.agent.signal(signal.SIGKILL)
        node.agent.wanted = False
        yield node.agent.name
        node.agent.wanted = True

    def _agent_stopped(self) -> Iterator[str]:
        yield from self._stopped(self._choose.choice(self._nodes).agent)

    def _stopped(self, running: Running) -> Iterator[str]:
        running.signal(signal.SIGSTOP)
        try:
            yield running.name
        finally:
            running.signal(signal.SIGCONT)

    def _rebooted(self) -> Iterator[str]:
        node = self._choose.choice(self._nodes)
        node.power_off()
        yield node.name
        node.power_on()

    # -- network and store

    def _cut(self) -> Iterator[str]:
        node = self._choose.choice(self._nodes)
        self._network.cut(node.name)
        try:
            yield node.name
        finally:
            self._network.mend(node.name)

    def _leader_killed(self) -> Iterator[str]:
        leader = self._choose.choice(self._cluster.members)
        with suppress(AssertionError):
            leader = self._cluster.leader()
        yield from self._away([leader])

    def _two_away(self) -> Iterator[str]:
        yield from self._away(self._choose.sample(self._cluster.members, 2))

    def _away(self, members: list[Member]) -> Iterator[str]:
        for member in members:
            member.kill(self._choose.choice([signal.SIGKILL, signal.SIGTERM]))
        try:
            yield ", ".join(member.name for member in members)
        finally:
            for member in members:
                member.start()
            self._cluster.wait()

    def _member_stopped(self) -> Iterator[str]:
        member = self._choose.choice(self._cluster.members)
        member.freeze()
        try:
            yield member.name
        finally:
            member.thaw()
            self._cluster.wait()

    def lasts(self) -> float:
        """Seconds that faults last: sometimes less than a lease, mostly longer."""
        return self._choose.uniform(0.3, 4 * LEASE)


_OF_STORE = {"leader killed", "two members away", "member stopped"}
