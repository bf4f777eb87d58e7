"""The door: docker's question who this is, before anything else is loaded, then the command."""

from . import DESCRIPTION, __version__

METADATA = (
    f'{{"SchemaVersion":"0.1.0","Vendor":"libstorage-salt","Version":"{__version__}",'
    f'"ShortDescription":"{DESCRIPTION}"}}'
)
"""JSON, written out: docker asks for it before each command, and waits."""


def main(argv: "list[str]") -> int:
    """Do what the command line says; returns the exit status."""
    if argv[1:2] == ["docker-cli-plugin-metadata"]:
        print(METADATA)
        return 0
    from .run import run  # noqa: PLC0415

    return run(argv[1:])
