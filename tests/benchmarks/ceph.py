"""
The stories of volumes in a Ceph: one monitor and one OSD in memory, all on this host.

What is done by hand is done with librbd on a kept connection and with the mapper's own commands:
no claim, no look at who else has the image open, no copy of the record, no store.
"""

import json
import os
import select
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

import rados
import rbd

from benchmarks.docker import Host
from benchmarks.floors import command
from benchmarks.measure import Step, Story, Took
from benchmarks.place import LEASE, SIZE, Place, nothing
from lab.ceph import POOL, USER, Ceph
from lab.docker import IMAGE
from lab.etcd import Cluster
from lab.site import NO_TRASH, Site
from libstorage.controllers.rbd_images import _features
from libstorage.host.filesystems import KINDS
from libstorage.manager import Given, VolumeManager
from libstorage.records import MB

OSD = 128 * 2**30
"""Bytes that the OSD says it has; memory is taken for what is written."""
LARGE = 50 * 1024
FSTYPE = "ext4"
NODES = 3
CREATES = 120
AT_ONCE = 8
"""Creates that a node has under way, as an agent's or a bridge's threads would."""

Steps = Iterator[Step]


def stories(place: Place) -> list[Story]:
    """All of them."""
    life = tuple(f"ceph.{verb}" for verb in ("create", "mount", "unmount", "rm"))
    kept = tuple(f"ceph.{verb}" for verb in ("snapshot", "clone"))
    sizes = tuple(f"{name}_50g" for name in kept)
    return [
        Story(life, lambda: partial(_life, on_ceph(place))),
        Story((*kept, *sizes), lambda: _kept(on_ceph(place))),
        Story(("ceph.many_120",), lambda: partial(_creates, on_ceph(place)), most=3),
        Story(tuple(FIO), lambda: _fio(on_ceph(place)), most=15),
    ]


