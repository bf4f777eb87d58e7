"""
A real Podman in a directory of its own.

It has no daemon: each command works by itself on what is in the directory. Its volume driver is
named in its configuration.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

from lab.docker import IMAGE, Failed, make_image
from libstorage.host import mounts

CONFIG = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[engine.volume_plugins]
dsvolume = "{driver}"
"""


class Podman:
    """
    One Podman.

    folder
        Everything of it is below.
    driver
        The volume driver's socket.
    """

    def __init__(self, folder: Path, driver: Path) -> None:
        self.folder = folder
        self._driver = driver

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        (self.folder / "containers.conf").write_text(CONFIG.format(driver=self._driver))
        image = make_image(self.folder / "image.tar")
        self("import", "--change", "ENV PATH=/bin", str(image), IMAGE)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Failed, subprocess.TimeoutExpired):
            self("rm", "--force", "--all", "--time=0")
        for mount in reversed(mounts.table()):
            if mount.path.is_relative_to(self.folder):
                subprocess.run(["umount", "--lazy", str(mount.path)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __call__(self, *words: str, seconds: float = 60) -> str:
        """What a command says. Raises Failed."""
        place = self.folder
        done = subprocess.run(
            [
                *("podman", f"--root={place / 'root'}", f"--runroot={place / 'run'}"),
                *("--storage-driver=vfs", *words),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env=os.environ | {"CONTAINERS_CONF": str(place / "containers.conf")},
        )
        if done.returncode:
            raise Failed(done.stderr.strip())
        return done.stdout.strip()

    def run(self, *words: str) -> str:
        """``podman run`` without a network."""
        return self("run", "--network=none", *words)
