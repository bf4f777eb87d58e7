"""
Docker's traps on a real engine: our plugin, a naive one, and the naive one in the trap.

The same scenario for all three. What is asserted is that the last one, and no other, comes to the
harm that is told.
"""

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, Self

import pytest

from lab import naive as traps
from lab.bridge import Bridge
from lab.docker import IMAGE, Engine
from lab.etcd import Cluster
from lab.naive import Naive
from lab.proxy import BEFORE, LOST, NEVER, Proxy
from lab.scenarios import KINDS
from lab.site import Site
from libstorage.manager import Given

HANGS = """
from libstorage.controllers.images import Images
def hangs(*_): print("at it", flush=True); time.sleep(60)
Images.snapshot_create = hangs
manager.snapshot_create(f"{arguments[0]}@s")
"""
SLOW = """
import time
import dsvolume_bridge.driver
from libstorage.controllers.local import Local
dsvolume_bridge.driver.CHANGE_SECONDS = 6.0
quick = Local.attach
def slowly(*words):
    time.sleep(7)
    return quick(*words)
Local.attach = slowly
"""
WAYS = ("ours", "naive", "trapped")


def until(reached: Callable[[], object], seconds: float = 10) -> bool:
    """Does it come to that in time?"""
    end = time.monotonic() + seconds
    while not (there := bool(reached())) and time.monotonic() < end:
        time.sleep(0.05)
    return there


def ask(path: Path, call: str, seconds: float = 60, **body: Any) -> dict[str, Any]:
    """What a plugin says; raises TimeoutError where it takes longer, and hangs up."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(seconds)
        one.connect(str(path))
        connection = HTTPConnection("plugin")
        connection.sock = one
        connection.request("POST", f"/VolumeDriver.{call}", json.dumps(body))
        said: dict[str, Any] = json.loads(connection.getresponse().read())
        return said


def answers(engine: Engine) -> bool:
    with suppress(TimeoutExpired):
        return not engine.client("version", seconds=2).returncode
    return False


class Lab:
    """One engine with both plugins, each behind a proxy; the bridge on a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.engine = Engine(folder / "e")
        self.cluster = Cluster(folder / "etcd")
        self.site = Site(folder / "s", store=self.cluster.store("/traps"))
        back = folder / "b" / "ours.sock"
        self.bridge = Bridge(folder / "b", self.site, back, self.engine.socket, held=True)
        self.naive = Naive(folder / "n" / "naive.sock", folder / "n", self.engine.socket)
        self.sockets = {"ours": back, "naive": folder / "n" / "naive.sock"}
        self.proxies = {
            name: Proxy(self.engine.plugins / f"{name}.sock", socket)
            for name, socket in self.sockets.items()
        }
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            parts = (self.engine, self.cluster, self.site, self.bridge, self.naive)
            for one in (*parts, *self.proxies.values()):
                stack.enter_context(one)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        # The engine removes its containers, and must be answered meanwhile.
        self.engine.stop()
        self._stack.close()

    def local(self, name: str) -> bool:
        """Has the engine made a local volume of that name?"""
        return (self.engine.folder / "data" / "volumes" / name).is_dir()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    # A socket's path ends after 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="t-"))
    with Lab(folder) as lab:
        yield lab
    shutil.rmtree(folder)