class CephPlace:
    """
    A Ceph, and managers whose volumes are in it.

    manager
        Alone, with the embedded store: what etcd takes is measured by itself.
    nodes
        Three nodes that share an etcd.
    docker
        A host with Docker.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.ceph = stack.enter_context(Ceph(self._folder / "ceph", size=OSD))
            etcd = stack.enter_context(Cluster(self._folder / "etcd"))
            alone = self._site("alone")
            self.manager: VolumeManager = stack.enter_context(alone).manager()
            self.nodes = stack.enter_context(self._site("nodes", store=etcd.store("/nodes")))
            self.hand = stack.enter_context(RbdHand(self._folder / "hand", self.ceph))
            docker = stack.enter_context(self._site("docker", store=etcd.store("/docker")))
            self.docker = stack.enter_context(Host(self._folder / "d", docker))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _site(self, name: str, **settings: object) -> Site:
        ceph = {**self.ceph.settings(), "lease": LEASE, "trash": NO_TRASH, **settings}
        return Site(self._folder / name, **ceph)


_PLACES: dict[Path, CephPlace] = {}


def on_ceph(place: Place) -> CephPlace:
    """The Ceph beside a place; made when first asked for."""
    folder = place.root.parent / "on-ceph"
    if folder not in _PLACES:
        _PLACES[folder] = place.also(CephPlace(folder))
    return _PLACES[folder]


class RbdHand:
    """Images made, mapped and mounted by hand, in the default namespace of the same pool."""

    def __init__(self, folder: Path, ceph: Ceph) -> None:
        self.folder = folder
        self._conf = ceph.conf
        self._files: dict[str, tuple[Path, str, int]] = {}

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self._cluster = rados.Rados(conffile=str(self._conf), name=f"client.{USER}")
        self._cluster.connect()
        self._pool = self._cluster.open_ioctx(POOL)
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self._files]:
            self.unmap(name)
        self._pool.close()
        self._cluster.shutdown()

    def create(self, name: str, mb_size: int = SIZE) -> None:
        """The image, mapped; mkfs; unmapped."""
        features = _features(rbd)
        rbd.RBD().create(self._pool, name, mb_size * MB, old_format=False, features=features)
        device = self.map(name)
        command(*KINDS[FSTYPE].mkfs, device)
        self.unmap(name)

    def map(self, name: str) -> str:
        """qemu-storage-daemon and a loop device, with the same arguments as ours."""
        folder = self.folder / name
        folder.mkdir()
        file = folder / f"{name}.rbd"
        file.touch()
        image = {
            "driver": "rbd",
            "node-name": "image",
            "conf": str(self._conf),
            "user": USER,
            "pool": POOL,
            "image": name,
            "discard": "unmap",
            "cache": {"direct": True},
        }
        export = f"type=fuse,id=file,node-name=image,mountpoint={file},writable=on,growable=off"
        command(
            *("env", "-C", str(folder), "qemu-storage-daemon", "--daemonize", "--pidfile", "pid"),
            *("--chardev", "socket,id=m,path=qmp,server=on,wait=off", "--monitor", "chardev=m"),
            *("--blockdev", json.dumps(image), "--export", export),
        )
        device = command("losetup", "--find", "--show", "--direct-io=on", str(file)).strip()
        pid = int((folder / "pid").read_text())
        self._files[name] = (file, device, pid)
        return device

    def unmap(self, name: str) -> None:
        """The loop device, then the daemon, which takes its mount with it."""
        file, device, pid = self._files.pop(name)
        command("losetup", "--detach", device)
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            assert ended.poll(20_000), f"the daemon of {name} does not end"
        finally:
            os.close(handle)
        command("rm", "-r", str(file.parent))

    def mount(self, name: str) -> None:
        point = self.folder / f"{name}.point"
        point.mkdir(mode=0)
        device = self.map(name)
        command("mount", "-n", "-t", FSTYPE, "-o", "nosuid,nodev", device, str(point))

    def unmount(self, name: str) -> None:
        point = self.folder / f"{name}.point"
        command("umount", "-n", str(point))
        point.rmdir()
        self.unmap(name)

    def remove(self, name: str) -> None:
        rbd.RBD().remove(self._pool, name)

    def snapshot(self, name: str, snapshot: str) -> None:
        with rbd.Image(self._pool, name) as image:
            image.create_snap(snapshot)

    def clone(self, name: str, snapshot: str, new: str) -> None:
        """The clone, mapped; another UUID with what tune2fs demands; unmapped."""
        features = _features(rbd)
        rbd.RBD().clone(self._pool, name, snapshot, self._pool, new, features=features)
        device = self.map(new)
        command("e2fsck", "-p", device)
        command("tune2fs", "-U", "random", device)
        self.unmap(new)

    def forget(self, name: str, snapshot: str) -> None:
        with rbd.Image(self._pool, name) as image:
            image.remove_snap(snapshot)


def _given(mb_size: int = SIZE) -> Given:
    return Given(policy="distributed", fstype=FSTYPE, mb_size=mb_size)


def _life(place: CephPlace, number: int) -> Steps:
    manager, hand, name = place.manager, place.hand, f"db-{number}"
    yield Step("ceph.create", partial(manager.create, name, _given()), partial(hand.create, name))
    yield Step("ceph.mount", partial(manager.mount, name), partial(hand.mount, name))
    yield Step("ceph.unmount", partial(manager.unmount, name), partial(hand.unmount, name))
    yield Step("ceph.rm", partial(manager.rm, name), partial(hand.remove, name))


def _kept(place: CephPlace) -> Callable[[int], Steps]:
    manager, hand = place.manager, place.hand
    for name, size in (("small", SIZE), ("large", LARGE)):
        manager.create(name, _given(size))
    hand.create("small")

    def life(number: int) -> Steps:
        kept, born = f"s{number}", f"clone-{number}"
        yield Step(
            "ceph.snapshot",
            partial(manager.snapshot_create, f"small@{kept}"),
            partial(hand.snapshot, "small", kept),
        )
        yield Step(
            "ceph.clone",
            partial(manager.snapshot_clone, f"small@{kept}", born),
            partial(hand.clone, "small", kept, born),
        )
        yield Step("", partial(hand.remove, born), partial(hand.forget, "small", kept))
        yield Step(
            "ceph.snapshot_50g",
            partial(manager.snapshot_create, f"large@{kept}"),
            partial(manager.snapshot_create, f"small@{kept}-again"),
        )
        yield Step(
            "ceph.clone_50g",
            partial(manager.snapshot_clone, f"large@{kept}", f"{born}-large"),
            partial(manager.snapshot_clone, f"small@{kept}-again", f"{born}-again"),
        )
        for name in (born, f"{born}-large", f"{born}-again"):
            yield Step("", partial(manager.rm, name), nothing)
        for name in (f"small@{kept}", f"large@{kept}", f"small@{kept}-again"):
            yield Step("", partial(manager.snapshot_rm, name), nothing)

    return life


# -- many at once -----------------------------------------------------------------------------

CREATOR = """
from concurrent.futures import ThreadPoolExecutor
first, last, at_once, fstype, size = arguments
given = Given(policy="distributed", fstype=fstype, mb_size=size)
manager.ls()
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(at_once) as pool:
    list(pool.map(lambda n: manager.create(f"many-{n}", given), range(first, last)))
