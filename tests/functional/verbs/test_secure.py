"""Policy ``secure``: one container, in memory only, nothing left of it."""

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.site import NODE, Site, assert_clean
from libstorage.errors import InvalidInput, MountBusy, NoSpace, Unsupported, VolumeInUse
from libstorage.host import memory, mounts
from libstorage.manager import Given, VolumeManager

Create = Callable[..., dict[str, Any]]


@pytest.fixture
def secure(create: Create) -> dict[str, Any]:
    return create("v", policy="secure", mb_size=4)


def swap_devices() -> list[Path]:
    return [Path(line.split()[0]) for line in Path("/proc/swaps").read_text().splitlines()[1:]]


def pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes in pieces that overlap."""
    with open(path, "rb") as file:
        rest = b""
        while piece := file.read(2**20):
            yield rest + piece
            rest = piece[-64:]


def holding(marker: bytes, root: Path) -> list[Path]:
    """The files on the host, mounted images as a whole too, and swap that hold a marker."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return [p for p in (*files, *swap_devices()) if any(marker in piece for piece in pieces(p))]


def test_it_is_mounted_for_its_user_alone_and_never_reaches_swap(
    manager: VolumeManager, secure: dict[str, Any]
) -> None:
    point = Path(manager.mount("v")["Mountpoint"])
    mounted = mounts.at(point)
    assert mounted is not None
    assert mounted.fstype == "tmpfs"
    assert {"nosuid", "nodev", "noexec"} <= mounted.options
    assert "size=4096k" in mounted.super_options
    assert memory.knows_noswap() is ("noswap" in mounted.super_options)
    assert "noswap" in mounted.super_options or not swap_devices()
    assert point.stat().st_mode & 0o7777 == 0o700
    with pytest.raises(PermissionError):
        (point / "program").write_text("#!/bin/sh\n")
        (point / "program").chmod(0o700)
        subprocess.run([point / "program"], check=False)


def test_it_cannot_be_asked_to_be_shared(site: Site, manager: VolumeManager) -> None:
    with pytest.raises(InvalidInput, match=r"^A secure volume cannot be shared"):
        manager.create("v", Given(policy="secure", shared=True))
    assert manager.ls() == []
    assert manager.create("v", Given(policy="secure", shared=False))["Volume"]["Shared"] is False


def test_one_that_is_there_cannot_be_asked_for_as_shared(
    site: Site, manager: VolumeManager, secure: dict[str, Any]
) -> None:
    with site.nothing_changes(), pytest.raises(InvalidInput):
        manager.create("v", Given(policy="secure", shared=True))


def test_a_second_container_is_refused_here_and_elsewhere(
    site: Site, manager: VolumeManager, secure: dict[str, Any]
) -> None:
    manager.mount("v", engine="docker", id="1", container="c1")
    for other in (manager, site.manager("node2")):
        for id, engine in (("2", "docker"), ("1", "podman"), ("salt", "salt")):
            with pytest.raises(VolumeInUse, match=f"^Volume in use by c1@{NODE}$"):
                other.mount("v", engine=engine, id=id)
    assert manager.info("v")[0]["Containers"] == [f"c1@{NODE}"]
    manager.unmount("v", engine="docker", id="1")
    site.manager("node2").mount("v", engine="docker", id="2")


def test_nothing_of_it_is_found_on_the_host_after_its_user_is_gone(
    site: Site, manager: VolumeManager, create: Create, secure: dict[str, Any]
) -> None:
    create("open", fstype="ext4", mb_size=8)
    marker = uuid.uuid4().hex.encode()
    elsewhere = Path(manager.mount("open")["Mountpoint"]) / "file"
    point = Path(manager.mount("v")["Mountpoint"])
    elsewhere.write_bytes(marker)
    assert holding(marker, site.root), "the search would find it"
    elsewhere.write_bytes(b"-" * len(marker))
    elsewhere.unlink()
    manager.unmount("open")
    manager.rm("open")

    (point / "deep").mkdir()
    (point / "deep" / "secret").write_bytes(marker * 1000)
    assert set(holding(marker, site.root)) == {point / "deep" / "secret"}
    manager.unmount("v")
    assert holding(marker, site.root) == []
    assert os.listdir(manager.mount("v")["Mountpoint"]) == []
    manager.unmount("v")
    manager.rm("v")
    assert holding(marker, site.root) == []
    assert_clean(site)


