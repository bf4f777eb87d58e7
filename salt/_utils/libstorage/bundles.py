"""
Bundles: clusters that Terraform makes, each described by one file.

A bundle is a folder with ``bundle.yaml``: the ``target`` (a root module of the project's
``terraform/``) and its ``variables``. Beside it, readable by its owner alone, are what follows from
it: the state, the saved plan, the variables as Terraform reads them. An apply does what a saved
plan says and nothing else; a plan is good for the description that it was made from. What
Terraform protects, data disks and the archive's bucket, no verb here takes away.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigInvalid, InvalidInput, NoSuchBundle, NotPlanned
from .host import terraform
from .host.terraform import Say

TARGETS = ("private", "digitalocean", "aws")
KEPT = ("_volume.data", "_spaces_bucket.archive", "_s3_bucket.archive")
"""How the addresses of resources end that stay when a cluster goes: its data."""
FOLDER = "/etc/salt/bundles"
LIMIT = 3600.0
"""Seconds that an apply or destroy may take."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Bundle:
    """
    One cluster's description and what Terraform knows of it.

    settings
        ``dscluster`` of the master's configuration: ``folder`` (of the bundles) and ``project``
        (the checkout that has ``terraform/``; by default the one that this code is in).
    name
        The bundle's folder below ``folder``.
    say
        Takes lines of progress.

    Raises InvalidInput, ConfigInvalid, or NoSuchBundle.
    """

    def __init__(self, settings: Mapping[str, Any], name: object, say: Say | None = None) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInput(
                f"A bundle's name has small letters, digits and hyphens, not {str(name)[:60]!r}"
            )
        self.name = name
        self.folder = Path(str(settings.get("folder") or FOLDER)) / name
        self._say = say
        self._text = self._read()
        self.target, self.variables = self._described()
        self._root = _project(settings) / "terraform" / self.target

    @property
    def cluster(self) -> str:
        """The cluster's name, as its variables have it."""
        return str(self.variables["cluster"])

    @property
    def planned(self) -> bool:
        """Is there a saved plan of the description as it is now?"""
        mark = self._of("plan.of")
        return self._of("plan").exists() and mark.exists() and mark.read_text() == self._hash()

    def plan(self, timeout: float = LIMIT, destroy: bool = False) -> dict[str, list[str]]:
        """
        Find out what an apply would do, and save it.

        Returns the actions by resource address, empty where all is as described (then no plan is
        kept). Raises TerraformFailed with Terraform's first error, or CommandTimeout.
        """
        self._drop_plan()
        variables = self._of("variables.tfvars.json")
        _write(variables, json.dumps(self.variables, indent=1))
        self._terraform("init", "-input=false", limit=300)
        words = [
            "-input=false",
            self._state(),
            f"-var-file={variables}",
            f"-out={self._of('plan')}",
        ]
        if destroy:
            words += ["-destroy", *self._all_but_data()]
        status, _ = self._terraform(
            "plan", "-detailed-exitcode", *words, limit=timeout, fine=(0, 2)
        )
        _, shown = self._terraform("show", "-json", str(self._of("plan")), limit=120, quiet=True)
        found = json.loads(shown).get("resource_changes", [])
        changes = {one["address"]: list(one["change"]["actions"]) for one in found}
        if status == 0:
            self._drop_plan()
            return {}
        if not destroy:  # that one is carried out by destroy alone, never by apply
            _write(self._of("plan.of"), self._hash())
        return {address: does for address, does in changes.items() if does != ["no-op"]}

    def apply(self, timeout: float = LIMIT) -> dict[str, Any]:
        """
        Do what the saved plan says.

        Returns the inventory. Raises NotPlanned, TerraformFailed (what was done until then is in
        the state: plan again and see what is left), or CommandTimeout.
        """
        if not self.planned:
            changed = self._of("plan").exists()
            why = "has changed since it was planned" if changed else "has no saved plan"
            raise NotPlanned(f"The bundle {self.name} {why}; run dscluster.plan {self.name} first")
        self._apply(timeout)
        return self.inventory()

    def inventory(self) -> dict[str, Any]:
        """The cluster as it was last applied; raises NotPlanned where it never was."""
        _, text = self._terraform("output", self._state(), "-json", limit=60, quiet=True)
        found = json.loads(text or "{}").get("inventory", {}).get("value")
        if not found or not self._passing():  # outputs stay as long as any resource does
            raise NotPlanned(
                f"The bundle {self.name} has not been applied; run dscluster.plan and then apply"
            )
        return dict(found)

    def destroy(self, confirm: object, timeout: float = LIMIT) -> int:
        """
        Take the cluster down, but for its data: a cloud's data disks, and the archive's bucket.

        confirm
            The cluster's name, so that no other cluster is meant.

        Returns how many resources are gone.
        """
        if confirm != self.cluster:
            raise InvalidInput(
                f"Destroying {self.name} needs confirm={self.cluster}, its cluster's name"
            )
        if not self._passing():
            return 0
        changes = self.plan(timeout, destroy=True)
        if changes:
            self._apply(timeout)
        self._drop_plan()
        return sum("delete" in actions for actions in changes.values())

    def status(self) -> dict[str, Any]:
        """Whether it is planned and applied, how many resources there are, and its nodes."""
        _, text = (
            self._terraform("show", "-json", str(self._state_file), limit=60, quiet=True)
            if (self._state_file.exists())
            else (0, "{}")
        )
        values = json.loads(text).get("values") or {}
        inventory = values.get("outputs", {}).get("inventory", {}).get("value") or {}
        resources = _resources(values.get("root_module", {}))
        if all(_is_data(one["address"]) for one in resources):
            inventory = {}
        tainted = sorted(one["address"] for one in resources if one.get("tainted"))
        return {
            "Bundle": self.name,
            "Target": self.target,
            "Cluster": self.cluster,
            "Planned": self.planned,
            "Resources": len(resources),
            "Failed": tainted,
            "Nodes": {name: node["roles"] for name, node in inventory.get("nodes", {}).items()},
        }

    def kept(self) -> list[str]:
        """The addresses of the data that a destroy leaves, or has left."""
        return sorted(filter(_is_data, self._addresses()))

    def _passing(self) -> list[str]:
        """The addresses of all that goes with the cluster."""
        return [one for one in self._addresses() if not _is_data(one)]

    def _addresses(self) -> list[str]:
        if not self._state_file.exists():
            return []
        _, text = self._terraform("state", "list", self._state(), limit=60, quiet=True)
        return [one for one in text.splitlines() if not one.startswith("data.")]

    def _all_but_data(self) -> list[str]:
        """What a destroy is limited to where there are data to stay."""
        if not self.kept():
            return []
        # whole modules and resources, not their instances: a command line has an end
        return [f"-target={one}" for one in sorted({_whole(one) for one in self._passing()})]

    def _apply(self, timeout: float) -> None:
        try:
            self._terraform(
                "apply", "-input=false", self._state(), str(self._of("plan")), limit=timeout
            )
        finally:
            self._drop_plan()  # it is used up, however it ended

    def _terraform(
        self, *words: str, limit: float, fine: tuple[int, ...] = (0,), quiet: bool = False
    ) -> tuple[int, str]:
        say = None if quiet else self._say
        return terraform.run(self._root, self._of("data"), words, limit, say, fine)

    def _of(self, name: str) -> Path:
        """A file of this bundle's that follows from its description."""
        folder = self.folder / ".terraform"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / name

    @property
    def _state_file(self) -> Path:
        return self._of("terraform.tfstate")

    def _state(self) -> str:
        return f"-state={self._state_file}"

    def _drop_plan(self) -> None:
        for name in ("plan.of", "plan"):
            self._of(name).unlink(missing_ok=True)

    def _hash(self) -> str:
        return hashlib.sha256(self._text.encode()).hexdigest()

    def _read(self) -> str:
        try:
            return (self.folder / "bundle.yaml").read_text()
        except FileNotFoundError:
            raise NoSuchBundle(
                f"No such bundle: {self.name}; {self.folder}/bundle.yaml would describe it"
            ) from None

    def _described(self) -> tuple[str, dict[str, Any]]:
        file = self.folder / "bundle.yaml"
        try:
            found = yaml.safe_load(self._text)
        except yaml.YAMLError as exc:
            raise ConfigInvalid(f"{file} is no YAML: {' '.join(str(exc).split())[:200]}") from None
        if not isinstance(found, dict) or set(found) != {"target", "variables"}:
            raise ConfigInvalid(f"{file} must have the keys target and variables, and no others")
        target, variables = found["target"], found["variables"]
        if target not in TARGETS:
            raise ConfigInvalid(
                f"{file}: no such target: {target!r}; there is {', '.join(TARGETS)}"
            )
        if not isinstance(variables, dict) or not isinstance(variables.get("cluster"), str):
            raise ConfigInvalid(f"{file}: variables must be a mapping that has the cluster's name")
        if target != "private":  # what its hosts are known by belongs to its state
            variables = {"known_hosts": str(self._of("known_hosts")), **variables}
        return target, variables


def _is_data(address: str) -> bool:
    return address.partition("[")[0].endswith(KEPT)


def _whole(address: str) -> str:
    """The module or resource that an address is of: ``module.x`` or ``type.name``."""
    return ".".join(address.partition("[")[0].split(".")[:2])


def _project(settings: Mapping[str, Any]) -> Path:
    project = Path(str(settings.get("project") or Path(__file__).parents[3]))
    if not (project / "terraform").is_dir():
        raise ConfigInvalid(
            f"There is no {project}/terraform; set dscluster:project in the master's configuration "
            "to a checkout of the project"
        )
    return project


def _resources(module: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All resources in a module and in those below it."""
    below = [one for child in module.get("child_modules", []) for one in _resources(child)]
    here = [one for one in module.get("resources", []) if one["mode"] == "managed"]
    return [*here, *below]


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