print("done", flush=True)
sys.stdin.readline()
"""


def _creates(place: CephPlace, number: int) -> Steps:
    """So many creates from three nodes; by hand by as many threads."""
    share = CREATES // NODES
    begin = number * CREATES
    processes = []
    for node in range(NODES):
        first = begin + node * share
        words = (first, first + share, AT_ONCE, FSTYPE, SIZE)
        process = place.nodes.python(CREATOR, *words, node=f"node{node + 1}")
        assert process.stdout and process.stdout.readline() == "ready\n"
        processes.append(process)

    def say() -> None:
        for process in processes:
            assert process.stdin and process.stdout
            process.stdin.write("\n")
            process.stdin.flush()

    def ours() -> None:
        say()
        for process in processes:
            assert process.stdout and process.stdout.readline() == "done\n", process.communicate()

    names = [f"many-{n}" for n in range(begin, begin + CREATES)]

    floor = partial(_each, place.hand.create, names, NODES * AT_ONCE)
    yield Step("ceph.many_120", ours, floor)
    say()
    for process in processes:
        process.communicate()
    manager = place.nodes.manager()
    yield Step("", partial(_each, manager.rm, names), partial(_each, place.hand.remove, names))


def _each(act: Callable[[str], object], names: list[str], at_once: int = AT_ONCE) -> None:
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(act, names))


# -- what reads and writes --------------------------------------------------------------------

FIO = {
    "ceph.fio_randread_4k": ("randread", "4k", 16),
    "ceph.fio_randwrite_4k": ("randwrite", "4k", 16),
    "ceph.fio_read_1m": ("read", "1m", 4),
    "ceph.fio_write_1m": ("write", "1m", 4),
}
"""What is read or written, in what pieces, and how many are under way."""
FIO_MB = 256
HOSTS = ("/usr", "/lib", "/lib64")
"""Trees of the host in which a container finds fio and its libraries."""
FIO_SECONDS = 2


def _fio(place: CephPlace) -> Callable[[int], Steps]:
    """A file in a volume, by a container, beside the bare device of an image as large."""
    engine, hand = place.docker.engine, place.hand
    options = ("policy=distributed", f"fstype={FSTYPE}", f"size={2 * FIO_MB}")
    engine("volume", "create", "--driver=dsvolume", *(f"--opt={o}" for o in options), "busy")
    shown = [word for tree in HOSTS for word in ("-v", f"{tree}:{tree}:ro")]
    run = ("run", "--detach", "--network=none", *shown, "-v", "busy:/x", IMAGE)
    inside = partial(engine, "exec", engine(*run, "sleep", "100000").strip())
    hand.create("busy", 2 * FIO_MB)
    device = hand.map("busy")
    ours, floor = partial(_run_fio, inside, "/x/file"), partial(_run_fio, command, device)
    for run_on in (ours, floor):
        run_on("write", "1m", 4, whole=True)

    def life(number: int) -> Steps:
        for name, how in FIO.items():
            yield Step(name, partial(ours, *how), partial(floor, *how))

    return life


def _run_fio(
    run: Callable[..., str], path: str, rw: str, piece: str, depth: int, *, whole: bool = False
) -> Took:
    """The seconds that a piece takes; ``whole``: once over all of it."""
    time = () if whole else ("--time_based", f"--runtime={FIO_SECONDS}")
    said = run(
        *("/usr/bin/fio", "--name=job", f"--filename={path}", f"--rw={rw}", f"--bs={piece}"),
        *(f"--iodepth={depth}", f"--size={FIO_MB}m", "--direct=1", "--ioengine=libaio"),
        *("--randrepeat=0", "--output-format=json", *time),
    )
    job = json.loads(said[said.index("{") :])["jobs"][0]
    return Took(1 / max(job["read"]["iops"], job["write"]["iops"]))
