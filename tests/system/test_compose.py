"""The documentation's example for Compose, on a real engine."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.bridge import ROOT, Bridge
from lab.docker import IMAGE, Engine
from lab.scenarios import KINDS
from lab.site import Site
from libstorage.manager import Given

EXAMPLE = ROOT / "docs/examples/compose.yaml"
COMPOSE = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("docker") / "engine") as engine:
        yield engine


@pytest.fixture
def bridge(site: Site, engine: Engine, tmp_path: Path) -> Iterator[Bridge]:
    driver = engine.plugins / "dsvolume.sock"
    with Bridge(tmp_path / "bridge", site, driver, engine.socket) as bridge:
        yield bridge
        bridge.stop()


def test_the_documentation_shows_the_example() -> None:
    [shown] = re.findall(r"```yaml\n(volumes:.*?)```", (ROOT / "docs/docker.md").read_text(), re.S)
    assert shown in EXAMPLE.read_text()


def test_the_example_works(engine: Engine, bridge: Bridge, site: Site, tmp_path: Path) -> None:
    project = yaml.safe_load(EXAMPLE.read_text())
    for name, service in project["services"].items():
        path = service["volumes"][0].split(":")[1]
        command = f"test -d {path} && mount | grep ' {path} ' && echo {name}"
        service |= {"image": IMAGE, "network_mode": "none", "command": ["sh", "-c", command]}
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump({"version": "3", **project}))

    def compose(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMPOSE, "-f", str(tmp_path / "compose.yaml"), "-p", "shop", *words],
            env=os.environ | {"DOCKER_HOST": f"unix://{engine.socket}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    refused = compose("up", "--detach")
    assert refused.returncode and "db" in refused.stderr, refused
    manager = site.manager()
    manager.create("db", Given(**KINDS["ext4"]))
    done = compose("up", "--no-color")
    assert done.returncode == 0, done
    assert "/dev/loop" in done.stdout and "web" in done.stdout and "database" in done.stdout
    assert [(v["Name"], v["Fstype"], v["MBSize"]) for v in manager.ls()] == [
        ("db", "ext4", manager.info("db")[0]["MBSize"]),
        ("uploads", "ext4", 100),
    ]
    rows = map(json.loads, engine("volume", "ls", "--format={{json .}}").splitlines())
    assert {row["Driver"] for row in rows} == {"dsvolume"}
    assert compose("down", "--volumes").returncode == 0
    assert [volume["Name"] for volume in manager.ls()] == ["db"]
