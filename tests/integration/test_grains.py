"""The grain: what the node's own files say it serves, also where they are broken."""

from pathlib import Path
from typing import Any

import pytest
import salt.loader

from libstorage.config import DEFAULTS

SECRET = "hunter2-hunter2"


@pytest.fixture
def grain(opts: dict[str, Any], tmp_path: Path) -> Any:
    """The grain of a node with this file and this setting of its minion."""

    def read(file: str | bytes | None = None, settings: Any = None) -> Any:
        function = salt.loader.grain_funcs({**opts, "dsvolume": settings})["dsvolume.dsvolume"]
        path = tmp_path / "config.yaml"
        if file is not None:
            path.write_bytes(file.encode() if isinstance(file, str) else file)
        function.__globals__["FILE"] = str(path)
        return function()["dsvolume"]

    return read


def test_without_any_setting_it_tells_the_defaults(grain: Any) -> None:
    assert grain() == {
        "policies": sorted(DEFAULTS["policies"]),
        "store": DEFAULTS["store"]["kind"],
    }


def test_the_minions_setting_wins_over_the_file(grain: Any) -> None:
    file = "policies: {ram: ds-ram}\nstore: {kind: etcd}\n"
    assert grain(file) == {"policies": ["ram"], "store": "etcd"}
    assert grain(file, {"policies": {"local": "ds-local"}, "store": {"prefix": "/a"}}) == {
        "policies": ["local"],
        "store": "etcd",
    }
    assert grain("", {}) == grain(None, None)


@pytest.mark.parametrize(
    ("file", "settings", "says"),
    [
        (f"store: {{password: {SECRET}}}\n  : [", None, "cannot be read (ParserError)"),
        (b"\xff", None, "cannot be read (UnicodeDecodeError)"),
        ("- a\n", None, "must be a mapping, not list"),
        ("policies: [ram]\n", None, "policies must be a mapping, not list"),
        (None, {"store": "etcd"}, "dsvolume: store must be a mapping, not str"),
        (None, "etcd", "dsvolume must be a mapping, not str"),
    ],
)
def test_a_broken_configuration_is_part_of_the_grain(
    grain: Any, file: str | bytes | None, settings: Any, says: str
) -> None:
    found = grain(file, settings)
    assert (found["policies"], found["store"]) == ([], "") and says in found["error"]
    assert SECRET not in str(found)
