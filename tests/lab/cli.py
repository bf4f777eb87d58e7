"""``docker dsvolume`` as an operator runs it: by docker, or by its own name."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "plugin/bin/docker-dsvolume"
LIMIT = 60.0


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def data(self) -> Any:
        """What it said as one JSON document."""
        assert self.status == 0, self
        return json.loads(self.out)


class Cli:
    """
    The command line.

    socket
        The bridge's.
    config
        A directory of docker's configuration in which the plugin is linked; the commands are then
        ``docker dsvolume ...``, otherwise ``docker-dsvolume ...``.
    """

    def __init__(self, socket: Path, config: Path | None = None, **env: str) -> None:
        self.env = os.environ | {"DSVOLUME_SOCKET": str(socket), "TZ": "UTC"} | env
        self.front = [str(PROGRAM)]
        if config is not None:
            self.front = ["docker", "--config", str(config), "dsvolume"]

    def __call__(self, *words: str | bytes) -> Said:
        """Run one command."""
        return self.run([*self.front, *words])

    def run(self, command: list[str | bytes] | list[str]) -> Said:
        """Run any command with the same environment."""
        done = subprocess.run(
            command,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def tidy(self) -> None:
        """Remove all volumes, snapshots and profiles."""
        volumes = self("ls", "--format=json").data()
        for row in sorted(volumes, key=lambda row: not row["IsClone"]):
            for one in self("snapshot", "ls", "-v", row["Name"], "--format=json").data():
                self("snapshot", "rm", f"{row['Name']}@{one['Name']}")
            self("unprotect", row["Name"])
            self("umount", row["Name"])
            assert self("rm", "--purge", row["Name"]).status == 0, row
        for row in self("qos", "ls", "--format=json").data()["Profiles"]:
            if row["Name"] != "default":
                assert self("qos", "rm", row["Name"]).status == 0
        assert self("qos", "enable", "--global").status == 0


def plugin_of_docker(folder: Path) -> Path:
    """A directory of docker's configuration in which the plugin is linked."""
    plugins = folder / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-dsvolume").symlink_to(PROGRAM)
    return folder
