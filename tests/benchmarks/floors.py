"""
The floors: what a person would do by hand for the same end, with the same commands and flags.

No store, no journal, no checks. Commands run like libstorage's own (captured output, the same
environment) but by a plain ``subprocess.run``; what must be on the disk is brought there once.
"""

import json
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

from libstorage.host.commands import PATH
from libstorage.host.filesystems import KINDS
from libstorage.records import MB, RAW
from libstorage.store.contract import KeyAbsent, Put
from libstorage.store.embedded import EmbeddedStore

_ZEROS = bytes(MB)


def command(*argv: str | Path) -> str:
    """Run a command, as anybody would from Python."""
    done = subprocess.run(
        argv,
        env={"PATH": PATH, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Hand:
    """A folder in which volumes are kept by hand: images, memory, copies and mount points."""

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self._copy = {"record": record}
        self._devices: dict[str, str] = {}
        for name in ("images", "snapshots", "ram", "mounts", "maintenance"):
            (folder / name).mkdir(parents=True)

    def image(self, name: str) -> Path:
        return self.folder / "images" / f"{name}.img"

    def point(self, name: str) -> Path:
        return self.folder / "mounts" / name

    def memory(self, name: str) -> Path:
        return self.folder / "ram" / name

    # -- images

    def create_image(self, name: str, fstype: str, mb_size: int) -> None:
        """A sparse file, mkfs, and three fsyncs: the image, the record's copy, their directory."""
        kind, image = KINDS[fstype], self.image(name)
        command("truncate", "--size", str(mb_size * MB), str(image))
        if kind.mkfs:
            flags = kind.small_flags if mb_size < kind.small else ()
            command(*kind.mkfs, *flags, str(image))
        sync(image)
        self._write_copy(image.with_suffix(".json"))

    def mount_image(self, name: str, fstype: str) -> None:
        """A loop device, and the mount: two commands (ours mounts with ``-o loop``: one)."""
        device = command("losetup", "--find", "--show", str(self.image(name))).strip()
        point = self._make_point(name)
        command("mount", "-n", "-t", fstype, "-o", "nosuid,nodev", device, point)
        self._devices[name] = device

    def unmount_image(self, name: str) -> None:
        self.unmount(name)
        command("losetup", "--detach", self._devices.pop(name))

    def unmount(self, name: str) -> None:
        command("umount", "-n", str(self.point(name)))
        self.point(name).rmdir()

    def remove_image(self, name: str) -> None:
        """The image, its copy, and one fsync: what is said to be gone does not come back."""
        image = self.image(name)
        command("rm", str(image), str(image.with_suffix(".json")))
        sync(self.folder / "images")

    def _kept(self, name: str) -> Path:
        return self.folder / "snapshots" / f"{name}.img"

    def snapshot(self, name: str) -> None:
        """cp, fsync of the copy, and the record's copy."""
        _copy(self.image(name), self._kept(name))
        sync(self._kept(name))
        self._write_copy(self._kept(name).with_suffix(".json"))

    def clone(self, name: str, new: str, fstype: str = "ext4") -> None:
        """cp, another UUID (with what tune2fs or xfs_admin demands), fsync, the record's copy."""
        image = self.image(new)
        _copy(self._kept(name), image)
        if fstype != RAW:
            self._renew_uuid(image, fstype)
        sync(image)
        self._write_copy(image.with_suffix(".json"))

    def _renew_uuid(self, image: Path, fstype: str) -> None:
        command("blkid", "-p", "-o", "value", "-s", "UUID", str(image))
        if fstype == "xfs":
            command("xfs_admin", "-U", "generate", str(image))
        else:
            command("e2fsck", "-p", str(image))
            command("tune2fs", "-U", "random", str(image))
        command("blkid", "-p", "-o", "value", "-s", "UUID", str(image))

    def rollback(self, name: str) -> None:
        """cp beside, fsync, rename, fsync of the directory."""
        new = self.image(name).with_suffix(".new")
        _copy(self._kept(name), new)
        sync(new)
        new.replace(self.image(name))
        sync(new.parent)

    def grow(self, name: str, mb_size: int) -> None:
        """truncate, the check that resize2fs demands, resize2fs, fsync, the record's copy."""
        image = self.image(name)
        command("truncate", "--size", str(mb_size * MB), str(image))
        command("e2fsck", "-p", "-f", str(image))
        command("resize2fs", str(image))
        sync(image)
        self._write_copy(image.with_suffix(".json"))

    def forget(self, name: str) -> None:
        command("rm", str(self._kept(name)), str(self._kept(name).with_suffix(".json")))

    def usage(self, name: str, fstype: str) -> None:
        """Mounted read-only, measured, unmounted."""
        point = self.folder / "maintenance" / name
        point.mkdir()
        options = f"loop,nosuid,nodev,{KINDS[fstype].read_only}"
        command("mount", "-n", "-t", fstype, "-o", options, str(self.image(name)), str(point))
        command("du", "-0", "-x", "-B1", str(point))
        command("umount", "-n", str(point))
        point.rmdir()

    # -- memory

    def keep_record(self, bare: "BareStore", name: str) -> None:
        """What a volume of which each node makes its own data needs at its create."""
        self._write_copy(self.memory(name).with_suffix(".json"))
        bare.transact(f"volumes/{name}", self._copy)

    def mount_memory(self, name: str, mb_size: int) -> None:
        """The first mount: the tmpfs, the record's copy, the bind mount."""
        memory = self.memory(name)
        memory.mkdir()
        command("mount", "-n", "-t", "tmpfs", "-o", f"size={mb_size}m,mode=0755", "tmpfs", memory)
        self._write_copy(memory.with_suffix(".json"))
        point = self._make_point(name)
        command("mount", "-n", "-o", "bind,nosuid,nodev", str(memory), point)

    def remove_memory(self, name: str) -> None:
        memory = self.memory(name)
        memory.with_suffix(".json").unlink()
        command("umount", "-n", str(memory))
        memory.rmdir()
        sync(memory.parent)

    def mount_secure(self, name: str, flags: str) -> None:
        """The first mount: the record's copy, the tmpfs at the mount point itself."""
        self._write_copy(self.memory(name).with_suffix(".json"))
        point = self._make_point(name)
        command("mount", "-n", "-t", "tmpfs", "-o", flags, "tmpfs", point)

    def unmount_secure(self, name: str) -> None:
        """Overwriting is what the volume is for, so it is part of the floor."""
        for path in self.point(name).iterdir():
            overwrite(path)
        self.unmount(name)

    # -- parts

    def _make_point(self, name: str) -> str:
        point = self.point(name)
        point.mkdir()
        point.chmod(0)
        return str(point)

    def _write_copy(self, path: Path) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self._copy, file)
            file.flush()
            os.fsync(file.fileno())
        sync(path.parent)


def _copy(source: Path, target: Path) -> None:
    command("cp", "--reflink=auto", "--sparse=always", str(source), str(target))


def overwrite(path: Path) -> None:
    """Zeros over all that a file holds."""
    fd = os.open(path, os.O_WRONLY)
    try:
        left = os.fstat(fd).st_size
        while left:
            left -= os.write(fd, _ZEROS[:left])
    finally:
        os.close(fd)


class BareStore:
    """An embedded store of its own, which nothing but single transactions is asked for."""

    def __init__(self, path: Path) -> None:
        self._store = EmbeddedStore(path, describe=dict)

    def transact(self, key: str, value: dict[str, Any]) -> None:
        assert self._store.transact([KeyAbsent(key)], [Put(key, value)])

    def close(self) -> None:
        self._store.close()


class BareFile:
    """The store's SQLite file, opened read-only by a plain connection."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def values(self, prefix: str) -> list[dict[str, Any]]:
        query = "SELECT value FROM kv WHERE key >= ? AND key < ? ORDER BY key"
        rows = self._connection.execute(query, (prefix, f"{prefix}\U0010ffff"))
        return [json.loads(text) for (text,) in rows]

    def value(self, key: str) -> Any:
        row = self._connection.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0])

    def close(self) -> None:
        self._connection.close()
