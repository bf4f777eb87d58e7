"""
The configuration of one node.

Later wins: the defaults here, ``/etc/dsvolume/config.yaml``, ``dsvolume:`` in the minion's
configuration, ``dsvolume:`` in pillar. A door reads the sources and calls :func:`load`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigInvalid
from .host import throttling
from .records import POLICIES

FILE = Path("/etc/dsvolume/config.yaml")
ROOT = Path("/var/lib/dsvolume")
RUN_DIR = Path("/run/dsvolume")
DAY = 86400

DEFAULTS: dict[str, Any] = {
    "root": str(ROOT),
    "run_dir": None,
    "mount_root": None,
    "mount_namespace": "host",
    "manager": "libstorage",
    "policies": {"local": "ds-local", "ram": "ds-ram", "secure": "ds-ram"},
    "controllers": {},
    "store": {"kind": "embedded"},
    "lease": 15,
    "timeout": 50,
    "events": {"retention": 7},
    "qos": {"cgroup": ""},
    "trash": {"retention": 7, "ram": 0.04, "secure": 0},
    "capacity": {"near_full": 85},
}


@dataclass(frozen=True, slots=True)
class Config:
    """
    A checked configuration.

    root
        The directory that holds all state: the embedded store, images, directories, memory.
    run_dir
        What ends with the boot: the boot id. ``/run/dsvolume`` where root is the default one,
        else below root.
    mount_root
        Volumes are mounted at ``<mount_root>/<volume>``.
    mount_namespace
        ``host``: mounts are made in PID 1's mount namespace and refused elsewhere; ``own``: in
        whatever namespace the caller runs in (test hosts made of namespaces).
    policies
        Which controller serves which policy on this node.
    controllers
        Controllers beyond those shipped: name -> importable module.
    store
        ``{"kind": "embedded"}``; other kinds bring their own settings.
    lease
        Seconds after which an owner that shows no sign of life counts as gone.
    timeout
        Seconds that a call waits for another's operation, unless it says otherwise.
    retention
        Days that events are kept.
    qos_cgroup
        The cgroup below which containers run, for the limits of cgroup v2; "" is the engine's.
    trash
        Days that removed volumes are kept: ``retention``, and policies for which it is another;
        see :meth:`days_in_trash`.
    near_full
        Percent of a controller's storage in use at which it counts as near full; 100: never.
    """

    root: Path
    run_dir: Path
    mount_root: Path
    mount_namespace: str
    manager: str
    policies: dict[str, str]
    controllers: dict[str, str]
    store: dict[str, Any] = field(repr=False)  # may hold a password
    lease: float
    timeout: float
    retention: float
    qos_cgroup: str
    trash: dict[str, float]
    near_full: float
    node: str = field(default="")

    def days_in_trash(self, policy: str) -> float:
        """How long removed volumes of a policy are kept; 0: they are destroyed at once."""
        return self.trash.get(policy, self.trash["retention"])


def load(node: str, *sources: Mapping[str, Any] | None) -> Config:
    """
    Merge ``sources`` (later wins) over the defaults and check the result.

    node
        This node's name: the minion id.

    Raises ConfigInvalid, naming the setting, for anything that cannot be meant.
    """
    merged = dict(DEFAULTS)
    for source in sources:
        if source is None:
            continue
        if not isinstance(source, Mapping):
            raise ConfigInvalid(f"dsvolume: must be a mapping, not {type(source).__name__}")
        merged = _merge(merged, source)
    return _checked(node, merged)


def read_file(path: Path = FILE) -> dict[str, Any]:
    """The node's own configuration file; empty where there is none."""
    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ConfigInvalid(f"{path} cannot be read: {' '.join(str(exc).split())}") from exc
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigInvalid(f"{path} must hold a mapping, not {type(data).__name__}")
    return data


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, given in over.items():
        if key not in DEFAULTS:
            known = ", ".join(sorted(DEFAULTS))
            raise ConfigInvalid(f"dsvolume:{key} is no setting; there are: {known}")
        # An operator who lists two policies serves two.
        stated_whole = key in {"policies", "controllers"} or not isinstance(given, Mapping)
        merges = isinstance(DEFAULTS[key], Mapping) and not stated_whole
        # What an earlier source said of it may be no mapping; then this one replaces it.
        below = merged[key] if isinstance(merged[key], Mapping) else {}
        merged[key] = {**below, **given} if merges else given
    return merged


