"""Salt's loader on the checkout, in this process, with a dsvolume root of each test's own."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import salt._logging
import salt.config
import salt.loader
from checkout import ROOT, configure
from cluster import NODES, Salt, started
from loaded import States, working_on

from lab.bridge import Bridge
from lab.etcd import Cluster
from lab.site import NODE, Site

TREES = Path(__file__).parent / "roots"
"""States that tests bring beside the checkout's."""

warnings.filterwarnings("ignore", category=DeprecationWarning, module="salt")


@pytest.fixture(scope="session")
def salt_factories_config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Masters and minions of the plugin: below a directory of this run's own."""
    return {
        "root_dir": str(tmp_path_factory.mktemp("factories")),
        "log_server_level": "error",
        "start_timeout": 120,
    }


@pytest.fixture(scope="session")
def cluster_site(tmp_path_factory: pytest.TempPathFactory, etcd: Cluster) -> Iterator[Site]:
    """The root that the minions share, as nodes on one host; their records are in etcd."""
    folder = tmp_path_factory.mktemp("jobs")
    with Site(folder / "site", store=etcd.store("/jobs")) as site:
        yield site


@pytest.fixture(scope="session", name="salt")
def _salt(salt_factories: Any, cluster_site: Site) -> Iterator[Salt]:
    """A master and three minions that the tests of jobs, states and runners share."""
    with started(salt_factories, cluster_site, NODES, roots=(ROOT / "salt", TREES)) as made:
        yield made


@pytest.fixture(scope="module")
def bridged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Bridge]]:
    """A root with a bridge on it, and no engine, that one module's tests share."""
    folder = tmp_path_factory.mktemp("bridged")
    with (
        Site(folder / "site") as site,
        Bridge(folder / "bridge", site, folder / "driver.sock", folder / "none.sock") as bridge,
    ):
        yield site, bridge


@pytest.fixture(scope="session")
def opts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A masterless minion's options, made from the checkout's etc/."""
    folder = tmp_path_factory.mktemp("minion")
    config = configure(folder, NODE, {"root": str(folder / "dsvolume")})
    made = dict(salt.config.minion_config(str(config / "minion")))
    made["dsvolume"] = dict(made["dsvolume"])  # the loaders share it; tests change it
    # Nothing sets up Salt's logging in this process; what is kept for that would come at its end.
    salt._logging.shutdown_temp_handler()
    made["grains"] = salt.loader.grains(made)
    return made


@pytest.fixture(scope="session")
def _modules(opts: dict[str, Any]) -> Any:
    return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))


@pytest.fixture(scope="session")
def _states(opts: dict[str, Any], _modules: Any) -> Any:
    return salt.loader.states(opts, _modules, salt.loader.utils(opts), None)


@pytest.fixture
def modules(opts: dict[str, Any], _modules: Any, site: Site) -> Iterator[Any]:
    """Execution modules; dsvolume works on the site."""
    with working_on(opts, _modules, site):
        yield _modules


@pytest.fixture
def states(_states: Any, modules: Any) -> States:
    """The states of dsvolume, on the site."""
    return States(_states, modules)
