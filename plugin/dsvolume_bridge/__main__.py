"""The bridge's command line; ``bin/dsvolume-bridge`` runs it."""

import argparse
import asyncio
import sys
from pathlib import Path

from libstorage import __version__
from libstorage.errors import LibstorageError

from . import logs
from .engine import Engine
from .module import Module, Refused
from .server import Sockets, serve


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dsvolume-bridge", description="Lets Docker call the minion's module dsvolume."
    )
    parser.add_argument(
        "--config-dir", type=Path, default=Path("/etc/salt"), help="the minion's configuration"
    )
    parser.add_argument(
        "--driver-socket",
        type=Path,
        default=Path("/run/docker/plugins/dsvolume.sock"),
        help="where Docker looks for the volume driver",
    )
    parser.add_argument(
        "--podman-socket",
        type=Path,
        default=Path("/run/dsvolume/podman.sock"),
        help="where Podman finds the volume driver",
    )
    parser.add_argument(
        "--admin-socket",
        type=Path,
        default=Path("/run/dsvolume/admin.sock"),
        help="where docker dsvolume calls",
    )
    parser.add_argument(
        "--engine", type=Path, default=Path("/run/docker.sock"), help="the engine's own socket"
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING"))
    parser.add_argument("--log-format", default=logs.FORMATS[0], choices=logs.FORMATS)
    options = parser.parse_args()
    logs.begin(options.log_level, options.log_format)
    try:
        module = Module(options.config_dir)
        sockets = Sockets(options.driver_socket, options.podman_socket, options.admin_socket)
        engine = Engine(options.engine, options.driver_socket.stem)
        asyncio.run(serve(module, sockets, engine))
    except (Refused, LibstorageError, OSError) as exc:
        print(f"dsvolume-bridge: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
