"""The drivers of storage stacks, each exporting one or more policies."""

from importlib import import_module

from ..config import Config
from ..errors import ConfigInvalid, InvalidInput, Unsupported
from ..records import POLICIES
from .contract import Controller, Site

SHIPPED = {
    "ds-ceph": f"{__name__}.ceph",
    "ds-local": f"{__name__}.local",
    "ds-ram": f"{__name__}.ram",
}


class Controllers:
    """The controllers that this node's configuration names, by policy and by name."""

    def __init__(self, config: Config) -> None:
        modules = {**SHIPPED, **config.controllers}
        self._by_name = {
            name: _load(name, modules.get(name), _site(config, name))
            for name in dict.fromkeys(config.policies.values())
        }
        self._by_policy = {policy: self._by_name[name] for policy, name in config.policies.items()}
        for policy, controller in self._by_policy.items():
            if policy not in controller.policies:
                raise ConfigInvalid(
                    f"dsvolume:policies:{policy}: {controller.name} serves "
                    f"{', '.join(controller.policies)} only"
                )

    def of_policy(self, policy: str) -> Controller:
        """Raises InvalidInput for an unknown policy, Unsupported for one not served here."""
        if policy not in POLICIES:
            raise InvalidInput(f"Unknown policy {policy!r}; there are {', '.join(POLICIES)}")
        if policy not in self._by_policy:
            raise Unsupported(
                f"Policy {policy} is served by no controller on this node; it serves "
                f"{', '.join(self._by_policy)} (pillar dsvolume:policies)"
            )
        return self._by_policy[policy]

    def named(self, name: str) -> Controller:
        """Raises ConfigInvalid where this node's configuration does not name the controller."""
        if name not in self._by_name:
            raise ConfigInvalid(
                f"Controller {name} is not configured on this node (pillar dsvolume:policies)"
            )
        return self._by_name[name]

    def all(self) -> list[Controller]:
        return list(self._by_name.values())


def _site(config: Config, name: str) -> Site:
    settings = {"ds-ceph": config.ceph}.get(name, {})
    return Site(root=config.root, node=config.node, run_dir=config.run_dir, settings=settings)


def _load(name: str, module: str | None, site: Site) -> Controller:
    if module is None:
        known = ", ".join(SHIPPED)
        raise ConfigInvalid(
            f"dsvolume:policies names {name}, which is none of {known} nor in dsvolume:controllers"
        )
    try:
        controller: Controller = import_module(module).CONTROLLER(site)
    except (ImportError, AttributeError) as exc:
        raise ConfigInvalid(f"Controller {name} cannot be loaded from {module}: {exc}") from exc
    return controller
