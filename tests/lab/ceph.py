"""
A real Ceph of one monitor and one OSD in memory, as this user, without systemd; up in seconds.

It needs no manager: RBD works without one, and only who asks how full it is starts one. What waits
a second in a real cluster (a change of the OSD map) takes a twentieth here.
"""

import json
import os
import random
import signal
import socket
import subprocess
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from lab.site import Site

SIZE = 2 * 2**30
"""Bytes that the OSD holds."""
POOL = "volumes"
USER = "dsvolume"
"""May do what docs/ceph.md says, and no more."""
POLICIES = {"local": "ds-local", "ram": "ds-ram", "secure": "ds-ram"}
START_SECONDS = 60.0
CLASSES = ("/usr/lib/x86_64-linux-gnu/rados-classes", "/usr/lib/rados-classes")

UNWANTED = (
    "balancer,crash,devicehealth,orchestrator,pg_autoscaler,progress,rbd_support,status,telemetry,"
    "volumes"
)
"""Modules of the manager that would start with it, and count nothing."""

CONF = """
[global]
fsid = {fsid}
mon_host = {monitor}
public_addr = {address}
ms_bind_ipv6 = false
keyring = {folder}/keyring
log_file = {folder}/$name.log
run_dir = {folder}
admin_socket =
crash_dir = {folder}
log_to_stderr = false
err_to_stderr = true
auth_allow_insecure_global_id_reclaim = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_mgr_mkfs_grace = 100000
mgr_initial_modules =
mgr_disabled_modules = {unwanted}
mgr_stats_period = 1
mgr_tick_period = 1
[client]
log_file =
[mon]
mon_data = {folder}/mon
mon_data_avail_crit = 1
mon_data_avail_warn = 2
mon_cluster_log_file = {folder}/cluster.log
[mgr]
mgr_data = {folder}/mgr
[osd]
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = {size}
osd_class_dir = {classes}
osd_class_update_on_start = false
osd_client_watch_timeout = {watch}
osd_op_complaint_time = 600
"""


class Reached:
    """
    A cluster that runs, as its administrator reaches it.

    conf
        What its clients are configured with; the keyring that it names has all of them.
    """

    def __init__(self, conf: Path) -> None:
        self.conf = conf
        self._namespaces = 0

    def _run(self, *argv: str, seconds: float = START_SECONDS) -> str:
        done = subprocess.run(
            argv,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"CEPH_CONF": str(self.conf), "LC_ALL": "C"}

    def __call__(self, *words: str) -> Any:
        """Run ``ceph``; what it says, as JSON where it says any."""
        said = self._run("ceph", "--format=json", "--connect-timeout=20", *words).strip()
        with suppress(json.JSONDecodeError):
            return json.loads(said)
        return said

    def refuses(self, *argv: str) -> bool:
        """May the volumes' user not run this?"""
        command = (argv[0], f"--name=client.{USER}", *argv[1:])
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=20
        )
        words = ("EACCES", "EPERM", "not permitted", "Permission denied")
        return bool(done.returncode) and any(word in done.stderr for word in words)

    def rbd(self, *words: str) -> str:
        """Run ``rbd``."""
        return self._run("rbd", *words).strip()

    def settings(self, mapper: str = "qemu") -> dict[str, Any]:
        """
        Settings of a site that keeps its volumes here, in a namespace of its own.

        mapper
            What maps its images; qemu works on every kernel.
        """
        self._namespaces += 1
        namespace = f"site{self._namespaces}"
        self.rbd("namespace", "create", f"{POOL}/{namespace}")
        place = {"conf": str(self.conf), "client": USER, "pool": POOL, "namespace": namespace}
        ceph = {**place, "mapper": mapper}
        return {"policies": {**POLICIES, "distributed": "ds-ceph"}, "ceph": ceph}

    def images(self, site: Site) -> list[str]:
        """The images of a site's namespace."""
        return self.rbd("ls", f"{POOL}/{site.config.ceph['namespace']}").split()


