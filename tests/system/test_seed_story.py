"""The seed's story by docker, its containers and ``docker dsvolume``, line by line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cli import Cli, plugin_of_docker
from lab.site import assert_clean
from lab.story import Story
from lab.wrapped import Host, docker_host

TEXT = Path(__file__).with_name("seed_story.txt")
FRONT = r"""
exec 2>&1
docker() {
    if [ "$1" = run ]; then shift; set -- run --network=none "$@"; fi
    command docker --config CONFIG --host unix://SOCKET "$@" 2>&1
}
rate() {
    awk '/records in/ { bytes = $1 * 4096 }
        /^real/ { seconds = $2 * 60 + $3; if (!seconds) seconds = 0.01 }
        END { rate = bytes / seconds
            if (rate < 1e6) printf "%.0f kB/s\n", rate / 1e3
            else printf "%.1f MB/s\n", rate / 1e6 }'
}
"""
"""What is asked of the shell: this engine, and a rate as dd would tell it."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("story")
    with docker_host(folder, **{"default-runtime": "dsvolume"}) as host:
        yield host


def test_the_seeds_story_is_told_by_containers(host: Host, tmp_path: Path) -> None:
    config = plugin_of_docker(tmp_path / "docker")
    front = FRONT.replace("CONFIG", str(config)).replace("SOCKET", str(host.engine.socket))
    cli = Cli(host.bridge.admin)
    story = Story(TEXT, host.site.config.mount_root)
    assert story.told(lambda command: cli.run(["bash", "-c", front + command])) == story.lines
    cli.tidy()
    assert_clean(host.site)