class Plugin:
    """
    One of the three.

    right
        It is not in the trap: what must hold, holds.
    """

    def __init__(self, lab: Lab, way: str) -> None:
        self.lab = lab
        self.ours = way == "ours"
        self.right = way != "trapped"
        self.name = "ours" if self.ours else "naive"
        self.proxy = lab.proxies[self.name]
        self.socket = lab.sockets[self.name]
        self.volume = f"v{os.urandom(3).hex()}"

    def falls(self, trap: str) -> None:
        """The switch is on, for who is to fall into it."""
        if not self.right:
            self.lab.naive.traps.add(trap)

    def make(self, kind: str = "directory") -> str:
        """A volume that Docker has asked for."""
        options = ["policy=local"] + (["fstype=ext4", "size=8"] if kind == "ext4" else [])
        words = [f"--opt={option}" for option in options]
        return self.lab.engine("volume", "create", f"--driver={self.name}", *words, self.volume)

    def add(self) -> str:
        """A volume with data that the engine has not heard of."""
        if self.ours:
            manager = self.lab.site.manager()
            manager.create(self.volume, Given(**KINDS["directory"]))
            point = Path(manager.mount(self.volume)["Mountpoint"])
            (point / "marker").write_text("kept\n")
            manager.unmount(self.volume)
        else:
            (self.lab.naive.add(self.volume) / "marker").write_text("kept\n")
        return self.volume

    def drop(self) -> None:
        """The volume goes, without Docker."""
        if self.ours:
            self.lab.site.manager().rm(self.volume, force=True)
        else:
            self.lab.naive.drop(self.volume)

    def away(self) -> None:
        """It cannot look anything up."""
        if self.ours:
            self.lab.cluster.members[0].kill()
        self.lab.naive.away = not self.ours

    def back(self) -> None:
        self.lab.naive.away = False
        member = self.lab.cluster.members[0]
        if member.process is not None and member.process.poll() is not None:
            member.start()
            self.lab.cluster.wait()

    def mounted(self) -> bool:
        """Is the volume in the mount table?"""
        if self.ours:
            return self.volume in [path.name for path in self.lab.site.mounted()]
        return self.lab.naive.mounted(self.volume)

    def tied(self, container: str) -> bool:
        """Is it known whose mount it is? The naive one does not ask."""
        held = self.lab.site.values("attachments/").values()
        users = [user["Container"] for attachment in held for user in attachment["Users"]]
        return not self.ours or users == [container]

    def clean(self) -> None:
        """Nothing of it is left for the next."""
        self.lab.naive.traps.clear()
        self.lab.naive.slow = 0.0
        self.back()
        engine = self.lab.engine
        engine.wait()
        if left := engine("ps", "--all", "--quiet").split():
            engine("rm", "--force", *left)
        engine.client("volume", "rm", "--force", self.volume)
        with suppress(Exception):
            self.drop()


@pytest.fixture(params=WAYS)
def plugin(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Plugin]:
    plugin = Plugin(lab, request.param)
    yield plugin
    plugin.clean()


@pytest.fixture
def engine(lab: Lab) -> Engine:
    return lab.engine


def start(engine: Engine, volume: str, *more: str) -> str:
    """A container that sleeps and uses the volume; its id."""
    options = ("--detach", "--network=none", "-v", f"{volume}:/x", *more)
    return engine("run", *options, IMAGE, "sh", "-c", "trap exit TERM; sleep 600 & wait")


