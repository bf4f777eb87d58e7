"""The engine dsvolume_agent in a real minion: it mends without being asked, and ends with it."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from checkout import SALT_CALL, configure

from lab.site import LEASE, NODE, Site

KILLED = """
from libstorage.controllers.local import Local
def hangs(*_): print("at it", flush=True); time.sleep(60)
Local.create = hangs
manager.create("v", Given(policy="local", fstype="ext4", mb_size=8))
"""


def until(reached: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


@pytest.fixture
def minion(site: Site, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A masterless minion that hosts the agent of the site's first node."""
    config = configure(tmp_path / "minion", NODE, site.settings())
    settings = yaml.safe_load((config / "minion").read_text())
    settings |= {"master_type": "disable", "engines": [{"dsvolume_agent": {}}], "log_level": "info"}
    (config / "minion").write_text(yaml.safe_dump(settings))
    program = SALT_CALL.with_name("salt-minion")
    process = subprocess.Popen(
        [str(program), f"--config-dir={config}", "--log-level=info", "--log-file-level=info"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield site.ends(process)


def test_a_minion_hosts_the_agent(minion: "subprocess.Popen[str]", site: Site) -> None:
    manager = site.manager("node2")
    until(lambda: any(node["Alive"] for node in manager.nodes()))
    victim = site.python(KILLED)
    assert victim.stdout and victim.stdout.readline() == "at it\n"
    victim.kill()
    until(lambda: site.values("operations/") == {}, 15)
    assert manager.ls() == []
    minion.send_signal(signal.SIGTERM)
    minion.wait(30)
    until(lambda: not any(node["Alive"] for node in manager.nodes()), 5 * LEASE + 10)
