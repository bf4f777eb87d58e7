"""One version, wherever it stands: doors refuse a libstorage that is not theirs."""

import re
import tomllib
from pathlib import Path

import pytest

import libstorage

ROOT = Path(__file__).resolve().parents[2]


def test_every_door_has_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    stated = {}
    for path in (ROOT / "salt").rglob("*.py"):
        for found in re.findall(r'^(?:VERSION|__version__) = "(.*)"$', path.read_text(), re.M):
            stated[str(path.relative_to(ROOT / "salt"))] = found
    assert set(stated.values()) == {project}
    assert {path.partition("/")[0] for path in stated} == {
        *("_modules", "_states", "_engines", "_runners", "_utils")
    }


def test_a_door_may_use_the_package_that_came_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    version = libstorage.__version__
    assert libstorage.unfit(version) == ""
    assert "0.0.7 was loaded beside libstorage" in libstorage.unfit("0.0.7")
    monkeypatch.setattr(libstorage, "VERSION", "0.0.7")
    assert "came with a part of libstorage alone" in libstorage.unfit(version)


def test_the_marking_file_is_the_last_that_a_synchronisation_brings() -> None:
    package = ROOT / "salt/_utils/libstorage"
    files = sorted(str(path.relative_to(package)) for path in package.rglob("*.py"))
    assert (files[0], files[-1]) == ("__init__.py", "version.py")
