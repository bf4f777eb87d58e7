"""The bridge as a process of its own, on a site."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import yaml

from lab.site import NODE, Site

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
PASSED = 3
"""The first descriptor of those that systemd passes (man 3 sd_listen_fds)."""
PASSING = 'exec {fds}; export LISTEN_FDS={count} LISTEN_PID="$$"; exec "$@"'
"""The bridge has the process id of the shell that has put its sockets where it looks for them."""
MAIN = "from dsvolume_bridge.__main__ import main; raise SystemExit(main())"
ASKS = b"POST /VolumeDriver.Capabilities HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
RESTART = 0.1
"""Seconds, as RestartSec of its unit."""


class Bridge:
    """
    One bridge.

    folder
        Its configuration and its administration's socket are below.
    driver
        The driver's socket.
    held
        Its sockets are held here, as systemd holds them, and it is started again whenever it dies:
        requests wait meanwhile.
    before
        Python that runs in its process first: what a test changes in it.
    """

    def __init__(
        self,
        folder: Path,
        site: Site,
        driver: Path,
        engine: Path,
        node: str = NODE,
        *,
        held: bool = False,
        before: str = "",
    ) -> None:
        self.driver = driver
        self._held = held
        self._before = before
        self._sockets: list[socket.socket] = []
        self._ending = threading.Event()
        self._supervisor: threading.Thread | None = None
        self._engine = engine
        self.admin = folder / "admin.sock"
        self.podman = folder / "podman.sock"
        self._folder = folder
        self._config = _configure(folder, node, site.settings(node))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._held:
            self._sockets = [_listen(path) for path in (self.driver, self.podman, self.admin)]
        self.start()
        if self._held:
            self._supervisor = threading.Thread(target=self._supervise, name="supervisor")
            self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._supervisor is not None:
            self._supervisor.join(20)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)
        for one in self._sockets:
            one.close()
        self.driver.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._begin()
        self.wait()

    def _begin(self) -> None:
        run = ["-m", "dsvolume_bridge"]
        if self._before:
            run = ["-c", f"{self._before}\n{MAIN}"]
        command = [
            *(sys.executable, *run, f"--config-dir={self._config}"),
            *(f"--driver-socket={self.driver}", f"--admin-socket={self.admin}"),
            f"--podman-socket={self.podman}",
            f"--engine={self._engine}",
        ]
        passed = [one.fileno() for one in self._sockets]
        if passed:
            fds = " ".join(f"{PASSED + n}<&{fd} {fd}<&-" for n, fd in enumerate(passed))
            script = PASSING.format(fds=fds, count=len(passed))
            command = ["bash", "-ec", script, "bash", *command]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": f"{ROOT / 'plugin'}:{ROOT / 'salt/_utils'}"},
                start_new_session=True,
                pass_fds=passed,
            )

    def wait(self) -> None:
        """Until it answers on both sockets."""
        until = time.monotonic() + START_SECONDS
        while not (_answers(self.driver) and _listens(self.admin)):
            ended = self._process is None or self._process.poll() is not None
            assert self._held or not ended, self.log[-2000:]
            assert time.monotonic() < until, self.log[-2000:]
            time.sleep(0.02)

    def _supervise(self) -> None:
        while not self._ending.wait(RESTART):
            if self._process is None or self._process.poll() is not None:
                self._begin()

    def kill(self) -> None:
        """``kill -9``."""
        assert self._process
        self._process.kill()
        self._process.wait(90)

    def freeze(self) -> int:
        """Stop it: connections are taken, and nothing answers. Returns its process id."""
        os.kill(self.pid, signal.SIGSTOP)
        return self.pid

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM; returns its exit status."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(100)


def _listen(path: Path) -> socket.socket:
    """A socket as systemd's: root's alone, and its descriptor above those that are passed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(1024)
        return socket.socket(fileno=fcntl.fcntl(listening.fileno(), fcntl.F_DUPFD_CLOEXEC, 64))


def _answers(path: Path) -> bool:
    """Does it answer a call? A socket that is held takes connections though nobody is there."""
    with socket.socket(socket.AF_UNIX) as one, suppress(OSError):
        one.settimeout(1)
        one.connect(str(path))
        one.sendall(ASKS)
        return one.recv(12) == b"HTTP/1.1 200"
    return False


def _listens(path: Path) -> bool:
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
