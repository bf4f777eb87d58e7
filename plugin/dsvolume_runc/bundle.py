"""A bundle's ``config.json``: what a container's volumes ask for, added to it."""

import json
import os
from typing import Any

from .errors import Refused
from .limits import in_effect
from .volumes import Volume, told, volume_of

JSON = dict[str, Any]
Use = tuple[JSON, Volume]
"""A mount of the container, and the volume that it is."""


def prepare(bundle: str, run_dir: str) -> None:
    """
    Let a container that is about to be made use its volumes as they are meant.

    bundle
        The directory of its ``config.json``.
    run_dir
        libstorage's.

    Raises Refused. A container without volumes of ours never is: what cannot be read here is left
    to runc, which reads the same.
    """
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except (OSError, ValueError, RecursionError):
        return
    volumes = _volumes(config, run_dir)
    if not volumes:
        return
    try:
        before = json.dumps(config)
        _allow(config, volumes)
        _limit(config, volumes)
        after = json.dumps(config)
        if after != before:
            _write(path, after)
    except OSError as exc:
        raise Refused(f"{path} cannot be prepared for volumes: {exc.strerror}") from exc


def _volumes(config: Any, run_dir: str) -> "list[Use]":
    """The mounts that are volumes of this node."""
    mounts = config.get("mounts") if isinstance(config, dict) else None
    found = []
    for mount in mounts if isinstance(mounts, list) else ():
        source = mount.get("source") if isinstance(mount, dict) else None
        if not isinstance(source, str) or not os.path.isabs(source):
            continue
        if mount.get("type") == "bind" or {"bind", "rbind"} & set(_options(mount)):
            volume = volume_of(source, run_dir)
            if volume is not None:
                found.append((mount, volume))
    return found


def _options(mount: JSON) -> "list[str]":
    options = mount.get("options")
    return options if isinstance(options, list) else []


def _allow(config: JSON, volumes: "list[Use]") -> None:
    """The devices of raw volumes, and no others; mounted twice, the wider access holds."""
    access: dict[int, str] = {}
    for mount, volume in volumes:
        if volume.shows(mount["source"]) and volume.device is not None:
            wide = access.get(volume.device) == "rw" or not _read_only(mount)
            access[volume.device] = "rw" if wide else "r"
    for device, allowed in access.items():
        rule = {"allow": True, "type": "b", **_numbered(device), "access": allowed}
        _list(_resources(config), "devices").append(rule)


def _read_only(mount: JSON) -> bool:
    said = [option for option in _options(mount) if option in ("ro", "rro", "rw")]
    return bool(said) and said[-1] != "rw"


def _limit(config: JSON, volumes: "list[Use]") -> None:
    """The limits of the volumes, in the place of what the container was given for their devices."""
    for device in {volume.device for _, volume in volumes if volume.device is not None}:
        for name, rate in in_effect(told(device)).items():
            rules = _list(_object(_resources(config), "blockIO"), name)
            mine = _numbered(device)
            rules[:] = [rule for rule in rules if not mine.items() <= rule.items()]
            rules.append({**mine, "rate": rate})


def _numbered(device: int) -> JSON:
    return {"major": os.major(device), "minor": os.minor(device)}


def _resources(config: JSON) -> JSON:
    return _object(_object(config, "linux"), "resources")


def _object(parent: JSON, name: str) -> JSON:
    found: JSON = _part(parent, name, dict)
    return found


def _list(parent: JSON, name: str) -> "list[JSON]":
    found: list[JSON] = _part(parent, name, list)
    if not all(isinstance(item, dict) for item in found):
        raise Refused(f"config.json has something in {name} that is no object")
    return found


def _part(parent: JSON, name: str, kind: type) -> Any:
    """A part of the configuration, made where it is absent or null."""
    if parent.get(name) is None:
        parent[name] = kind()
    if not isinstance(parent[name], kind):
        raise Refused(f"config.json has a {name} of a kind that no engine writes")
    return parent[name]


def _write(path: str, text: str) -> None:
    """Whole, or not at all."""
    new = f"{path}.dsvolume-{os.getpid()}"
    mode = os.stat(path).st_mode & 0o777
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
        os.replace(new, path)
    except OSError:
        if os.path.exists(new):
            os.unlink(new)
        raise