def test_its_files_are_overwritten_before_they_go(
    manager: VolumeManager, secure: dict[str, Any]
) -> None:
    """Who still has a file open after the last unmount was asked for reads zeros."""
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "secret").write_bytes(b"secret" * 1000)
    with open(point / "secret", "rb") as still_open:
        with pytest.raises(MountBusy, match=rf"\({os.getpid()}\)"):
            manager.unmount("v")
        assert still_open.read() == bytes(6000)
    manager.unmount("v")


def test_the_size_limits_what_it_takes(manager: VolumeManager, secure: dict[str, Any]) -> None:
    point = Path(manager.mount("v")["Mountpoint"])
    with pytest.raises(OSError, match="No space left"):
        (point / "big").write_bytes(bytes(5 * 2**20))
    manager.unmount("v")


def test_an_open_mode_is_had_where_asked(manager: VolumeManager) -> None:
    manager.create("v", Given(policy="secure", mb_size=1, options={"mode": "0750"}))
    point = Path(manager.mount("v")["Mountpoint"])
    assert point.stat().st_mode & 0o7777 == 0o750


def test_a_host_that_would_swap_it_out_refuses_it(
    site: Site, manager: VolumeManager, secure: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "may_swap", lambda: True)
    for verb in (
        lambda: manager.mount("v"),
        lambda: manager.create("new", Given(policy="secure", mb_size=1)),
    ):
        with pytest.raises(Unsupported, match=r"must never reach swap: .* switch swap off$"):
            verb()
    assert site.values("attachments/") == {}
    assert [volume["Name"] for volume in manager.ls()] == ["v"]
    manager.create("r", Given(policy="ram", mb_size=1))


def test_a_host_whose_memory_is_taken_refuses_the_mount(
    site: Site, manager: VolumeManager, secure: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: (2**30, 2**20))
    with pytest.raises(NoSpace, match=r"^This host has 1 MB of memory available, asked 4;"):
        manager.mount("v")
    assert site.values("attachments/") == {}
    assert site.mounted() == []


def test_usage_of_one_in_use_is_read_and_of_one_not_in_use_is_nothing(
    manager: VolumeManager, secure: dict[str, Any]
) -> None:
    point = Path(manager.mount("v")["Mountpoint"])
    (point / "file").write_bytes(bytes(8192))
    entries = manager.usage("v", summary=False)[0]["Usage"]
    assert {"file": str(point / "file"), "size": "8K"} in entries
    manager.unmount("v")
    assert manager.usage("v")[0]["Usage"] == [{"file": "total", "size": "0"}]


def test_a_foreign_mount_in_its_place_is_never_wiped(
    site: Site, manager: VolumeManager, create: Create, secure: dict[str, Any]
) -> None:
    """Whatever is mounted at its point and is not its own tmpfs is somebody's data."""
    create("theirs", fstype="ext4", mb_size=8)
    file = Path(manager.mount("theirs")["Mountpoint"]) / "file"
    file.write_text("theirs")
    point = site.config.mount_root / "v"
    point.mkdir()
    subprocess.run(["mount", "--bind", file.parent, point], check=True)
    with pytest.raises(Exception, match=f"{point} already shows "):
        manager.mount("v")
    assert file.read_text() == "theirs"
    subprocess.run(["umount", point], check=True)
    manager.mount("v")
    manager.unmount("v")
    manager.unmount("theirs")
    assert_clean(site)
