"""Terraform on one of the project's roots; all that it leaves is in a folder of the test's own."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from lab.machine import ROOT
from libstorage.host.terraform import program


class Terraform:
    """
    A root module in use.

    folder
        Where everything is that a run leaves.
    root
        Which of the project's: ``private``, ``digitalocean``, ``aws``.
    environment
        Variables that every run has beside this process's own.
    """

    def __init__(self, folder: Path, root: str, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = environment or {}
        self.variables: dict[str, Any] = {}
        self.said = ""
        """All that any run has printed."""
        self.root = root
        self._root = ROOT / "terraform" / root
        folder.mkdir(parents=True, exist_ok=True)
        self("init", "-input=false")

    def run(self, *words: str, seconds: float = 300) -> "subprocess.CompletedProcess[str]":
        """Run terraform, however it ends; errors come with the output."""
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("TF_", "PIP_"))
        } | {
            "TF_DATA_DIR": str(self.folder / "data"),
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            **self.environment,
        }
        done = subprocess.run(
            [*program(), *words, "-no-color"],
            cwd=self._root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds,
        )
        self.said += done.stdout
        return done

    def __call__(self, *words: str, seconds: float = 300) -> str:
        """What terraform says; AssertionError where it fails."""
        done = self.run(*words, seconds=seconds)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def given(self) -> list[str]:
        """The arguments for state and variables as they are now."""
        path = self.folder / "test.tfvars.json"
        path.write_text(json.dumps(self.variables))
        return ["-input=false", f"-state={self.state}", f"-var-file={path}"]

    @property
    def state(self) -> Path:
        return self.folder / "terraform.tfstate"

    def plan(self, *words: str) -> dict[str, list[str]]:
        """What an apply would do: the actions by address, without what stays."""
        file = self.folder / "plan"
        self("plan", *self.given(), *words, f"-out={file}")
        shown = json.loads(self("show", "-json", str(file)))
        changes = {one["address"]: one["change"]["actions"] for one in shown["resource_changes"]}
        return {address: acts for address, acts in changes.items() if acts != ["no-op"]}

    def refused(self, *words: str) -> str:
        """Why a plan is refused, in one line; AssertionError where it is not."""
        done = self.run("plan", *self.given(), *words)
        assert done.returncode == 1, done.stdout[-3000:]
        return " ".join(done.stdout.replace("│", " ").split())

    def apply(self) -> str:
        """Apply the variables as they are now."""
        return self("apply", "-auto-approve", *self.given(), seconds=600)

    def fails(self) -> str:
        """What an apply says that must fail."""
        done = self.run("apply", "-auto-approve", *self.given(), seconds=600)
        assert done.returncode == 1, done.stdout[-3000:]
        return done.stdout

    def destroy(self) -> str:
        """Destroy everything."""
        return self("destroy", "-auto-approve", *self.given(), seconds=300)
