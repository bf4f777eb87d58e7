"""
RBD images as block devices without the kernel's module rbd: qemu-storage-daemon and a loop device.

One daemon for each image, so that no image hangs on another's, with everything of it in a folder
that ends with the boot::

    <run_dir>/rbd/<Id>/<Id>@<node>.rbd    the image as a file (FUSE), behind a loop device
    <run_dir>/rbd/<Id>/pid                the daemon
    <run_dir>/rbd/<Id>/qmp                its monitor: it is told of another size there

The daemon begins without the image and is told of it by its monitor: so it can start while it is
still looked at who else has the image. It outlives whoever started it, and its service. The file
must not be unmounted while the loop device has it: the device would be found by nobody any more,
and never be freed. So the order of the end is loop device, daemon, mount, folder; each is as good
when it is gone already.
"""

import json
import socket
from contextlib import suppress
from pathlib import Path

from ..errors import BackendError, CommandFailed, MountBusy
from ..host import daemons, files, loops, mounts, processes
from ..host.commands import Work, need
from ..host.processes import Process
from ..records import JSON
from .rbd_connection import Place

DAEMON = "qemu-storage-daemon"
SECONDS = 20.0
"""For the daemon's start, and for an answer of its monitor."""


class Qemu:
    """
    Maps images of one pool on this node.

    node
        Its name: a loop device is found by its file's, and a host may be several nodes.
    """

    name = "qemu"

    def __init__(self, place: Place, run_dir: Path, node: str) -> None:
        self._place = place
        self._node = node
        self._folder = run_dir / "rbd"
        self._begun = set[str]()

    def need(self) -> None:
        """Raise ToolMissing where it cannot serve here."""
        for tool in (DAEMON, "fusermount3"):
            need(tool)

    def _file(self, id: str) -> Path:
        return self._folder / id / f"{id}@{self._node}.rbd"

    def find(self, id: str) -> Path | None:
        """The device of an image, where it is mapped by a daemon that lives."""
        if id in self._begun or self._daemon(id) is None:
            return None
        devices = loops.of(self._file(id))
        return Path(devices[0]) if devices else None

    def map(self, work: Work, id: str) -> Path:
        """
        Give an image a block device; one that it has is as good.

        Raises BackendError, ToolMissing, MountBusy (what is left of a dead daemon is in use).
        """
        if (device := self.find(id)) is not None:
            return device
        file = self._file(id)
        try:
            if id not in self._begun:
                self.begin(work, id)
            self._begun.discard(id)
            self._tell(id, *self._image(id, file))
            return Path(loops.attach(file, direct=True))
        except BaseException:
            self.unmap(work, id)
            raise

    def begin(self, work: Work, id: str) -> None:
        """Start the daemon of an image, which does not know it yet; ``map`` does the rest."""
        self.need()
        self.unmap(work, id)
        folder = self._folder / id
        files.make_directory(folder, 0o700)
        self._file(id).touch(mode=0o600)
        daemons.run(
            work,
            *(DAEMON, "--daemonize", "--pidfile", str(folder / "pid")),
            # A socket's path ends after 107 bytes.
            *("--chardev", "socket,id=m,path=qmp,server=on,wait=off", "--monitor", "chardev=m"),
            limit=SECONDS,
            folder=folder,
        )
        self._begun.add(id)

    def _image(self, id: str, file: Path) -> tuple[JSON, JSON]:
        """What lets the daemon open an image, and show it as a file."""
        place = self._place
        image = {
            "driver": "rbd",
            "node-name": "image",
            "conf": str(place.conf),
            "user": place.client,
            "pool": place.pool,
            "image": id,
            "discard": "unmap",
            "cache": {"direct": True},
            **({"namespace": place.namespace} if place.namespace else {}),
        }
        shown = {
            "type": "fuse",
            "id": "file",
            "node-name": "image",
            "mountpoint": str(file),
            "writable": True,
            "growable": False,
        }
        return (
            {"execute": "blockdev-add", "arguments": image},
            {"execute": "block-export-add", "arguments": shown},
        )

    def unmap(self, work: Work, id: str) -> None:
        """
        Take an image's device away; none is as good.

        Raises MountBusy, naming who holds the device.
        """
        folder, file = self._folder / id, self._file(id)
        self._begun.discard(id)
        if not folder.is_dir():
            return
        loops.detach(work, file)
        if (daemon := self._daemon(id)) is not None:
            processes.finish(daemon)
        while mounts.at(file) is not None:
            try:
                work.run("umount", "-n", str(file))
            except CommandFailed as exc:
                if mounts.at(file) is not None:
                    raise MountBusy(f"{file} cannot be unmounted: {exc.words}") from exc
        for path in (file, folder / "pid", folder / "qmp"):
            files.remove(path)
        with suppress(FileNotFoundError):
            folder.rmdir()

    def _daemon(self, id: str) -> Process | None:
        """The daemon of an image, where it lives."""
        try:
            pid = int((self._folder / id / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        # Not another process that has got its pid.
        return processes.of(pid) if str(self._folder / id / "pid").encode() in command else None

    def grow(self, work: Work, id: str, size: int) -> None:
        """Let an image's device show that it has become ``size`` bytes; unmapped is as good."""
        if self.find(id) is None:
            return
        self._tell(
            id, {"execute": "block_resize", "arguments": {"node-name": "image", "size": size}}
        )
        loops.refresh(work, self._file(id), size=size)

    def _tell(self, id: str, *commands: JSON) -> None:
        """Commands to the daemon's monitor. Raises BackendError for what it refuses."""
        folder = self._folder / id
        try:
            with socket.socket(socket.AF_UNIX) as monitor, files.short(folder) as short:
                monitor.settimeout(SECONDS)
                monitor.connect(str(short / "qmp"))
                answers = monitor.makefile("r")
                answers.readline()  # its greeting
                for one in ({"execute": "qmp_capabilities"}, *commands):
                    monitor.sendall(json.dumps(one).encode())
                    while "return" not in (said := json.loads(answers.readline() or "{}")):
                        if "event" not in said:
                            why = said.get("error", {}).get("desc", "it has ended")
                            raise BackendError(f"The daemon of {id} refused: {why}")
        except (OSError, ValueError) as exc:
            raise BackendError(f"The daemon of {id} gave no answer: {exc}") from exc

    def client(self, id: str) -> str:
        return ""

    def held(self) -> dict[str, str]:
        """What is mapped, or half mapped, on this host: Id -> what there is."""
        if not self._folder.is_dir():
            return {}
        behind = {file.name: device for device, file in loops.behind().items()}
        found = {}
        for path in self._folder.iterdir():
            device = behind.get(self._file(path.name).name)
            found[path.name] = f"loop device {device}" if device else f"folder {path}"
        return found

    def lives(self, id: str) -> bool:
        """Does the daemon of an image live?"""
        return self._daemon(id) is not None

    def give_up(self, work: Work, id: str) -> None:
        """FUSE has answered with errors since."""