def _checked(node: str, merged: dict[str, Any]) -> Config:
    if not node:
        raise ConfigInvalid("This node has no name: set the minion's id")
    root = _directory("root", merged["root"])
    run_dir = merged["run_dir"] or (RUN_DIR if root == ROOT else root / "run")
    events, qos = _settings("events", merged), _settings("qos", merged)
    capacity = _settings("capacity", merged)
    return Config(
        root=root,
        run_dir=_directory("run_dir", run_dir),
        mount_root=_directory("mount_root", merged["mount_root"] or root / "mounts"),
        mount_namespace=_one_of("mount_namespace", merged["mount_namespace"], ("host", "own")),
        manager=_text("manager", merged["manager"]),
        policies=_policies(merged["policies"]),
        controllers={
            str(name): _text(f"controllers:{name}", module)
            for name, module in _mapping("controllers", merged["controllers"]).items()
        },
        store=_mapping("store", merged["store"]),
        lease=_number("lease", merged["lease"], 0.2, DAY),
        timeout=_number("timeout", merged["timeout"], 0, DAY),
        retention=_number("events:retention", events.get("retention"), 0, 100 * 365),
        qos_cgroup=_cgroup(qos["cgroup"]),
        trash=_trash(merged["trash"]),
        near_full=_number("capacity:near_full", capacity.get("near_full"), 1, 100),
        node=node,
    )


def _trash(value: Any) -> dict[str, float]:
    days = _mapping("trash", value)
    known = ("retention", *POLICIES)
    if unknown := set(days) - set(known):
        raise ConfigInvalid(
            f"dsvolume:trash:{unknown.pop()} is no setting; there are {', '.join(known)}"
        )
    return {name: _number(f"trash:{name}", given, 0, 100 * 365) for name, given in days.items()}


def _policies(value: Any) -> dict[str, str]:
    policies = {
        str(policy): _text(f"policies:{policy}", controller)
        for policy, controller in _mapping("policies", value).items()
    }
    for policy in policies:
        _one_of("policies", policy, POLICIES)
    return policies


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        # Not its value: a store's may hold a password.
        raise ConfigInvalid(f"dsvolume:{name} must be a mapping, not {type(value).__name__}")
    return dict(value)


def _settings(name: str, merged: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping of settings, each of which has a default."""
    settings = _mapping(name, merged[name])
    known = DEFAULTS[name]
    if unknown := set(settings) - set(known):
        said = f"dsvolume:{name}:{unknown.pop()}"
        raise ConfigInvalid(f"{said} is no setting; there is {', '.join(known)}")
    return settings


def _cgroup(value: Any) -> str:
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or not throttling.check(value):
        raise ConfigInvalid(
            f"dsvolume:qos:cgroup must be a cgroup's path such as /system.slice, not {value!r}"
        )
    return value.rstrip("/")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigInvalid(f"dsvolume:{name} must be a text, not {value!r}")
    return value


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigInvalid(f"dsvolume:{name} must be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def _directory(name: str, value: Any) -> Path:
    path = Path(value) if isinstance(value, str | Path) and str(value) else None
    if path is None or "\0" in str(path):
        raise ConfigInvalid(f"dsvolume:{name} must be a directory, not {value!r}")
    # A relative root is meant against the working directory (a checkout's .state). The mount table
    # and loop devices show paths without symlinks, and are compared with what begins here.
    try:
        return path.resolve()
    except (OSError, RuntimeError) as exc:
        raise ConfigInvalid(f"dsvolume:{name} cannot be followed: {value!r}") from exc


def _number(name: str, value: Any, least: float, most: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most:
        raise ConfigInvalid(
            f"dsvolume:{name} must be a number from {least:g} to {most:g}, not {value!r}"
        )
    return float(value)
