"""Answers of the runner dsvolume as tables and lines; others (an error) as Salt shows them."""

import salt.output

try:
    from libstorage import display

    MISSING = ""
except ImportError as exc:
    MISSING = str(exc)


def __virtual__():
    return (False, f"libstorage is not here: {MISSING}") if MISSING else "dsvolume_cluster"


def output(data, **kwargs):
    """Show what a function of the runner answered."""

    def nested(rest):
        return salt.output.out_format(rest, "nested", __opts__)

    if not isinstance(data, dict):
        return nested(data)
    return display.cluster({k: v for k, v in data.items() if k != "outputter"}, nested)
