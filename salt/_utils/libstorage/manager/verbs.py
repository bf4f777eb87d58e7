"""What each group of verbs has in hand."""

from dataclasses import replace

from ..errors import Elsewhere, NotHere
from ..records import Volume
from .attachments import Attachments
from .context import Context
from .events import Events
from .journal import Journal
from .lookup import Lookup
from .nodes import Nodes


class Verbs:
    """The base of the classes that hold verbs; each tells the journal its rules."""

    def __init__(
        self,
        context: Context,
        journal: Journal,
        lookup: Lookup,
        attachments: Attachments,
        events: Events,
    ) -> None:
        self._context = context
        self._store = context.store
        self._journal = journal
        self._lookup = lookup
        self._attachments = attachments
        self._events = events
        self._nodes = Nodes(context)
        self._tell_rules(journal)

    def _need_here(self, volume: Volume, verb: str, *, test: bool = False) -> None:
        """
        Raise Elsewhere where another node has the volume's data, NotHere if no agent lives there.

        test
            What would come of it the records tell.
        """
        if volume.node in ("", self._context.node):
            return
        if not self._nodes.alive(volume.node):
            raise NotHere(
                f"{volume.name} has its data on {volume.node}, where no agent is running; "
                f"{verb} it there, or start the engine dsvolume_agent there"
            )
        if not test:
            raise Elsewhere(volume.node)

    def _need_where_attached(self, volume: Volume, verb: str, *, test: bool = False) -> None:
        """
        Raise as ``_need_here`` where data that all nodes can reach are attached on another one.

        It alone can freeze the filesystem, or let it grow.
        """
        if volume.node or self._context.controller(volume).node_local(volume):
            return
        for attachment in self._attachments.everywhere(volume.name):
            if attachment.node != self._context.node:
                self._need_here(replace(volume, node=attachment.node), verb, test=test)

    def _tell_rules(self, journal: Journal) -> None:
        """Tell what recovery does for each verb that is an operation."""
