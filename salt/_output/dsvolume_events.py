"""Events as lines; other answers (an error) as Salt shows them."""

import salt.output

try:
    from libstorage import display

    MISSING = ""
except ImportError as exc:
    MISSING = str(exc)


def __virtual__():
    return (False, f"libstorage is not here: {MISSING}") if MISSING else "dsvolume_events"


def output(data, **kwargs):
    """Show the events that one or more minions answered with."""
    return display.by_minion(
        data, display.events, lambda rest: salt.output.out_format(rest, "nested", __opts__)
    )
