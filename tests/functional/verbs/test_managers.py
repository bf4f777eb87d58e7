"""The configuration names the volume manager: the one that is shipped, or a site's own."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.site import Site, assert_clean
from libstorage.errors import ConfigInvalid, InvalidInput
from libstorage.manager import Given, VolumeManager
from libstorage.managers import INTERFACE, open_manager

PAGE = Path(__file__).parents[3] / "docs/another-manager.md"
DIRECTORY = Given(policy="local", labels={"cost": "4711"})


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported, and are forgotten afterwards."""
    folder = tmp_path / "acme"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]


@pytest.fixture
def charged(modules: Path) -> str:
    """The manager of the documentation."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (modules / "volumes.py").write_text(code)
    return "acme.volumes"


def test_a_sites_own_manager_does_the_verbs(site: Site, charged: str) -> None:
    manager = open_manager(site.configured(manager=charged))
    with pytest.raises(InvalidInput, match="v needs the label cost, such as labels=cost=4711"):
        manager.create("v", Given(policy="local"))
    assert manager.create("v", DIRECTORY)["Created"] is True
    manager.mount("v")
    assert manager.cluster.force_detach("v", "node1")["Changed"] is True
    manager.rm("v")
    assert site.values("manager")["manager"]["name"] == charged
    manager.close()


def test_a_cluster_has_one_manager(site: Site, charged: str) -> None:
    manager = open_manager(site.configured(manager=charged))
    manager.create("v", DIRECTORY)
    manager.close()
    with site.nothing_changes():
        for verb in (lambda m: m.ls(), lambda m: m.rm("v"), lambda m: m.doctor(fix=True)):
            shipped = open_manager(site.configured())
            with pytest.raises(
                ConfigInvalid,
                match=r"manager is acme\.volumes, this node is configured with libstorage",
            ):
                verb(shipped)
            shipped.close()


def test_the_shipped_one_is_the_default(site: Site) -> None:
    manager = open_manager(site.configured())
    assert type(manager) is VolumeManager and all(hasattr(manager, name) for name in INTERFACE)
    manager.create("v", DIRECTORY)
    manager.close()
    assert_clean(site)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", "The volume manager acme.bad cannot be loaded: module 'acme.bad' has no attribute"),
        ("import nothing_of_this_name", "cannot be loaded: No module named 'nothing_of_this_name'"),
        (
            "class MANAGER:\n    def __init__(self, config): self.config = config",
            "The volume manager acme.bad lacks create, rm, ",
        ),
    ],
    ids=["empty", "broken", "lacking"],
)
def test_what_is_no_manager_is_refused(site: Site, modules: Path, code: str, said: str) -> None:
    (modules / "bad.py").write_text(code)
    with pytest.raises(ConfigInvalid, match=re.escape(said)):
        open_manager(site.configured(manager="acme.bad"))


def test_one_that_is_not_installed_is_named(site: Site) -> None:
    with pytest.raises(ConfigInvalid, match=r"acme\.none cannot be loaded: No module .*; install"):
        open_manager(site.configured(manager="acme.none"))
