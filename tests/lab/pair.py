"""
Two hosts: on each a Docker engine with a bridge, their records in one etcd.

    with Pair(folder, cluster) as (one, two):
        one.engine("volume", "create", "--driver", DRIVER, "--opt=policy=local", "pages")
        two.engine.run("-v", "pages:/x", IMAGE, "touch", "/x/file")
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from lab.bridge import Bridge
from lab.cli import Cli
from lab.docker import Engine
from lab.etcd import Cluster
from lab.site import NODE, Site
from lab.wrapped import runtimes

NODES = (NODE, "node2")
DRIVER = "dsvolume"


@dataclass(frozen=True)
class Host:
    """
    One of them.

    site
        Its own disk, and the way to the records of both; its node is ``node``.
    """

    node: str
    site: Site
    engine: Engine
    bridge: Bridge
    cli: Cli

    def create(self, name: str, **options: object) -> None:
        """``docker volume create``."""
        given = (f"--opt={key}={value}" for key, value in options.items())
        self.engine("volume", "create", "--driver", DRIVER, *given, name)


class Pair:
    """
    Both hosts.

    folder
        Everything of them is below. A socket's path ends after 107 bytes: keep it short.
    runtime
        That of their containers: ``runc``, or ``dsvolume``, which is dsvolume-runc.
    settings
        Of both sites.
    """

    def __init__(
        self, folder: Path, cluster: Cluster, *, runtime: str = "runc", **settings: object
    ) -> None:
        self._folder = folder
        self._runtime = runtime
        self._settings = {"store": cluster.store(f"/{uuid4().hex}"), **settings}
        self._stack = ExitStack()

    def __enter__(self) -> tuple[Host, Host]:
        with ExitStack() as stack:
            one, two = (self._host(stack, node) for node in NODES)
            self._stack = stack.pop_all()
        return one, two

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _host(self, stack: ExitStack, node: str) -> Host:
        folder = self._folder / node
        folder.mkdir(parents=True)
        site = stack.enter_context(Site(folder / "site", **self._settings))
        wrapped = {"default-runtime": self._runtime, "runtimes": runtimes(site)}
        engine = stack.enter_context(Engine(folder / "engine", **wrapped))
        driver = engine.plugins / f"{DRIVER}.sock"
        bridge = stack.enter_context(Bridge(folder, site, driver, engine.socket, node))
        stack.callback(_empty, engine)
        cli = Cli(bridge.admin, DOCKER_HOST=f"unix://{engine.socket}")
        return Host(node, site, engine, bridge, cli)


def tidy(hosts: tuple[Host, Host]) -> None:
    """Remove all containers and volumes that their engines know."""
    for host in hosts:
        _empty(host.engine)
    for host in hosts:
        if left := host.engine("volume", "ls", "--quiet").split():
            host.engine("volume", "rm", *left)


def _empty(engine: Engine) -> None:
    """Remove its containers while the bridge is there: without it each unmount is waited for."""
    if left := engine("ps", "--all", "--quiet").split():
        engine("rm", "--force", *left)
