"""What each group of verbs has in hand."""

from .attachments import Attachments
from .context import Context
from .events import Events
from .journal import Journal
from .lookup import Lookup


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
        self._tell_rules(journal)

    def _tell_rules(self, journal: Journal) -> None:
        """Tell what recovery does for each verb that is an operation."""
