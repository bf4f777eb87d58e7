"""Removed volumes as the table that operators know; other answers (an error) as Salt shows them."""

import salt.output

try:
    from libstorage import display

    MISSING = ""
except ImportError as exc:
    MISSING = str(exc)


def __virtual__():
    return (False, f"libstorage is not here: {MISSING}") if MISSING else "dsvolume_trash"


def output(data, **kwargs):
    """Show the removed volumes that one or more minions answered with."""
    return display.by_minion(
        data, display.trash, lambda rest: salt.output.out_format(rest, "nested", __opts__)
    )
