"""
One host as operators have it: a site, its bridge, an engine that knows ``dsvolume-runc``.

    with docker_host(folder) as host:
        host.volume("disk", "fstype=raw", "size=16")
        host.engine.run(*WRAPPED, "-v", "disk:/dev/xvdb", IMAGE, "cat", "/dev/xvdb")
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.bridge import Bridge
from lab.docker import IMAGE, Engine
from lab.site import Site
from libstorage.manager.qos import QoS

WRAPPER = Path(__file__).resolve().parents[2] / "plugin/bin/dsvolume-runc"
WRAPPED = ("--runtime=dsvolume",)
DRIVER = "dsvolume"


@dataclass(frozen=True)
class Host:
    """Its parts."""

    site: Site
    engine: Engine
    bridge: Bridge

    def volume(self, name: str, *options: str) -> str:
        """A volume of policy local, made by docker."""
        opts = [f"--opt={option}" for option in ("policy=local", *options)]
        return self.engine("volume", "create", f"--driver={DRIVER}", *opts, name)

    def start(self, *options: str, image: str = IMAGE) -> str:
        """A container that sleeps; its id."""
        alive = ("sh", "-c", "trap exit TERM; sleep 600 & wait")
        front = ("run", "--detach", "--network=none", *options)
        return self.engine(*front, image, *alive)

    def info(self, name: str) -> dict[str, Any]:
        [found] = self.site.manager().info(name)
        return found

    def device(self, name: str) -> str:
        """The block device of a volume."""
        [attachment] = self.site.values(f"attachments/{name}/").values()
        return str(attachment["Device"])

    def places(self, name: str) -> list[str]:
        """The containers whose cgroups are known of a volume."""
        [attachment] = self.site.values(f"attachments/{name}/").values()
        return [place["Container"] for place in attachment["Places"]]

    @contextmanager
    def acting(self) -> Iterator[QoS]:
        """The verbs of QoS, for a while."""
        manager = self.site.manager()
        yield manager.qos
        manager.close()

    def tidy(self) -> None:
        """Remove all containers, volumes and profiles."""
        if left := self.engine("ps", "--all", "--quiet").split():
            self.engine("rm", "--force", *left)
        manager = self.site.manager()
        until(lambda: not self.site.values("attachments/"), 20)
        for record in manager.ls():
            self.engine("volume", "rm", record["Name"])
        for profile in manager.qos.ls()["Profiles"]:
            if profile["Name"] != "default":
                manager.qos.rm(profile["Name"])
        manager.qos.enable([], everywhere=True)
        manager.close()


@contextmanager
def docker_host(folder: Path, *, unified: bool = False, **settings: Any) -> Iterator[Host]:
    """All started, the engine as it is set (``docker.py``); nothing stays."""
    with (
        Site(folder / "site") as site,
        Engine(folder / "engine", unified=unified, runtimes=runtimes(site), **settings) as engine,
        Bridge(folder / "bridge", site, engine.plugins / f"{DRIVER}.sock", engine.socket) as bridge,
    ):
        yield Host(site, engine, bridge)


def runtimes(site: Site) -> dict[str, Any]:
    """The engine's setting that lets it know the wrapper, for a site's volumes."""
    arguments = [f"--dsvolume-run-dir={site.config.run_dir}"]
    return {"dsvolume": {"path": str(WRAPPER), "runtimeArgs": arguments}}


def until(reached: Callable[[], object], seconds: float = 5) -> None:
    """Wait for what comes by itself."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
