"""The bridge as a service: installed by its state, kept by systemd, found by Docker, removed."""

import json
import stat
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from dsvolume_bridge.reconcile import INTERVAL
from lab.docker import APPLETS, IMAGE
from lab.machine import ROOT, Machine
from lab.unix import Unix, post

DRIVER = "/run/docker/plugins/dsvolume.sock"
ADMIN = "/run/dsvolume/admin.sock"
PLACE = "/usr/local/lib/dsvolume"
CHECKOUT = str(ROOT / "salt")
NEXT = "/srv/salt"
"""A tree of file_roots with a version of its own."""
SALT_CALL = str(Path(sys.prefix) / "bin" / "salt-call")
MINION = {
    "id": "machine",
    "file_client": "local",
    "root_dir": "/var/salt",
    "file_roots": {"base": [CHECKOUT]},
    "pillar_roots": {"base": ["/srv/pillar"]},
    "enable_fqdns_grains": False,
    # Salt else lists what it serves every 20 seconds.
    "fileserver_list_cache_time": 0,
    "log_level": "error",
}
POLICIES = {"local": "ds-local", "ram": "ds-ram"}
PILLAR = {"dsvolume": {"policies": POLICIES, "trash": {"retention": 6.0625}}}
MAKE_IMAGE = f"""
mkdir -p image/bin && cp /bin/busybox image/bin
for applet in {" ".join(APPLETS)}; do ln -s busybox image/bin/$applet; done
tar -C image -c . | docker import --change 'ENV PATH=/bin' - {IMAGE}
"""
MAKE_NEXT = f"""
mkdir -p {NEXT} && cd {ROOT}/salt
tar --dereference --exclude=__pycache__ -c . | tar -C {NEXT} -x
grep -rl '"0.1.0"' {NEXT} | xargs sed -Ei 's/^(VERSION|__version__) = "0.1.0"/\\1 = "NEW"/'
"""


class Host(Machine):
    """A machine with a minion and Docker."""

    def prepare(self, **bridge: Any) -> None:
        """Its minion's configuration and pillar."""
        self("mkdir", "-p", "/etc/salt", "/srv/pillar")
        self.path("/etc/salt/minion").write_text(yaml.safe_dump(MINION))
        self.path("/srv/pillar/top.sls").write_text("base: {'*': [node]}")
        pillar = {**PILLAR, "dsvolume_bridge": bridge}
        self.path("/srv/pillar/node.sls").write_text(yaml.safe_dump(pillar))

    def sh(self, script: str) -> str:
        return self("sh", "-euc", script, seconds=100)

    def apply(
        self, sls: str = "dsvolume.bridge", *, test: bool = False, tree: str = CHECKOUT
    ) -> dict[str, Any]:
        """What ``state.apply`` answers where ``tree`` is served: the states by their ids."""
        options = ("--local", "--out=json", f"--file-root={tree}")
        command = (SALT_CALL, *options, "state.apply", sls, f"test={test}")
        done = self.run(*command, seconds=100)
        answer = json.loads(done.stdout)["local"]
        assert isinstance(answer, dict), (answer, done.stderr)
        return {state["__id__"]: {**state, "said": done.stdout} for state in answer.values()}

    def bridge_pid(self) -> int:
        return int(self("systemctl", "show", "--value", "-p", "MainPID", "dsvolume-bridge.service"))

    def is_active(self, unit: str) -> bool:
        return self.run("systemctl", "--quiet", "is-active", unit).returncode == 0

    def docker(self, *words: str) -> str:
        return self("docker", *words, seconds=100)

    def used(self, volume: str) -> list[str]:
        """By which containers."""
        [record] = json.loads(self.docker("dsvolume", "info", volume, "--format=json"))
        containers: list[str] = record["Containers"]
        return containers

    def figures(self) -> str:
        """What Prometheus is told."""
        connection = Unix(self.path(ADMIN))
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()

    def ask(self, call: str, **body: Any) -> dict[str, Any]:
        """What Docker is told."""
        said = post(self.path(DRIVER), f"/VolumeDriver.{call}", json.dumps(body).encode())
        assert said[0] == 200, said
        answer: dict[str, Any] = json.loads(said[1])
        return answer


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with Host(tmp_path_factory.mktemp("machine") / "host") as machine:
        machine.prepare()
        yield machine


