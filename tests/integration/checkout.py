"""The checkout as Salt loads it: its own configuration, with the directories of a test."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
SALT_CALL = Path(sys.executable).parent / "salt-call"
LIMIT = 120.0
TREES = ("file_roots", "pillar_roots")


def configure(folder: Path, node: str, dsvolume: dict[str, Any]) -> Path:
    """
    Write ``etc/minion`` anew into a folder: Salt's own files go below it, the trees stay.

    Returns the directory for ``--config-dir``.
    """
    config = yaml.safe_load((ROOT / "etc" / "minion").read_text())
    config["module_dirs"] = [str(ROOT / path) for path in config["module_dirs"]]
    for tree in TREES:
        config[tree] = {
            environment: [str(ROOT / path) for path in paths]
            for environment, paths in config[tree].items()
        }
    config |= {"id": node, "root_dir": str(folder / "salt"), "dsvolume": dsvolume}
    (folder / "etc").mkdir(parents=True)
    (folder / "etc" / "minion").write_text(yaml.safe_dump(config))
    return folder / "etc"


@dataclass(frozen=True)
class Answer:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    def data(self) -> Any:
        """The answer of this minion, asked for with ``--out=json``."""
        return json.loads(self.out)["local"]

    def lines(self) -> list[str]:
        return self.out.splitlines()


def salt_call(*arguments: str, cwd: Path = ROOT, config: Path | None = None) -> Answer:
    """Run ``salt-call --local`` as an operator would in a checkout."""
    options = ["--local"] if config is None else ["--local", f"--config-dir={config}"]
    done = subprocess.run(
        [str(SALT_CALL), *options, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


HEADER = ["NAME", "Created", "Type/Fs", "Policy", "Size(MB)", "Shared", "Inuse", "Path"]
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def cells(line: str) -> list[str]:
    """A line of the table, cut at its columns' gaps."""
    return re.split(r" {3,}", line.rstrip())
