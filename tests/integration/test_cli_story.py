"""The seed's story through ``docker dsvolume``, line by line."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.bridge import Bridge
from lab.cli import Cli, plugin_of_docker
from lab.site import Site, assert_clean

STORY = Path(__file__).with_name("seed_story.txt")
DAY = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} \d{1,2} \d\d:\d\d:\d\d UTC 20\d\d"
MOMENT = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@pytest.fixture
def told(site: Site, tmp_path: Path) -> Iterator[list[str]]:
    """The story as it is now."""
    front = f'docker() {{ command docker --config {tmp_path}/docker "$@"; }}; exec 2>&1; '
    mounts = str(site.config.mount_root)
    plugin_of_docker(tmp_path / "docker")
    lines = []
    sockets = tmp_path / "driver.sock", tmp_path / "no-engine.sock"
    with Bridge(tmp_path / "bridge", site, *sockets) as bridge:
        cli = Cli(bridge.admin)
        for command in _commands():
            said = cli.run(["bash", "-c", front + command.replace("MOUNTS", mounts)])
            lines += [f"$ {command}", *said.lines]
            if said.status:
                lines.append(f"exit status {said.status}")
        yield [_alike(line.replace(mounts, "MOUNTS")) for line in lines]
        cli.tidy()
        assert bridge.stop() == 0
    assert_clean(site)


def _commands() -> list[str]:
    lines = STORY.read_text().splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def _alike(line: str) -> str:
    """The line without what is another one each time."""
    for pattern, word in ((DAY, "TIME"), (MOMENT, "TIME"), (UUID, "ID")):
        line = re.sub(pattern, word, line)
    return line


def test_the_whole_story_is_as_the_seed_tells_it(told: list[str]) -> None:
    _, _, story = STORY.read_text().partition("\n\n")
    assert [line for line in told if line] == [line for line in story.splitlines() if line]
