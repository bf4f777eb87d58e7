"""Who asks, where a door calls another one's functions: the bridge calls the Salt module's."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .records import JSON

_ASKER: ContextVar[JSON | None] = ContextVar("asker", default=None)


@contextmanager
def asked_by(asker: JSON) -> Iterator[None]:
    """Within, in this thread or task, what is called is asked for by ``asker``."""
    token = _ASKER.set(asker)
    try:
        yield
    finally:
        _ASKER.reset(token)


def asker() -> JSON | None:
    """Who that is; None where nobody said."""
    return _ASKER.get()
