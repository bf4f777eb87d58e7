"""``salt-run dscluster``: a bundle is planned, applied, looked at and taken down."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.hosts import Hosts
from lab.machine import ROOT

BIN = Path(sys.prefix) / "bin"


class Runner:
    """A master with bundles, and salt-run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        master = {
            "interface": "127.0.0.1",
            "worker_threads": 3,
            "root_dir": str(folder / "root"),
            "module_dirs": [str(ROOT / "salt")],
            "dscluster": {"folder": str(folder / "bundles")},
            "log_level": "error",
        }
        (folder / "master").write_text(yaml.safe_dump(master))
        command = ["setpriv", "--pdeathsig=TERM", str(BIN / "salt-master"), f"-c{folder}"]
        self._master = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while not (folder / "root/var/run/salt/master/master_event_pull.ipc").exists():
            assert self._master.poll() is None and time.monotonic() < until, "no master"
            time.sleep(0.1)

    def stop(self) -> None:
        """The master ends, with all its processes."""
        self._master.terminate()
        self._master.wait(30)

    def describe(self, name: str, text: Any) -> Path:
        """Write a bundle's description; returns its folder."""
        bundle = self.folder / "bundles" / name
        bundle.mkdir(parents=True, exist_ok=True)
        (bundle / "bundle.yaml").write_text(yaml.safe_dump(text))
        return bundle

    def run(self, verb: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """salt-run, however it ends."""
        command = [
            str(BIN / "salt-run"),
            f"--config-dir={self.folder}",
            "--out=json",
            f"dscluster.{verb}",
        ]
        return subprocess.run(
            [*command, *words], capture_output=True, text=True, check=False, timeout=300
        )

    def __call__(self, verb: str, *words: str) -> Any:
        """The answer, without the progress before it; AssertionError where it fails."""
        done = self.run(verb, *words)
        assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
        return json.loads(
            done.stdout[done.stdout.rindex("\n{\n") if "\n{\n" in done.stdout else 0 :]
        )

    def refused(self, verb: str, *words: str) -> str:
        """Why it is refused; AssertionError where it is not."""
        done = self.run(verb, *words)
        assert done.returncode != 0, done.stdout[-3000:]
        return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """One host, on a network that the master is in too."""
    with Hosts(tmp_path_factory.mktemp("one") / "hosts", "m") as hosts:
        yield hosts


@pytest.fixture(scope="module")
def runner(hosts: Hosts) -> Iterator[Runner]:
    with tempfile.TemporaryDirectory() as folder:  # its sockets' paths are short
        runner = Runner(Path(folder))
        try:
            yield runner
        finally:
            runner.stop()


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000000"
NODE = {"address": "192.0.2.1", "host_key": KEY, "roles": ["master"]}
LAB = {"target": "private", "variables": {"cluster": "lab", "nodes": {"m": NODE}}}


def test_a_bundles_life(runner: Runner, hosts: Hosts) -> None:
    host = hosts["m"]
    node = NODE | {"address": host.address, "host_key": host.host_key}
    ssh = {"key_file": str(hosts.folder / "id")}
    text = {
        "target": "private",
        "variables": {"cluster": "lab", "nodes": {"m": node}, "ssh": ssh},
    }
    bundle = runner.describe("one", text)
    assert "has no saved plan" in runner.refused("apply", "one")

    planned = runner("plan", "one")
    assert planned["Changes"]['module.bootstrap.terraform_data.host["m"]'] == ["create"]
    assert (bundle / ".terraform").stat().st_mode & 0o777 == 0o700
    assert runner("status", "one")["Planned"] is True

    applied = runner.run("apply", "one")
    assert applied.returncode == 0, applied.stdout[-3000:] + applied.stderr[-3000:]
    assert "Creation complete" in applied.stdout + applied.stderr  # progress, as it came
    assert host.machine("/opt/libstorage/bin/salt", "m", "test.ping", "--out=txt") == "m: True"
    inventory = runner("inventory", "one")
    assert inventory["master"] == "m" and inventory["nodes"]["m"]["address"] == host.address
    status = runner("status", "one")
    assert status["Nodes"] == {"m": ["master"]} and status["Planned"] is False
    assert status["Failed"] == [] and status["Resources"] == 6
    assert runner("plan", "one")["Changes"] == {}

    assert "needs confirm=lab" in runner.refused("destroy", "one")
    assert "needs confirm=lab" in runner.refused("destroy", "one", "confirm=one")
    assert runner("destroy", "one", "confirm=lab")["Destroyed"] == 6
    assert host.machine.run("systemctl", "is-active", "salt-minion").returncode != 0
    assert runner("status", "one")["Resources"] == 0


def test_a_plan_is_good_for_its_description_alone(runner: Runner) -> None:
    runner.describe("two", LAB)
    runner("plan", "two")
    runner.describe("two", {**LAB, "variables": {**LAB["variables"], "drain": False}})
    assert "has changed since it was planned" in runner.refused("apply", "two")


def test_failures_are_one_sentence(runner: Runner) -> None:
    assert "No such bundle: none" in runner.refused("plan", "none")
    assert "small letters, digits and hyphens" in runner.refused("plan", "../etc")
    runner.describe("odd", {**LAB, "target": "moon"})
    assert "no such target: 'moon'" in runner.refused("plan", "odd")
    runner.describe("wrong", {**LAB, "variables": {"cluster": "lab", "nodes": {}}})
    assert "exactly one node with the role master; here 0 have it" in runner.refused(
        "plan", "wrong"
    )
    runner.describe("three", LAB)
    assert "timeout must be a number of seconds" in runner.refused("plan", "three", "timeout=-1")
    assert "did not end within" in runner.refused("plan", "three", "timeout=0.01")
    assert "has not been applied" in runner.refused("inventory", "three")
