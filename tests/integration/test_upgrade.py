"""A new version under running minions: used whole, or refused; never a mixture of both."""

import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from cluster import Salt, started

import libstorage
from lab.site import Site
from libstorage.manager import Given

FORKS, AGENT, THREADS = "forks", "agent", "threads"
"""
A minion as it comes, with a process for each job; one that hosts the agent, hence has libstorage
loaded before it forks; and one that does its jobs in threads.
"""

MARKS = """

def marks():
    import sys
    loaded = [m for name, m in list(sys.modules.items()) if name.split(".")[0] == "libstorage"]
    return [MARK, *sorted({module.MARK for module in loaded})]
"""


class Tree:
    """A copy of the checkout's ``salt/``, in which every file says of which version it is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT / "salt", root, ignore=shutil.ignore_patterns("__pycache__"))
        for path in root.rglob("*.py"):
            with path.open("a") as file:
                file.write(f'\nMARK = "{libstorage.__version__}"\n')
        with (root / "_modules/dsvolume.py").open("a") as file:
            file.write(MARKS)

    def become(self, version: str, *parts: str, but: str = "") -> None:
        """Make files (those below ``parts``, or all) those of another version."""
        for path in self.root.rglob("*.py"):
            name = str(path.relative_to(self.root))
            if name.startswith(parts or ("",)) and name != but:
                text = path.read_text()
                pattern = r'^(VERSION|__version__|MARK) = ".*"$'
                path.write_text(re.sub(pattern, rf'\1 = "{version}"', text, flags=re.M))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("upgrade") / "salt")


@pytest.fixture(scope="module")
def salt_(
    salt_factories: Any, tree: Tree, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Salt]:
    """A master that serves the tree, and a minion of either kind."""
    with Site(tmp_path_factory.mktemp("upgraded") / "site") as site:
        site.manager().create("v", Given(policy="local"))
        options = {
            AGENT: {"engines": [{"dsvolume_agent": {}}]},
            THREADS: {"multiprocessing": False},
        }
        with started(
            salt_factories,
            site,
            (FORKS, AGENT, THREADS),
            name="upgrade",
            roots=(tree.root,),
            own=options,
        ) as salt:
            restart(salt, AGENT)  # engines that are synchronised later start with the minion
            yield salt


def restart(salt: Salt, node: str) -> None:
    salt.minions[node].terminate()
    salt.minions[node].start()


def versions(salt: Salt, node: str) -> Any:
    """Of the module and of libstorage, as a minion has them; or why it refuses."""
    [answer] = salt("dsvolume.version", to=node).values()
    if not isinstance(answer, dict):
        return str(answer)
    [marks] = salt("dsvolume.marks", to=node).values()
    assert len(set(marks)) == 1, marks
    return answer["dsvolume"], answer["libstorage"], marks[0]


def until(salt: Salt, agent: str) -> None:
    """Until the agent is of that version, as ``nodes`` tells."""
    end = time.monotonic() + 60
    while True:
        [nodes] = salt("dsvolume.nodes", to=FORKS).values()
        found = [row.get("Versions", {}).get("libstorage") for row in nodes if row["Name"] == AGENT]
        if found == [agent]:
            return
        assert time.monotonic() < end, nodes


def test_jobs_use_it_and_the_agent_says_that_it_does_not(salt_: Salt, tree: Tree) -> None:
    for node in (FORKS, AGENT, THREADS):
        assert versions(salt_, node) == ("0.1.0",) * 3
    until(salt_, agent="0.1.0")
    tree.become("0.2.0")
    salt_("saltutil.sync_all")
    assert versions(salt_, FORKS) == ("0.2.0",) * 3
    [state] = salt_("state.single", "dsvolume.present", "name=v", "policy=local", to=FORKS).values()
    assert [result["result"] for result in state.values()] == [True]
    until(salt_, agent="0.1.0")
    [findings] = salt_("dsvolume.doctor", to=FORKS).values()
    says = "agent has another libstorage (0.1.0) than the others: bring it up to date and restart"
    assert any(row["Says"].startswith(says) for row in findings), findings


@pytest.mark.parametrize("node", [AGENT, THREADS])
def test_a_minion_that_has_the_old_one_refuses_until_its_restart(
    salt_: Salt, tree: Tree, node: str
) -> None:
    says = "dsvolume 0.2.0 was loaded beside libstorage 0.1.0; restart the minion"
    assert says in versions(salt_, node)
    [errors] = salt_("state.apply", "examples.cluster", to=node).values()
    assert says in str(errors)
    restart(salt_, node)
    assert versions(salt_, node) == ("0.2.0",) * 3
    if node == AGENT:
        until(salt_, agent="0.2.0")


def test_other_code_under_the_same_number_is_seen(salt_: Salt, tree: Tree) -> None:
    assert versions(salt_, THREADS) == ("0.2.0",) * 3
    with (tree.root / "_utils/libstorage/errors.py").open("a") as file:
        file.write("\n# mended\n")
    salt_("saltutil.sync_all")
    says = "dsvolume 0.2.0 was replaced under this process; call again, or restart the minion"
    assert says in versions(salt_, THREADS)
    assert versions(salt_, FORKS) == ("0.2.0",) * 3


def test_a_part_of_it_is_refused(salt_: Salt, tree: Tree) -> None:
    tree.become("0.4.0", "_modules", "_states")
    salt_("saltutil.sync_all", to=FORKS)
    says = "dsvolume 0.4.0 was loaded beside libstorage 0.2.0; restart the minion"
    assert says in versions(salt_, FORKS)
    # As a synchronisation leaves it that was killed before its last file.
    tree.become("0.4.0", but="_utils/libstorage/version.py")
    salt_("saltutil.sync_all", to=FORKS)
    says = "dsvolume 0.4.0 came with a part of libstorage alone; run saltutil.sync_all again"
    assert says in versions(salt_, FORKS)
    tree.become("0.4.0")
    salt_("saltutil.sync_all", to=FORKS)
    assert versions(salt_, FORKS) == ("0.4.0",) * 3


def test_jobs_beside_a_synchronisation_have_the_one_or_the_other(salt_: Salt, tree: Tree) -> None:
    with ThreadPoolExecutor() as pool:
        for number in range(5, 8):
            tree.become(f"0.{number}.0")
            syncs = pool.submit(salt_, "saltutil.sync_all", to=FORKS)
            jobs = [pool.submit(salt_, "dsvolume.marks", to=FORKS) for _ in range(3)]
            for job in jobs:
                [answer] = job.result().values()
                whole = isinstance(answer, list) and len(set(answer)) == 1
                assert whole or "libstorage" in answer or "not available" in answer, answer
            syncs.result()
            assert versions(salt_, FORKS) == (f"0.{number}.0",) * 3
