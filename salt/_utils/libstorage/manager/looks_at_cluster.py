"""The doctor's looks at nodes, and at what is to be forgotten as time passes."""

from collections.abc import Iterator
from functools import partial

from .context import Context, Deadline
from .delegation import Delegation
from .events import Events
from .fencing import Fencing
from .findings import DOCTOR, Finding
from .nodes import Nodes
from .owners import Owners
from .requests import Requests


class ClusterLooks:
    """Looks at the cluster's own keys."""

    def __init__(
        self,
        context: Context,
        owners: Owners,
        events: Events,
        requests: Requests,
        delegation: Delegation,
        fencing: Fencing,
        nodes: Nodes,
    ) -> None:
        self._context = context
        self._owners = owners
        self._events = events
        self._requests = requests
        self._delegation = delegation
        self._fencing = fencing
        self._nodes = nodes

    def unlike(self, deadline: Deadline) -> Iterator[Finding]:
        """Nodes whose settings or libstorage are not those of the others."""
        for name, says in self._nodes.differing():
            yield Finding("node", name, says)

    def own_housekeeping(self, deadline: Deadline) -> Iterator[Finding]:
        """What each node has to forget of its own."""
        gone = self._owners.gone()
        if gone:
            says = f"Processes that are gone are registered as owners ({len(gone)})."
            yield Finding("owners", self._context.node, says, self._owners.sweep)
        if self._delegation.old():
            says = "Answers to other nodes are kept that were asked for long ago."
            yield Finding("requests", self._context.node, says, self._delegation.forget_old)

    def housekeeping(self, deadline: Deadline) -> Iterator[Finding]:
        """What one node does for all as time passes; said only where something is to do."""
        if self._events.old():
            says = f"Events are older than {self._context.config.retention:g} days."
            yield Finding("events", self._context.node, says, self._events.forget_old)
        for node in self._fencing.left():
            says = f"{node} is fenced, and still has volumes attached or referred to."
            yield Finding("node", node, says, partial(self._fencing.release, node, DOCTOR))
        if self._requests.old():
            says = "Answers to jobs are kept that ended long ago."
            yield Finding("requests", self._context.node, says, self._requests.forget_old)
