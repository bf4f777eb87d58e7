"""The seed's story by docker, its containers and ``docker dsvolume``, line by line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cli import Cli, plugin_of_docker
from lab.site import assert_clean
from lab.story import FRONT, Story
from lab.wrapped import Host, docker_host

TEXT = Path(__file__).with_name("seed_story.txt")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("story")
    with docker_host(folder, **{"default-runtime": "dsvolume"}) as host:
        yield host


def test_the_seeds_story_is_told_by_containers(host: Host, tmp_path: Path) -> None:
    config = plugin_of_docker(tmp_path / "docker")
    engine = {"DOCKER_CONFIG": str(config), "DOCKER_HOST": f"unix://{host.engine.socket}"}
    cli = Cli(host.bridge.admin, **engine)
    story = Story(TEXT, host.site.config.mount_root)
    assert story.told(lambda command: cli.run(["bash", "-c", FRONT + command])) == story.lines
    cli.tidy()
    assert_clean(host.site)
