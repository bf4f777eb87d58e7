"""
The doctor: what disagrees between store, backend, mount table and devices on this node.

A finding is one sentence on one thing. With ``fix`` each is mended by the same code that the verbs
use: a dead owner's work is recovered, a lost mount is made again, what nobody knows is removed.
How it looks is in ``looks_at_use.py``, ``looks_at_data.py`` and ``looks_at_cluster.py``.
"""

from collections.abc import Iterator

from ..errors import LibstorageError
from ..records import JSON
from .context import Context, Deadline
from .findings import Finding, Look, seen
from .looks_at_cluster import ClusterLooks
from .looks_at_data import DataLooks
from .looks_at_use import UseLooks
from .rebuild import Rebuild


class Doctor:
    """Finds, and mends where asked."""

    def __init__(
        self,
        context: Context,
        rebuild: Rebuild,
        use: UseLooks,
        data: DataLooks,
        cluster: ClusterLooks,
    ) -> None:
        self._context = context
        self._rebuild = rebuild
        self._use = use
        self._data = data
        self._cluster = cluster

    def examine(self, *, fix: bool, deadline: Deadline) -> list[JSON]:
        """
        All findings, as ``{"Kind", "Name", "Says", "Fixed"}``; Fixed is None where not tried.

        Each look is taken when those before it are mended, so that one pass is enough.
        """
        report = [self._report(finding, fix) for finding in self._untold_to_a_new_store()]
        if report and not report[0]["Fixed"]:
            return report
        for look in self._looks():
            for finding in seen(look, deadline):
                report.append(self._report(finding, fix))
        return report

    def _looks(self) -> tuple[Look, ...]:
        use, data, cluster = self._use, self._data, self._cluster
        return (
            use.fenced,
            use.untold,
            use.operations,
            use.attachments_here,
            use.mount_table,
            use.held,
            data.purges,
            data.records,
            data.in_trash,
            data.backend,
            use.limits,
            data.copied,
            data.room,
            data.ill,
            cluster.unlike,
            cluster.own_housekeeping,
            cluster.housekeeping,
        )

    def tend(self, *, everything: bool, elected: bool) -> Iterator[Finding]:
        """
        What the node's agent has to mend now.

        everything
            Also what takes a look at the whole backend.
        elected
            Also what one node does for all.
        """
        use, data, cluster = self._use, self._data, self._cluster
        untold = list(self._untold_to_a_new_store())
        yield from untold
        if untold:
            return
        looks: tuple[Look, ...] = (
            use.fenced,
            use.untold,
            use.operations,
            use.attachments_here,
            data.purges,
            data.in_trash,
            use.limits,
            cluster.own_housekeeping,
            data.copied,
        )
        if data.room_due():
            looks = (*looks, data.room)
        if everything:
            looks = tuple(look for look in self._looks() if look != cluster.housekeeping)
        if elected:
            looks = (*looks, cluster.housekeeping)
        for look in looks:
            # Nobody is waited for: who lives is left alone, and who is dead shows at the next look.
            yield from (finding for finding in seen(look, Deadline(0)) if finding.mend)

    def mend(self, finding: Finding) -> JSON:
        """Mend what was found; the finding as ``examine`` tells it."""
        return self._report(finding, True)

    def _report(self, finding: Finding, fix: bool) -> JSON:
        fixed: bool | None = None
        says = finding.says
        if fix and finding.mend:
            try:
                finding.mend()
                fixed = True
            except LibstorageError as exc:
                fixed = False
                says = f"{says} It could not be mended: {exc}."
        return {"Kind": finding.kind, "Name": finding.name, "Says": says, "Fixed": fixed}

    def _untold_to_a_new_store(self) -> Iterator[Finding]:
        """Before this is mended, all that is mounted here would seem to be nobody's."""
        if self._context.awaited():
            node = self._context.node
            says = f"The store was made anew, and does not know yet what {node} has."
            yield Finding("node", node, says, self._rebuild.join)
