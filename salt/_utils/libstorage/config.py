"""
The configuration of one node.

Later wins: the defaults here, ``/etc/dsvolume/config.yaml``, ``dsvolume:`` in the minion's
configuration, ``dsvolume:`` in pillar. Salt's doors call :func:`of_salt`.

A secret is never shown: not in an error, not in a repr, not where an error comes from. One that
Salt's sdb keeps (``sdb://PROFILE/KEY``) is fetched when the store is opened, and not kept here.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigInvalid, InvalidInput
from .host import throttling
from .limits import read_limits
from .records import POLICIES, check_name

FILE = Path("/etc/dsvolume/config.yaml")
ROOT = Path("/var/lib/dsvolume")
RUN_DIR = Path("/run/dsvolume")
DAY = 86400
STATED_WHOLE = ("policies", "controllers", "profiles")
"""Mappings that a later source replaces; the others are merged key by key."""

MAPPERS = ("auto", "krbd", "rbd-nbd", "qemu")
"""What gives images of Ceph a block device; ``auto``: the first that works on the host."""

SDB = "sdb://"
SECRETS = ("password",)
"""Settings of the store that are never shown, and may be kept by Salt's sdb."""

Fetch = Callable[[str], object]
"""Gives what a URI ``sdb://PROFILE/KEY`` stands for; raises whatever it likes."""

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
    "profiles": {},
    "trash": {"retention": 7, "ram": 0.04, "secure": 0},
    "capacity": {"near_full": 85},
    "ceph": {
        "conf": "/etc/ceph/ceph.conf",
        "client": "dsvolume",
        "pool": "dsvolume",
        "namespace": "",
        "mapper": "auto",
    },
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
    profiles
        QoS profiles that the states of ``dsvolume.profiles`` make: name -> its limits.
    trash
        Days that removed volumes are kept: ``retention``, and policies for which it is another;
        see :meth:`days_in_trash`.
    near_full
        Percent of a controller's storage in use at which it counts as near full; 100: never.
    ceph
        Where ds-ceph has its images: ``conf``, ``client`` (without ``client.``), ``pool`` and its
        ``namespace`` ("": the default one); and its ``mapper``, one of :data:`MAPPERS`.
    fetch
        Where ``sdb://`` URIs are looked up; None outside Salt.
    """

    root: Path
    run_dir: Path
    mount_root: Path
    mount_namespace: str
    manager: str
    policies: dict[str, str]
    controllers: dict[str, str]
    store: dict[str, Any] = field(repr=False)  # may hold a password; see revealed_store
    lease: float
    timeout: float
    retention: float
    qos_cgroup: str
    profiles: dict[str, dict[str, int]]
    trash: dict[str, float]
    near_full: float
    ceph: dict[str, str]
    node: str = field(default="")
    fetch: Fetch | None = field(default=None, repr=False, compare=False)

    def days_in_trash(self, policy: str) -> float:
        """How long removed volumes of a policy are kept; 0: they are destroyed at once."""
        return self.trash.get(policy, self.trash["retention"])

    def revealed_store(self) -> dict[str, Any]:
        """
        The settings of the store with its secrets, for its opening alone.

        Raises ConfigInvalid where one cannot be fetched.
        """
        return {
            name: self._revealed(name, value) if _is_kept(value) else value
            for name, value in self.store.items()
        }

    def _revealed(self, name: str, uri: str) -> str:
        what = f"dsvolume:store:{name}: {uri}"
        if name not in SECRETS:
            raise ConfigInvalid(f"{what} is not looked up: only {', '.join(SECRETS)} may be secret")
        if self.fetch is None:
            raise ConfigInvalid(f"{what} can be looked up by Salt alone")
        try:
            value = self.fetch(uri)
        except Exception as exc:
            # Any driver's any error; its words may hold what it has read.
            kind = type(exc).__name__
            raise ConfigInvalid(
                f"{what} cannot be had ({kind}): check this profile and its driver"
            ) from None
        if not isinstance(value, str) or not value or _is_kept(value):
            raise ConfigInvalid(f"{what} stands for no text: check this profile and its key")
        return value


def of_salt(
    opts: Mapping[str, Any],
    pillar: Mapping[str, Any] | None,
    sdb_get: Callable[..., object],
) -> Config:
    """
    What a Salt daemon is configured with: the node's own file, the daemon's options, its pillar.

    pillar
        None on a master: it is no node, and may not be allowed to read the file of one.
    sdb_get
        Salt's function of this name (nothing here knows Salt).

    Raises ConfigInvalid as :func:`load`.
    """
    return load(
        opts["id"],
        None if pillar is None else read_file(),
        opts.get("dsvolume"),
        None if pillar is None else pillar.get("dsvolume"),
        fetch=lambda uri: sdb_get(uri, opts, strict=True),
    )


def load(node: str, *sources: Mapping[str, Any] | None, fetch: Fetch | None = None) -> Config:
    """
    Merge ``sources`` (later wins) over the defaults and check the result.

    node
        This node's name: the minion id.
    fetch
        Looks up ``sdb://`` URIs when the store is opened.

    Raises ConfigInvalid, naming the setting, for anything that cannot be meant.
    """
    merged = dict(DEFAULTS)
    for source in sources:
        if source is None:
            continue
        if not isinstance(source, Mapping):
            raise ConfigInvalid(f"dsvolume: must be a mapping, not {type(source).__name__}")
        merged = _merge(merged, source)
    return _checked(node, merged, fetch)


def read_file(path: Path = FILE) -> dict[str, Any]:
    """
    The node's own configuration file; empty where there is none.

    Raises ConfigInvalid where it cannot be read, or holds a password that others may read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = yaml.safe_load(file.read())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        # YAML's own words quote the line, which may hold a password.
        raise ConfigInvalid(f"{path} cannot be read: {_without_quotes(exc)}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigInvalid(f"{path} must hold a mapping, not {type(data).__name__}")
    if mode & 0o077 and _holds_secret(data.get("store")):
        raise ConfigInvalid(f"{path} holds a password and others may read it: chmod 600")
    return data


def _without_quotes(exc: Exception) -> str:
    """What is wrong with a file, without what stands in it."""
    if isinstance(exc, yaml.MarkedYAMLError) and exc.problem_mark:
        return f"line {exc.problem_mark.line + 1} is no YAML"
    return (exc.strerror if isinstance(exc, OSError) else None) or "it is no YAML text"


def _holds_secret(store: object) -> bool:
    return isinstance(store, Mapping) and any(
        store.get(name) is not None and not _is_kept(store[name]) for name in SECRETS
    )


def _is_kept(value: object) -> bool:
    """Is it a URI of Salt's sdb?"""
    return isinstance(value, str) and value.startswith(SDB)


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, given in over.items():
        if key not in DEFAULTS:
            known = ", ".join(sorted(DEFAULTS))
            raise ConfigInvalid(f"dsvolume:{key} is no setting; there are: {known}")
        # An operator who lists two policies serves two.
        stated_whole = key in {"policies", "controllers", "profiles"} or not isinstance(
            given, Mapping
        )
        merges = isinstance(DEFAULTS[key], Mapping) and not stated_whole
        # What an earlier source said of it may be no mapping; then this one replaces it.
        below = merged[key] if isinstance(merged[key], Mapping) else {}
        merged[key] = {**below, **given} if merges else given
    return merged


def _checked(node: str, merged: dict[str, Any], fetch: Fetch | None) -> Config:
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
        profiles=_profiles(merged["profiles"]),
        trash=_trash(merged["trash"]),
        near_full=_number("capacity:near_full", capacity.get("near_full"), 1, 100),
        ceph=_ceph(_settings("ceph", merged)),
        node=node,
        fetch=fetch,
    )


def _ceph(settings: Mapping[str, Any]) -> dict[str, str]:
    named = {
        name: _text(f"ceph:{name}", settings[name]) for name in settings if name != "namespace"
    }
    namespace = settings["namespace"]
    if not isinstance(namespace, str):
        raise ConfigInvalid(f"dsvolume:ceph:namespace must be a text, not {namespace!r}")
    _one_of("ceph:mapper", named["mapper"], MAPPERS)
    return {**named, "client": named["client"].removeprefix("client."), "namespace": namespace}


def _profiles(value: Any) -> dict[str, dict[str, int]]:
    profiles = {}
    for given, limits in _mapping("profiles", value).items():
        name = str(given)  # one of digits is a number to YAML
        try:
            check_name(name, "profile")
            # One that says nothing has the limits of a new one.
            profiles[name] = read_limits(_mapping(f"profiles:{name}", limits or {}))
        except InvalidInput as exc:
            raise ConfigInvalid(f"dsvolume:profiles:{name[:60]}: {exc}") from exc
    return profiles


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
