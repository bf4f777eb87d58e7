"""The bridge as a process of its own, on a site."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import yaml

from lab.site import NODE, Site

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60


class Bridge:
    """
    One bridge.

    folder
        Its configuration and its administration's socket are below.
    driver
        The driver's socket.
    """

    def __init__(
        self, folder: Path, site: Site, driver: Path, engine: Path, node: str = NODE
    ) -> None:
        self.driver = driver
        self._engine = engine
        self.admin = folder / "admin.sock"
        self._folder = folder
        self._config = _configure(folder, node, site.settings(node))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)
        self.driver.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def start(self) -> None:
        """Start it, and wait until both sockets answer."""
        command = [
            *(sys.executable, "-m", "dsvolume_bridge", f"--config-dir={self._config}"),
            *(f"--driver-socket={self.driver}", f"--admin-socket={self.admin}"),
            f"--engine={self._engine}",
        ]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": f"{ROOT / 'plugin'}:{ROOT / 'salt/_utils'}"},
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while not (_answers(self.driver) and _answers(self.admin)):
            assert self._process.poll() is None, self.log[-2000:]
            assert time.monotonic() < until, self.log[-2000:]
            time.sleep(0.02)

    def kill(self) -> None:
        """``kill -9``."""
        assert self._process
        self._process.kill()
        self._process.wait(20)

    def stop(self) -> int:
        """SIGTERM; returns its exit status."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(100)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as one, suppress(OSError):
        one.connect(str(path))
        return True
    return False


def _configure(folder: Path, node: str, dsvolume: dict[str, Any]) -> Path:
    """A minion's configuration that uses the checkout; returns its directory."""
    config = {
        "id": node,
        "file_client": "local",
        "root_dir": str(folder / "salt"),
        "module_dirs": [str(ROOT / "salt")],
        "file_roots": {"base": [str(ROOT / "salt")]},
        "enable_fqdns_grains": False,
        "log_level": "error",
        "dsvolume": dsvolume,
    }
    (folder / "etc").mkdir(parents=True, exist_ok=True)
    (folder / "etc" / "minion").write_text(yaml.safe_dump(config))
    return folder / "etc"
