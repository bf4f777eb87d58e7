"""The minion's module ``dsvolume``, called in this process."""

import inspect
import sys
from pathlib import Path
from typing import Any

import salt.client
import salt.config
import salt.utils.sdb
from salt.exceptions import CommandExecutionError

from libstorage import config, doors
from libstorage.config import Config
from libstorage.host import mounts

PREFIX = "dsvolume."
ASKER = {"door": "bridge"}
"""Who asks where nobody has asked the bridge."""
TREE = Path(__file__).resolve().parents[2] / "salt"
"""What belongs to this copy of the bridge; Salt's own cache may be emptied, or hold another."""
WITHOUT_STORE = frozenset(("attachments", "mount", "unmount", "version"))
"""What may be answered while the store is away."""


class Refused(Exception):
    """
    What a function refused or failed to do: one sentence.

    kind
        The type of libstorage's error, such as ``NoSuchVolume``.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class Module:
    """
    A local caller: it needs no master, and goes on while one is away.

    config_dir
        Where the minion's configuration is.
    """

    def __init__(self, config_dir: Path) -> None:
        opts = salt.config.minion_config(str(config_dir / "minion"))
        opts["file_client"] = "local"
        # It reads every block device, and would wait for one whose storage is away.
        opts["disable_grains"] = [*opts.get("disable_grains", ()), "lvm"]
        # Of several, Salt looks into the last one first.
        opts["module_dirs"] = [*opts.get("module_dirs", ()), str(TREE)]
        self._caller = salt.client.Caller(mopts=opts)
        self._opts = opts
        self.store_answers = True
        """Did the store, when it was last asked?"""
        self.node: str = opts["id"]
        if f"{PREFIX}version" not in self._functions:
            raise Refused(self._functions.missing_fun_string(f"{PREFIX}version"), "ConfigInvalid")
        if self.settings().mount_namespace == "host" and not mounts.in_host_namespace():
            raise Refused(
                "The bridge has a mount namespace of its own, where Docker would not see what it "
                "mounts: start it in the host's (its unit must have no ProtectSystem=, PrivateTmp= "
                "and the like), or set dsvolume:mount_namespace to own",
                "NotHere",
            )

    def settings(self) -> Config:
        """The node's configuration, as it is now. Raises ConfigInvalid."""
        return config.of_salt(self._opts, None, salt.utils.sdb.sdb_get)

    @property
    def _functions(self) -> Any:
        return self._caller.sminion.functions

    def mountpoint(self, name: str) -> str:
        """Where a volume is mounted on this host, asked of the host alone; "" where it is not."""
        point = self.settings().mount_root / name
        return str(point) if mounts.at(point) is not None else ""

    def mountpoints(self) -> dict[str, str]:
        """The volumes that are mounted on this host, with where, asked of the host alone."""
        root = self.settings().mount_root
        return {one.path.name: str(one.path) for one in mounts.table() if one.path.parent == root}

    def remembered(self, name: str | None = None) -> list[dict[str, Any]]:
        """This boot's attachments here, of all volumes or of one, as this host remembers them."""
        found: list[dict[str, Any]] = self.call("attachments", {}, name)
        return found

    def refresh(self) -> None:
        """Let this host remember what the store knows. Raises Refused while that is away."""
        self.call("attachments", ASKER, refresh=True)

    def functions(self) -> dict[str, inspect.Signature]:
        """The module's functions and what they take."""
        # Asked for the names of its functions, the loader loads every module there is: 30 MB.
        module = sys.modules[self._functions[f"{PREFIX}version"].__module__]
        return {
            name: inspect.signature(self._functions[f"{PREFIX}{name}"])
            for name, value in vars(module).items()
            if inspect.isfunction(value)
            and value.__module__ == module.__name__
            and not name.startswith("_")
        }

    def call(self, function: str, asker: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """
        Call a function.

        asker
            Who asks, for the events: ``{"door": "docker"}``, ``{"door": "cli", "user": "root"}``.

        Raises Refused.
        """
        with doors.asked_by(asker):
            try:
                answer = self._functions[f"{PREFIX}{function}"](*args, **kwargs)
            except CommandExecutionError as exc:
                kind = type(exc.__cause__ or exc).__name__
                self.store_answers = kind != "StoreUnavailable"
                raise Refused(str(exc), kind) from exc
            if function not in WITHOUT_STORE:
                self.store_answers = True
            return answer
