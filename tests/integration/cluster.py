"""A real master and its minions, each a node of one cluster, as operators call them."""

import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from checkout import ROOT, SALT_CALL

from lab.site import Site

NODES = ("node1", "node2", "node3")
IMAGE = ("policy=local", "fstype=ext4", "size=8")
LIMIT = 60
QUIET = {
    "enable_fqdns_grains": False,
    # It reads every block device of the host, also one whose storage another test has stopped.
    "disable_grains": ["lvm"],
    "log_level_logfile": "error",
}


@contextmanager
def started(
    factories: Any,
    site: Site,
    nodes: tuple[str, ...],
    *,
    name: str = "master",
    roots: tuple[Path, ...] = (ROOT / "salt",),
    own: Mapping[str, dict[str, Any]] | None = None,
) -> Iterator["Salt"]:
    """
    A master that serves trees, and minions that have the code from it alone.

    own
        Further options of minions and of the master, by name.
    """
    own = own or {}
    options = {
        **QUIET,
        "file_roots": {"base": [str(root) for root in roots]},
        "pillar_roots": {"base": []},
        "fileserver_list_cache_time": 0,
        "dsvolume": site.settings(name),
        **own.get(name, {}),
    }
    master = factories.salt_master_daemon(name, overrides=options)
    with master.started():
        minions = {
            node: master.salt_minion_daemon(
                node,
                overrides={**QUIET, "dsvolume": site.settings(node), **own.get(node, {})},
            )
            for node in nodes
        }
        for minion in minions.values():
            minion.start()
        try:
            yield Salt(master, minions)
        finally:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda minion: minion.terminate(), minions.values()))


class Salt:
    """``salt TARGET ...``: one job on minions; and ``salt-run ...``."""

    def __init__(self, master: Any, minions: dict[str, Any]) -> None:
        self.master = master
        self.minions = minions
        self("saltutil.sync_all")

    def __call__(
        self, function: str, *arguments: str, to: str = "*", grain: str = ""
    ) -> dict[str, Any]:
        """
        The answers by minion; a refusal is its sentence.

        grain
            ``GRAIN:VALUE``: the minions that have it, instead of those that match ``to``.
        """
        options = ["--no-color", *(["-G"] if grain else [])]
        cli = self.master.salt_cli(timeout=LIMIT)  # one for each call: calls may overlap
        done = cli.run(*options, function, *arguments, minion_tgt=grain or to)
        data = {to: done.data} if to in self.minions else done.data
        if grain and "No minions matched the target" in done.stdout:
            return {}
        assert isinstance(data, dict), (done.stdout, done.stderr)
        return dict(data)

    def alike(self, function: str, *arguments: str) -> Any:
        """What all minions answer, which must be the same."""
        answers = self(function, *arguments)
        assert sorted(answers) == sorted(self.minions), answers
        first, *others = answers.values()
        assert all(other == first for other in others), answers
        return first

    def run(self, function: str, *arguments: str) -> Any:
        """What a runner answers."""
        done = self.master.salt_run_cli(timeout=LIMIT).run(function, *arguments)
        assert done.data is not None, (done.stdout, done.stderr)
        return done.data

    def shown(self, function: str, *arguments: str) -> tuple[int, str]:
        """Exit status and words of ``salt-run``, as an operator has them."""
        command = [str(SALT_CALL.with_name("salt-run")), f"--config-dir={self.master.config_dir}"]
        done = subprocess.run(
            [*command, "--no-color", function, *arguments],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        return done.returncode, done.stdout


def states(answer: dict[str, Any]) -> dict[str, Any]:
    """The results of ``state.apply`` on a minion, by the states' IDs."""
    return {result["__id__"]: result for result in answer.values()}
