"""
A real Docker engine in a directory of its own, and an image for it that needs no registry.

    with Engine(folder) as engine:
        engine("run", "--rm", "--network", "none", IMAGE, "true")

It asks every driver that it finds below ``/run/docker`` for the names that it does not know. So
each engine has a mount namespace of its own, in which that is a folder of its own (``plugins``);
what is mounted on the host is mounted there too.
"""

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from lab.site import _kill
from libstorage.host import mounts

IMAGE = "busybox:test"
APPLETS = ("sh", "cat", "dd", "df", "echo", "ls", "mount", "rm", "sleep", "sync", "touch", "true")
DOCKERD = "/usr/sbin/dockerd"
CONTAINERD = "/usr/bin/containerd"
START_SECONDS = 60


class Failed(AssertionError):
    """A docker command ended with an error; its text is what it said."""


class Engine:
    """
    One engine.

    folder
        Everything of it is below. A socket's path ends after 107 bytes: keep it short.
    unified
        It has cgroup v2 before it, as far as this kernel can: devices, not block I/O.
    settings
        As in ``/etc/docker/daemon.json``.
    """

    def __init__(self, folder: Path, *, unified: bool = False, **settings: Any) -> None:
        self.folder = folder
        self._unified = unified
        self.settings = settings
        self.socket = folder / "docker.sock"
        self.plugins = folder / "run" / "plugins"
        self._process: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.plugins.mkdir(parents=True)
        Path("/run/docker").mkdir(exist_ok=True)
        # As systemd has it on every host; else the engine would not see what is mounted.
        held = [one.path for one in mounts.table() if self.folder.is_relative_to(one.path)]
        subprocess.run(["mount", "--make-shared", str(max(held))], check=True)
        self._start_containerd()
        self.start()
        self._import()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._clear()

    def _start_containerd(self) -> None:
        """A service of its own, which outlives the engine, and holds the mount namespace."""
        place = self.folder
        config = place / "containerd.toml"
        config.write_text(
            f'version = 2\nroot = "{place / "containerd"}"\nstate = "{place / "state"}"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{place / "containerd.sock"}"\n'
        )
        inside = f'mount --bind "{place / "run"}" /run/docker && exec "$@"'
        if self._unified:
            swap = "umount --recursive /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"
            inside = f"{swap} && {inside}"
        apart = ["unshare", "--mount", "--propagation=slave", "sh", "-ec", inside, "sh"]
        with open(place / "containerd.log", "ab") as log:
            self._containerd = subprocess.Popen(
                [*apart, CONTAINERD, f"--config={config}"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self, *options: str, seconds: float = START_SECONDS) -> None:
        """
        Start it, and wait until it answers.

        options
            Further ones of dockerd: ``--live-restore`` lets containers outlive it.
        """
        self.begin_start(*options)
        self.wait(seconds)

    def begin_start(self, *options: str) -> None:
        """Start it, and go on."""
        place = self.folder
        assert self._containerd
        self._wait_for_containerd()
        (place / "daemon.json").write_text(json.dumps(self.settings))
        command = [
            *("nsenter", f"--target={self._containerd.pid}", "--mount", DOCKERD),
            f"--host=unix://{self.socket}",
            f"--data-root={place / 'data'}",
            f"--exec-root={place / 'exec'}",
            f"--pidfile={place / 'docker.pid'}",
            f"--containerd={place / 'containerd.sock'}",
            f"--config-file={place / 'daemon.json'}",
            *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
            *("--bridge=none", "--storage-driver=overlay2"),
            *options,
        ]
        with open(place / "log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Until it answers."""
        assert self._process
        until = time.monotonic() + seconds
        while self.client("version").returncode:
            assert self._process.poll() is None, self.log[-2000:]
            assert time.monotonic() < until, self.log[-2000:]
            time.sleep(0.05)

    def _wait_for_containerd(self) -> None:
        """Once it has made its socket, its mount namespace is made, too."""
        until = time.monotonic() + START_SECONDS
        while not (self.folder / "containerd.sock").is_socket():
            assert time.monotonic() < until, (self.folder / "containerd.log").read_text()[-2000:]
            time.sleep(0.02)

    def kill(self) -> None:
        """``kill -9``: containers go on under their shims."""
        assert self._process
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(20)

    def stop(self) -> None:
        """Remove all containers and let it end in order, containerd too."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            with suppress(subprocess.TimeoutExpired, Failed):
                if left := self("ps", "--all", "--quiet").split():
                    self("rm", "--force", *left)
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
        for one in (process, self._containerd):
            if one is not None:
                _kill(one)  # type: ignore[arg-type]
        for pid in self._contained():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _contained(self) -> list[int]:
        """
        Processes in containers of this engine, known to it or not.

        One that is killed while it starts a container does not know of it afterwards.
        """
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                lines = (process / "mountinfo").read_text().splitlines()
                if any(f"={self.folder}/" in line for line in lines if line.split(" ")[4] == "/"):
                    found.append(int(process.name))
        return found

    def _clear(self) -> None:
        for mount in reversed(mounts.table()):
            if mount.path.is_relative_to(self.folder):
                subprocess.run(["umount", "--lazy", str(mount.path)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- the client

    def client(
        self, *words: str, seconds: float = 60, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run the client, however it ends."""
        return subprocess.run(
            ["docker", f"--host=unix://{self.socket}", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env=os.environ | {"DOCKER_CONFIG": str(self.folder / "client")} | environment,
        )

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Start the client, and go on."""
        return subprocess.Popen(
            ["docker", f"--host=unix://{self.socket}", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, seconds: float = 60) -> str:
        """What a command says. Raises Failed."""
        done = self.client(*words, seconds=seconds)
        if done.returncode:
            raise Failed(done.stderr.strip())
        return done.stdout.strip()

    def run(self, *words: str, seconds: float = 60) -> str:
        """``docker run --rm`` without a network."""
        return self("run", "--rm", "--network=none", *words, seconds=seconds)

    def _import(self) -> None:
        tar = make_image(self.folder / "image.tar")
        self("import", "--change", "ENV PATH=/bin", str(tar), IMAGE)


def make_image(tar: Path) -> Path:
    """Write an image's root, of busybox and its applets, to a tar file."""
    with tarfile.open(tar, "w") as image:
        image.add("/bin/busybox", "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            image.addfile(link)
        there = tarfile.TarInfo("there")
        there.type, there.mode = tarfile.DIRTYPE, 0o755
        image.addfile(there)
    return tar
