"""The seed's story through ``docker dsvolume``, line by line."""

from pathlib import Path

from lab.bridge import Bridge
from lab.cli import Cli, plugin_of_docker
from lab.site import Site, assert_clean
from lab.story import Story

TEXT = Path(__file__).with_name("seed_story.txt")


def test_the_whole_story_is_as_the_seed_tells_it(site: Site, tmp_path: Path) -> None:
    front = f'docker() {{ command docker --config {tmp_path}/docker "$@"; }}; exec 2>&1; '
    plugin_of_docker(tmp_path / "docker")
    story = Story(TEXT, site.config.mount_root)
    sockets = tmp_path / "driver.sock", tmp_path / "no-engine.sock"
    with Bridge(tmp_path / "bridge", site, *sockets) as bridge:
        cli = Cli(bridge.admin)
        assert story.told(lambda command: cli.run(["bash", "-c", front + command])) == story.lines
        cli.tidy()
        assert bridge.stop() == 0
    assert_clean(site)