def test_a_copy_comes_with_the_live_mounts_id(
    plugin: Plugin, engine: Engine, tmp_path: Path
) -> None:
    """1: a set of IDs unmounts the volume under its container."""
    plugin.falls(traps.SET)
    one = start(engine, plugin.make())
    engine("exec", one, "sh", "-c", "echo kept > /x/file")
    for _ in range(2):
        engine("cp", f"{one}:/x/file", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "kept\n"
    assert plugin.mounted() is plugin.right
    engine("rm", "--force", one)
    assert until(lambda: not plugin.mounted())


@pytest.mark.parametrize("plugin", ["ours", "trapped"], indirect=True)
def test_a_copy_fails_and_gives_back_the_containers_mount(
    plugin: Plugin, engine: Engine, tmp_path: Path
) -> None:
    """12: Docker 20.10 unmounts all volumes of the container, as if the copy had mounted them."""
    one = start(engine, plugin.make())
    assert until(lambda: plugin.tied(one))
    with plugin.proxy.holding("Mount", NEVER) as held:
        copying = engine.begin("cp", f"{one}:/x", str(tmp_path))
        held.wait()
    assert copying.communicate(timeout=60) and copying.returncode
    mended = not engine("version", "--format={{.Server.Version}}").startswith("20.")
    assert plugin.mounted() is (plugin.right or mended)
    engine("rm", "--force", one)
    assert until(lambda: not plugin.mounted())


@pytest.mark.parametrize("plugin", ["ours", "trapped"], indirect=True)
@pytest.mark.parametrize("state", ["running", "exited"])
def test_a_copys_unmount_never_comes(
    plugin: Plugin, engine: Engine, tmp_path: Path, state: str
) -> None:
    """12: nobody tells it again: it is found out by what the engine says of the container."""
    one = start(engine, plugin.make())
    assert until(lambda: plugin.tied(one))
    if state == "exited":
        engine("kill", one)
        assert until(lambda: not plugin.mounted())
    with plugin.proxy.holding("Unmount", NEVER) as held:
        copying = engine.begin("cp", f"{one}:/x", str(tmp_path))
        held.wait()
    copying.wait(60)
    if state == "running":
        assert plugin.mounted()
        engine("kill", one)
    assert until(lambda: not plugin.mounted(), 5) is plugin.right


def test_a_killed_engine_tells_of_no_unmount(plugin: Plugin, engine: Engine) -> None:
    """2: a bare counter never comes to naught again."""
    plugin.falls(traps.COUNTER)
    one = start(engine, plugin.make(), "--restart=always")
    engine.kill()
    engine.start()
    assert until(lambda: engine("ps", "--quiet", "--no-trunc") == one)
    assert plugin.mounted() and until(lambda: plugin.tied(one))
    engine("rm", "--force", one)
    assert until(lambda: not plugin.mounted(), 5) is plugin.right


def test_a_volume_is_denied_while_the_store_is_away(plugin: Plugin, engine: Engine) -> None:
    """3: the engine forgets the volume, and makes an empty one of its name."""
    plugin.falls(traps.DENIES)
    name = plugin.make()
    engine.run("-v", f"{name}:/x", IMAGE, "sh", "-c", "echo kept > /x/file")
    plugin.away()
    done = engine.client("run", "--rm", "--network=none", "-v", f"{name}:/x", IMAGE, "ls", "/x")
    assert plugin.lab.local(name) is not plugin.right
    assert (done.returncode != 0) is plugin.right and done.stdout == ""
    plugin.back()
    if plugin.right:
        assert engine.run("-v", f"{name}:/x", IMAGE, "cat", "/x/file") == "kept"


@pytest.mark.parametrize("plugin", ["ours", "trapped"], indirect=True)
def test_the_plugin_is_absent_when_the_engine_starts(plugin: Plugin, engine: Engine) -> None:
    """4: the engine waits for it, then does without; a socket that is held waits for the bridge."""
    name = plugin.make()
    engine.run("-v", f"{name}:/x", IMAGE, "sh", "-c", "echo kept > /x/file")
    engine.kill()
    if plugin.ours:
        plugin.lab.bridge.kill()
    else:
        plugin.proxy.__exit__()
    engine.start(seconds=120)
    done = engine.client("run", "--rm", "--network=none", "-v", f"{name}:/x", IMAGE, "ls", "/x")
    if not plugin.ours:
        plugin.lab.proxies["naive"] = plugin.proxy = Proxy(
            engine.plugins / "naive.sock", plugin.socket
        ).__enter__()
    assert plugin.lab.local(name) is not plugin.right
    assert done.returncode == 0 and ("file" in done.stdout) is plugin.right


def test_a_mount_outlasts_who_asked(plugin: Plugin, tmp_path: Path) -> None:
    """
    5: Docker gives up after 120 s and never unmounts.

    The limits are shortened, and who gives up is the test: Docker's own cannot be set.
    """
    if not plugin.ours:
        plugin.falls(traps.FOR_NOBODY)
        plugin.lab.naive.slow = 0.5
        plugin.make()
        with pytest.raises(TimeoutError):
            ask(plugin.socket, "Mount", 0.2, Name=plugin.volume, ID="1" * 64)
        assert until(plugin.mounted, 2) is not plugin.right
        return
    with (
        Site(tmp_path / "s") as site,
        Bridge(tmp_path / "b", site, tmp_path / "d.sock", tmp_path / "none", before=SLOW) as slow,
    ):
        ask(slow.driver, "Create", Name="v", Opts={"policy": "local"})
        said = ask(slow.driver, "Mount", Name="v", ID="1" * 64)
        assert "takes too long" in said["Err"]
        # It goes on, comes to its end, and is taken back.
        assert until(lambda: "unmount" in json.dumps(site.values("events/")))
        assert until(lambda: not site.mounted() and not site.values("attachments/"))


def test_a_look_up_is_repeated_without_a_name(plugin: Plugin, engine: Engine) -> None:
    """6: a plugin that denies it has denied the volume that was meant."""
    plugin.falls(traps.EMPTY_IS_ABSENT)
    name = plugin.add()
    with plugin.proxy.holding("Get", LOST) as held:
        running = engine.begin(
            "run", "--rm", "--network=none", "-v", f"{name}:/x", IMAGE, "cat", "/x/marker"
        )
        held.wait()
    _, said = running.communicate(timeout=60)
    assert running.returncode and plugin.lab.local(name) is not plugin.right
    if plugin.right:
        assert said and engine.run("-v", f"{name}:/x", IMAGE, "cat", "/x/marker") == "kept"


def test_a_mount_is_repeated_without_a_name(plugin: Plugin, engine: Engine) -> None:
    """6: acted upon, the container runs on something else."""
    plugin.falls(traps.ACTS_ON_EMPTY)
    name = plugin.add()
    with plugin.proxy.holding("Mount", LOST) as held:
        running = engine.begin(
            "run", "--rm", "--network=none", "-v", f"{name}:/x", IMAGE, "ls", "/x"
        )
        held.wait()
    out, said = running.communicate(timeout=60)
    assert (running.returncode != 0) is plugin.right and "marker" not in out
    if plugin.right:
        assert said and engine.run("-v", f"{name}:/x", IMAGE, "cat", "/x/marker") == "kept"


def test_a_handler_raises(plugin: Plugin, engine: Engine) -> None:
    """6: the connection drops, and Docker tries again for 15 s without a word of the reason."""
    plugin.falls(traps.RAISES)
    began = time.monotonic()
    done = engine.client("volume", "create", f"--driver={plugin.name}", plugin.volume)
    assert done.returncode
    assert (time.monotonic() - began < 10) is plugin.right
    assert ("EOF" not in done.stderr) is plugin.right


def test_one_mount_hangs(plugin: Plugin, engine: Engine) -> None:
    """7: whoever looks up a name that is new, of whatever driver, asks every plugin."""
    plugin.falls(traps.ONE_AT_A_TIME)
    name = plugin.make("ext4" if plugin.ours else "directory")
    plugin.lab.naive.slow = 5.0
    hanging = plugin.lab.site.python(HANGS, name) if plugin.ours else None
    if hanging is not None:
        assert hanging.stdout and hanging.stdout.readline() == "at it\n"
    with plugin.proxy.holding("Mount", BEFORE) as held:
        stuck = engine.begin("run", "--rm", "--network=none", "-v", f"{name}:/x", IMAGE, "true")
        held.wait()
    time.sleep(0.2)  # the plugin has begun
    began = time.monotonic()
    assert engine.client("volume", "inspect", f"other-{name}").returncode
    assert (time.monotonic() - began < 2.5) is plugin.right
    if hanging is not None:
        assert stuck.poll() is None
        hanging.kill()
    assert stuck.wait(60) == 0


def test_the_engine_lets_remove_what_is_in_use(plugin: Plugin, engine: Engine) -> None:
    """8: it knows its own containers only, and not even those whose unmount failed."""
    plugin.falls(traps.REMOVES_USED)
    name = plugin.make()
    user = {"Name": name, "ID": "f" * 64}
    assert Path(ask(plugin.socket, "Mount", **user)["Mountpoint"], "file").write_text("kept")
    removed = engine.client("volume", "rm", name)
    assert (removed.returncode != 0) is plugin.right
    assert ("in use" in removed.stderr) is plugin.right
    if plugin.right:
        ask(plugin.socket, "Unmount", **user)
        assert engine.run("-v", f"{name}:/x", IMAGE, "cat", "/x/file") == "kept"


def test_a_volume_was_deleted_behind_the_engines_back(plugin: Plugin, engine: Engine) -> None:
    """9: with ``-v`` nothing helps; with the driver named, who is asked may refuse."""
    plugin.falls(traps.MAKES_UP)
    name = plugin.make()
    engine.run("-v", f"{name}:/x", IMAGE, "sh", "-c", "echo kept > /x/file")
    plugin.drop()
    mount = f"--mount=type=volume,src={name},dst=/x,volume-driver={plugin.name}"
    done = engine.client("run", "--rm", "--network=none", mount, IMAGE, "ls", "/x")
    assert (done.returncode != 0) is plugin.right and not plugin.lab.local(name)
    assert "file" not in done.stdout
    # Docker's own doing, for every plugin: it is why the driver should be named.
    mistyped = f"{name}x"
    engine.run("-v", f"{mistyped}:/x", IMAGE, "true")
    assert plugin.lab.local(mistyped)
    engine("volume", "rm", mistyped)


def test_the_engine_does_not_answer_while_it_starts(plugin: Plugin, engine: Engine) -> None:
    """10: it mounts before it answers; whoever asks it first waits for himself."""
    start(engine, plugin.make(), "--restart=always")
    engine.kill()
    plugin.falls(traps.ASKS_ENGINE)
    engine.begin_start()
    assert until(lambda: answers(engine), 8) is plugin.right