@pytest.fixture(scope="module")
def applied(machine: Host) -> list[dict[str, Any]]:
    """The state applied: foretold, for the first time, once more."""
    return [machine.apply(test=test) for test in (True, False, False)]


@pytest.fixture(scope="module")
def host(machine: Host, applied: list[dict[str, Any]]) -> Host:
    """The machine with the bridge installed, then Docker started, and a volume with a file."""
    failed = [state["comment"] for state in applied[1].values() if not state["result"]]
    assert not failed, failed
    # Debian's unit gives up an engine that is started three times a minute, as it is here.
    drop_in = "/etc/systemd/system/docker.service.d"
    machine.sh(
        f"mkdir -p {drop_in} && printf '[Unit]\\nStartLimitIntervalSec=0\\n' > {drop_in}/x.conf"
    )
    machine("systemctl", "daemon-reload")
    machine("systemctl", "enable", "--now", "docker.service")
    machine.sh(f"cd /srv; {MAKE_IMAGE}")
    machine.docker("volume", "create", "--driver=dsvolume", "--opt=policy=local", "kept")
    run = ("run", "--rm", "--network=none", "-v", "kept:/data", IMAGE)
    machine.docker(*run, "touch", "/data/file")
    return machine


@contextmanager
def container(host: Host, volume: str) -> Iterator[str]:
    """One that runs with a volume."""
    mount = f"--mount=type=volume,source={volume},target=/data,volume-driver=dsvolume"
    id = host.docker("run", "--detach", "--network=none", mount, IMAGE, "sleep", "600")
    try:
        yield id
    finally:
        host.docker("rm", "--force", id)


@contextmanager
def busy(host: Host, clients: int = 30) -> Iterator[list[str]]:
    """Clients that ask all the time, as Docker does; the failures are told in the list."""
    over, failures, answers = threading.Event(), [], [0] * clients

    def work(number: int) -> None:
        name, user = f"busy{number % 10}", f"user{number}"
        while not over.is_set():
            try:
                for call in ("Get", "Mount", "Unmount"):
                    told = {} if call == "Get" else {"ID": user}
                    if error := host.ask(call, Name=name, **told)["Err"]:
                        failures.append(f"{call}: {error}")
                    answers[number] += 1
            except Exception as exc:
                failures.append(repr(exc))

    for number in range(10):
        assert host.ask("Create", Name=f"busy{number}", Opts={"policy": "local"})["Err"] == ""
    with ThreadPoolExecutor(clients) as pool:
        for number in range(clients):
            pool.submit(work, number)
        try:
            wait_until(lambda: min(answers) > 0)
            yield failures
            seen = list(answers)
            wait_until(lambda: all(a > b for a, b in zip(answers, seen, strict=True)))
        finally:
            over.set()