class Ceph(Reached):
    """
    One cluster.

    watch
        Seconds for which it believes in a client that says nothing. The kernel's speaks each 5 s.
    size
        Bytes that the OSD holds; memory is taken for what is written.
    address
        Where it listens.
    """

    def __init__(
        self, folder: Path, watch: int = 4, size: int = SIZE, address: str = "127.0.0.1"
    ) -> None:
        super().__init__(folder / "ceph.conf")
        self.folder = folder
        self._watch = watch
        self._size = size
        self._address = address
        self._keyring = folder / "keyring"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.close)
            osd = str(uuid.uuid4())
            self._prepare(osd)
            self.start("mon")
            self("osd", "create", osd, "0")
            self.start("osd")
            self("osd", "pool", "create", POOL, "8")
            self("osd", "set-require-min-compat-client", "mimic")
            self.rbd("pool", "init", POOL)  # returns when it serves
            allowed = ("mon", "profile rbd", "osd", f"profile rbd pool={POOL}")
            key = self._run("ceph", "auth", "get-or-create", f"client.{USER}", *allowed)
            self._keyring.write_text(self._keyring.read_text() + key)
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all of it; what it held was in memory."""
        for name in [*self._daemons]:
            self.kill(name)

    def _prepare(self, osd: str) -> None:
        (self.folder / "mon").mkdir(parents=True)
        (self.folder / "osd").mkdir()
        (self.folder / "mgr").mkdir()
        port, fsid = _ports(self._address), str(uuid.uuid4())
        monitor = f"[v2:{self._address}:{port},v1:{self._address}:{port + 1}]"
        classes = next(path for path in CLASSES if Path(path).is_dir())
        words = {"fsid": fsid, "folder": self.folder, "size": self._size, "classes": classes}
        listens = {"monitor": monitor, "address": self._address}
        own = {"watch": self._watch, "unwanted": UNWANTED}
        self.conf.write_text(CONF.format(**listens, **words, **own))
        self._key("mon.", mon="allow *")
        self._key("client.admin", mon="allow *", osd="allow *")
        self._key("mgr.x", mon="allow profile mgr", osd="allow *")
        self._key("osd.0", mon="allow profile osd", osd="allow *")
        monmap = str(self.folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitor, monmap)
        mkfs = ("--mkfs", "--monmap", monmap, "--keyring", str(self._keyring))
        self._run("ceph-mon", "-i", "a", *mkfs)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd, "--no-mon-config")

    def _key(self, name: str, **capabilities: str) -> None:
        create = [] if self._keyring.exists() else ["--create-keyring"]
        caps = [word for kind, cap in capabilities.items() for word in ("--cap", kind, cap)]
        command = ("ceph-authtool", str(self._keyring), *create, "--gen-key", "-n", name)
        self._run(*command, *caps)

    # -- its daemons

    def start(self, name: str) -> None:
        """Start ``mon``, ``osd`` or ``mgr``, and wait until it serves."""
        command = {
            "mon": ["ceph-mon", "-f", "-i", "a", "--keyring", str(self._keyring)],
            "mgr": ["ceph-mgr", "-f", "-i", "x"],
            "osd": ["ceph-osd", "-f", "-i", "0"],
        }[name]
        with open(self.folder / f"{name}.out", "ab") as out:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while not self._serves(name):
            said = (self.folder / f"{name}.out").read_text()[-2000:]
            assert self._daemons[name].poll() is None and time.monotonic() < until, said
            time.sleep(0.05)

    def _serves(self, name: str) -> bool:
        what = ("df",) if name == "mgr" else ("osd", "stat")
        ask = ("ceph", "--format=json", "--connect-timeout=2", *what)
        done = subprocess.run(ask, env=self.environment, capture_output=True, check=False)
        if done.returncode or name == "mon":
            return done.returncode == 0
        said = json.loads(done.stdout)
        return bool(said["stats"]["total_bytes"] if name == "mgr" else said["num_up_osds"])

    def signal(self, name: str, number: signal.Signals) -> None:
        """Stop a daemon (SIGSTOP), or let it go on (SIGCONT)."""
        self._daemons[name].send_signal(number)

    def kill(self, name: str) -> None:
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait(20)


def _ports(address: str) -> int:
    """Two neighbouring ports that nobody has; below those that the kernel gives to anybody."""
    while True:
        port = random.randrange(20000, 32000, 2)
        with socket.socket() as one, socket.socket() as two, suppress(OSError):
            one.bind((address, port))
            two.bind((address, port + 1))
            return port


def write_through(point: Path) -> None:
    """Write something and bring it to the storage."""
    with open(point / "late", "w") as file:
        file.write("too late")
        file.flush()
        os.fsync(file.fileno())


def mappers(site: Site) -> list[int]:
    """The processes that map images for a site."""
    argv = ["pgrep", "-f", f"^qemu-storage-daemon.*{site.root}"]
    found = subprocess.run(argv, capture_output=True, check=False)
    return [int(pid) for pid in found.stdout.split()]
