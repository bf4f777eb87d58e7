"""
The stories of a real Docker engine: containers with our volumes beside those of its local driver.

The records are in etcd. Where a figure is the worst of a hundred calls, the calls are made one
after the other, and what the rest of them took is taken off.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from benchmarks.etcd import Bare
from benchmarks.measure import Step, Story
from benchmarks.place import EtcdPlace, Place
from lab.bridge import Bridge
from lab.cli import PROGRAM
from lab.docker import IMAGE, Engine
from lab.etcd import Cluster
from lab.site import Site
from lab.volley import volley
from libstorage.manager import Given
from libstorage.store.contract import MAX_WRITES, Put

VOLUMES = 10_000
CALLS = 100
HELD, COLD, PLAIN = "held", "cold", "plain"


def stories(place: Place) -> list[Story]:
    """All of them."""
    containers = ("docker.run_attached", "docker.run_detached", "docker.cli_ls")
    many = ("docker.get_p99", "docker.list")
    return [
        Story(containers, lambda: _containers(place)),
        Story(many, lambda: _many(place)),
        Story(("docker.dockerd_start",), lambda: _starts(place)),
    ]


class Host:
    """An engine and the bridge beside it, on a site."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.engine = Engine(folder / "engine")
        self.bridge = Bridge(
            folder / "bridge", site, self.engine.plugins / "dsvolume.sock", self.engine.socket
        )
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.engine)
            stack.enter_context(self.bridge)
            # In order, so that nothing of it is left to be recovered.
            stack.callback(self.bridge.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _containers(place: Place) -> Callable[[int], Iterator[Step]]:
    """``docker run`` of a volume that is mounted already, and of one that is not."""
    etcd, hand = place.on_etcd(), place.hand
    host = place.also(Host(place.root.parent / "docker", etcd.site))
    engine = host.engine
    for name in (HELD, COLD):
        etcd.manager.create(name, Given(policy="local", fstype="ext4", mb_size=100))
    engine("volume", "create", PLAIN)
    engine("run", "--detach", "--network=none", "-v", f"{HELD}:/data", IMAGE, "sleep", "100000")
    hand.create_image(COLD, "ext4", 100)
    plugins = engine.folder / "client" / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    (plugins / PROGRAM.name).symlink_to(PROGRAM)
    socket = {"DSVOLUME_SOCKET": str(host.bridge.admin)}

    def run(name: str) -> None:
        engine.run("-v", f"{name}:/data", IMAGE, "true")

    def by_hand() -> None:
        run(PLAIN)
        hand.mount_image(COLD, "ext4")
        hand.unmount_image(COLD)

    def ls(*words: str) -> None:
        assert engine.client(*words, **socket).returncode == 0

    def round_(_: int) -> Iterator[Step]:
        yield Step("docker.run_attached", partial(run, HELD), partial(run, PLAIN))
        yield Step("docker.run_detached", partial(run, COLD), by_hand)
        yield Step("docker.cli_ls", partial(ls, "dsvolume", "ls"), partial(ls, "volume", "ls"))

    return round_


def _many(place: Place) -> Callable[[int], Iterator[Step]]:
    """What the engine asks a bridge, of 10,000 volumes."""
    etcd = place.also(EtcdPlace(place.root.parent / "many"))
    _fill(etcd)
    folder = place.root.parent / "bridge"
    driver = folder / "driver.sock"
    place.also(Bridge(folder, etcd.site, driver, folder / "none.sock"))
    bare = Bare(etcd.port, etcd.prefix)
    rest = 0.0

    def gets() -> None:
        nonlocal rest
        began = time.perf_counter()
        took = sorted(
            volley(driver, [("/VolumeDriver.Get", {"Name": f"vol{n}"})])[0][0]
            for n in range(0, VOLUMES, VOLUMES // CALLS)
        )
        rest = time.perf_counter() - began - took[-2]  # what is not the 99th of a hundred

    def listed() -> None:
        [(_, answer)] = volley(driver, [("/VolumeDriver.List", {})])
        assert len(answer["Volumes"]) == VOLUMES

    def round_(_: int) -> Iterator[Step]:
        yield Step("docker.get_p99", gets, partial(bare.together, "volumes/vol1"), lambda: rest)
        yield Step("docker.list", listed, partial(bare.list, "volumes/"))

    return round_


def _fill(place: EtcdPlace) -> None:
    """Many volumes, of which only the records are there."""
    store = place.site.store
    place.manager.create("sample", Given(policy="local"))
    record = place.site.values("volumes/")["volumes/sample"]
    place.manager.rm("sample")
    for start in range(0, VOLUMES, MAX_WRITES):
        names = [f"vol{number}" for number in range(start, start + MAX_WRITES)]
        puts = [Put(f"volumes/{name}", {**record, "Name": name, "Id": name}) for name in names]
        store.transact([], puts)


def _starts(place: Place) -> Callable[[int], Iterator[Step]]:
    """An engine starts that has a container of our volume, while the store is away."""
    folder = place.root.parent / "starts"
    cluster = place.also(Cluster(folder / "etcd"))
    site = place.also(Site(folder / "root", lease=15, store=cluster.store("/starts")))
    host = place.also(Host(folder / "ours", site))
    site.manager().create(HELD, Given(policy="local", fstype="ext4", mb_size=8))
    other = place.also(Engine(folder / "other"))
    for engine, volume in ((host.engine, HELD), (other, PLAIN)):
        engine("create", "--network=none", "-v", f"{volume}:/data", IMAGE, "true")
    cluster.members[0].kill()

    def starts(engine: Engine) -> None:
        engine.kill()
        engine.start()

    def round_(_: int) -> Iterator[Step]:
        yield Step("docker.dockerd_start", partial(starts, host.engine), partial(starts, other))

    return round_
