"""The one error."""


class Refused(Exception):
    """The container is not started: one sentence that names the thing, the reason, a way out."""
