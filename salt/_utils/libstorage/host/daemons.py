"""Daemons that outlive who started them, and the service that he belongs to."""

from pathlib import Path

from .commands import LIMIT, Work

_SYSTEMD = Path("/run/systemd/system")


def run(work: Work, *argv: str, limit: float = LIMIT, folder: Path | None = None) -> str:
    """
    Run the command that starts such a daemon, and return what it wrote to standard output.

    systemd ends what belongs to a service with it: there the daemon gets a scope of its own. Always
    it leads a session of its own. Arguments and errors are those of :meth:`Work.run`.
    """
    scope = ("systemd-run", "--scope", "--quiet", "--collect") if _SYSTEMD.is_dir() else ()
    return work.run(*scope, *argv, limit=limit, session=True, folder=folder)