def wait_until(true: Any, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def changed(answer: dict[str, Any]) -> set[str]:
    return {id for id, state in answer.items() if state["changes"] or state["result"] is None}


# -- the state


def test_the_first_run_is_foretold_and_the_second_changes_nothing(
    applied: list[dict[str, Any]],
) -> None:
    foretold, first, second = applied
    assert set(foretold) == set(first) == set(second)
    assert changed(foretold) == changed(first) == set(first)
    assert changed(second) == set() and all(state["result"] for state in second.values())


def test_configuration_comes_from_pillar_and_is_not_shown(
    machine: Host, applied: list[dict[str, Any]]
) -> None:
    config = machine.path("/etc/dsvolume/config.yaml")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert yaml.safe_load(config.read_text()) == PILLAR["dsvolume"]
    said = [next(iter(answer.values()))["said"] for answer in applied]
    assert not [text for text in said if "6.0625" in text]


def test_the_sockets_are_roots_alone(host: Host) -> None:
    for path in (DRIVER, ADMIN):
        entry = host.path(path).stat()
        assert stat.S_ISSOCK(entry.st_mode) and stat.S_IMODE(entry.st_mode) == 0o600
        assert (entry.st_uid, entry.st_gid) == (0, 0)
        assert stat.S_IMODE(host.path(path).parent.stat().st_mode) == 0o700


def test_the_command_line_is_docker_s_and_completes(host: Host) -> None:
    assert "root: /var/lib/dsvolume" in host.docker("dsvolume", "version")
    completion = "/etc/bash_completion.d/docker-dsvolume"
    assert host("bash", "-c", f"source {completion}; complete -p docker-dsvolume")
    host("test", "-s", "/usr/local/share/zsh/site-functions/_docker-dsvolume")


def test_it_runs_from_its_own_copy(host: Host) -> None:
    maps = host.sh(f"tr '\\0' '\\n' < /proc/{host.bridge_pid()}/cmdline")
    assert f"{PLACE}/current/plugin/bin/dsvolume-bridge" in maps
    host("rm", "-rf", "/var/salt/var/cache/salt")  # Salt's cache, where a minion has its modules
    host("systemctl", "restart", "dsvolume-bridge.service")
    assert host.ask("Get", Name="kept")["Err"] == ""


# -- Docker


def test_a_container_s_data_are_kept(host: Host) -> None:
    run = ("run", "--rm", "--network=none", "-v", "kept:/data", IMAGE)
    assert host.docker(*run, "ls", "/data") == "file"
    assert host.docker("volume", "inspect", "--format={{.Driver}}", "kept") == "dsvolume"


def stays_stopped(host: Host) -> bool:
    """Is Docker, over several looks of the bridge?"""
    host("systemctl", "stop", "docker.service")
    until = time.monotonic() + 3 * INTERVAL
    while time.monotonic() < until:
        if host.is_active("docker.service"):
            return False
        time.sleep(0.1)
    return True


def test_an_engine_that_is_stopped_is_left_alone(host: Host) -> None:
    """Its socket is still there: who connects to it starts the engine."""
    # A request that met it in its last moment starts it once more; the bridge's looks never do.
    assert any(stays_stopped(host) for _ in range(3))
    assert host.is_active("docker.socket")
    assert host.docker("volume", "ls", "--quiet") == "kept"  # which has started it
    wait_until(lambda: 'dsvolume_up{part="engine"} 1' in host.figures())


def test_docker_finds_its_volumes_when_it_starts_before_the_bridge(host: Host) -> None:
    comes_back = ("--restart=always", "--stop-timeout=1", "-v", "kept:/data")
    id = host.docker("run", "--detach", "--network=none", *comes_back, IMAGE, "sleep", "600")
    host("systemctl", "stop", "docker.socket", "docker.service")
    # Containers let go of their volumes as they end: the bridge is still there.
    wait_until(lambda: host.run("mountpoint", "/var/lib/dsvolume/mounts/kept").returncode)
    host("systemctl", "stop", "dsvolume-bridge.service")
    host("systemctl", "start", "docker.service")
    wait_until(lambda: host.run("docker", "exec", id, "ls", "/data").stdout == "file\n")
    host.docker("rm", "--force", id)
    listed = host.docker("volume", "ls", "--format={{.Name}} {{.Driver}}")
    assert "kept dsvolume" in listed.splitlines()


def test_nobody_stops_docker_by_way_of_the_sockets(host: Host) -> None:
    for verb in ("stop", "restart"):
        assert host.run("systemctl", verb, "dsvolume-bridge.socket").returncode
    assert host.is_active("docker.service") and host.is_active("dsvolume-bridge.socket")


# -- restarts


def test_a_restart_loses_no_request(host: Host) -> None:
    with busy(host) as failures:
        for _ in range(3):
            host("systemctl", "restart", "dsvolume-bridge.service")
    assert failures == []


def test_a_bridge_that_is_killed_comes_back_and_requests_wait(host: Host) -> None:
    with container(host, "kept") as id:
        for _ in range(3):
            pid = host.bridge_pid()
            host("kill", "-KILL", str(pid))
            assert host.ask("Get", Name="kept")["Err"] == ""
            assert host.bridge_pid() not in (0, pid)
        assert host.docker("exec", id, "ls", "/data") == "file"


def test_a_request_starts_a_bridge_that_was_stopped(host: Host) -> None:
    host("systemctl", "stop", "dsvolume-bridge.service")
    assert not host.is_active("dsvolume-bridge.service")
    host.docker("run", "--rm", "--network=none", "-v", "kept:/data", IMAGE, "true")
    assert host.is_active("dsvolume-bridge.service")


def test_it_refuses_a_mount_namespace_of_its_own(host: Host) -> None:
    program = f"{PLACE}/current/plugin/bin/dsvolume-bridge"
    ended = host.run("unshare", "--mount", sys.executable, program, "--config-dir=/etc/salt")
    assert ended.returncode == 1 and "mount namespace of its own" in ended.stderr


# -- versions, the runtime, the end


def next_version(host: Host, version: str, but: str = "true") -> dict[str, Any]:
    """The master serves another version, but for a command that was run in its tree."""
    host.sh(f"rm -rf {NEXT}; {MAKE_NEXT.replace('NEW', version)} cd {NEXT}; {but}")
    return host.apply(tree=NEXT)


def versions(host: Host) -> tuple[set[str], str]:
    names = set(host("ls", PLACE).split()) - {"current"}
    return names, Path(host("readlink", f"{PLACE}/current")).name


def test_another_version_takes_over_and_the_one_before_stays(host: Host) -> None:
    with busy(host, 10) as failures, container(host, "kept") as id:
        next_version(host, "0.1.1")
        assert versions(host) == ({"0.1.0", "0.1.1"}, "0.1.1")
        assert "libstorage: 0.1.1" in host.docker("dsvolume", "version")
        next_version(host, "0.1.2")
        assert versions(host) == ({"0.1.1", "0.1.2"}, "0.1.2")
        back = next_version(host, "0.1.1")
        assert versions(host) == ({"0.1.1", "0.1.2"}, "0.1.1")
        assert changed(back) == {
            "version 0.1.1 starts",
            "version 0.1.1 is the current one",
            "the bridge",
        }
        assert host.docker("exec", id, "ls", "/data") == "file"
    assert failures == []


def test_half_a_copy_takes_nothing_over(host: Host) -> None:
    before = versions(host)[1]
    answer = next_version(host, "0.1.3", "rm dsvolume/plugin/dsvolume_bridge/lanes.py")
    starts = answer["version 0.1.3 starts"]
    assert starts["result"] is False
    assert "No module named 'dsvolume_bridge.lanes'" in starts["changes"]["stderr"]
    assert versions(host)[1] == before and host.ask("Get", Name="kept")["Err"] == ""


def test_docker_learns_of_the_runtime_without_a_restart(host: Host) -> None:
    before = json.loads(host("cat", "/etc/docker/daemon.json"))
    pid = host("systemctl", "show", "--value", "-p", "MainPID", "docker.service")
    host.prepare(runtime=True)
    next_version(host, "0.1.1")
    after = json.loads(host("cat", "/etc/docker/daemon.json"))
    runtime = {"dsvolume": {"path": f"{PLACE}/current/plugin/bin/dsvolume-runc"}}
    assert after == {**before, "runtimes": runtime}
    assert changed(host.apply(tree=NEXT)) == set()
    wait_until(lambda: "dsvolume" in host.docker("info", "--format={{json .Runtimes}}"))
    host.docker("run", "--rm", "--network=none", "--runtime=dsvolume", IMAGE, "true")
    assert host("systemctl", "show", "--value", "-p", "MainPID", "docker.service") == pid


def test_it_goes_when_no_container_needs_it(host: Host) -> None:
    host(SALT_CALL, "--local", f"--file-root={NEXT}", "saltutil.sync_all")
    with container(host, "kept") as id:
        answer = host.apply("dsvolume.bridge_absent", tree=NEXT)
        [refused] = [state for state in answer.values() if state["result"] is False]
        assert f"kept ({id[:12]})" in refused["name"]
        assert host.is_active("dsvolume-bridge.service")
    wait_until(lambda: not host.used("kept"))
    foretold = host.apply("dsvolume.bridge_absent", tree=NEXT, test=True)
    first = host.apply("dsvolume.bridge_absent", tree=NEXT)
    assert all(state["result"] for state in first.values())
    assert changed(foretold) == changed(first) != set()
    assert changed(host.apply("dsvolume.bridge_absent", tree=NEXT)) == set()
    assert host.is_active("docker.service")
    assert "runtimes" not in json.loads(host("cat", "/etc/docker/daemon.json"))
    left = host.sh(
        "find /usr/local/lib /usr/local/share /etc /run -name '*dsvolume*' | sort"
    ).splitlines()
    assert [path for path in left if "salt" not in path] == ["/etc/dsvolume", "/run/dsvolume"]
    assert host(SALT_CALL, "--local", "dsvolume.ls").count("kept") == 1
    for unit in ("dsvolume-bridge.service", "dsvolume-bridge.socket"):
        assert not host.is_active(unit)
