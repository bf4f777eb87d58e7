"""
The volume manager that the configuration names.

``libstorage`` is the one that comes with it. Any other name is an importable module that holds
``MANAGER``: a class, made with a :class:`~libstorage.config.Config`, which offers what
:class:`~libstorage.manager.VolumeManager` offers. ``docs/another-manager.md`` tells more.
"""

from importlib import import_module
from typing import Any

from .config import Config
from .errors import ConfigInvalid
from .manager import VolumeManager

SHIPPED = "libstorage"
PARTS = ("qos", "cluster")
INTERFACE = (*(name for name in vars(VolumeManager) if not name.startswith("_")), "config", *PARTS)
"""What doors use of a manager."""


def open_manager(config: Config) -> VolumeManager:
    """
    This process's volume manager; nothing is opened or written before its first use.

    Raises ConfigInvalid where the named one cannot be loaded, or is none.
    """
    if config.manager == SHIPPED:
        return VolumeManager(config)
    name = config.manager
    try:
        kind: Any = import_module(name).MANAGER
    except (ImportError, AttributeError) as exc:
        raise ConfigInvalid(
            f"The volume manager {name} cannot be loaded: {exc}; install it on this node, or set "
            f"dsvolume:manager to {SHIPPED}"
        ) from exc
    made: VolumeManager = kind(config)
    lacking = [what for what in INTERFACE if not hasattr(made, what)]
    if lacking:
        raise ConfigInvalid(
            f"The volume manager {name} lacks {', '.join(lacking)}, which every manager offers"
        )
    return made
