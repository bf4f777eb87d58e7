"""Words that the tests of verbs share."""

from collections.abc import Callable
from typing import Any

import pytest

from lab.site import Site
from libstorage.manager import Given, VolumeManager
from libstorage.records import JSON

Create = Callable[..., JSON]


@pytest.fixture
def manager(site: Site) -> VolumeManager:
    return site.manager()


@pytest.fixture
def create(manager: VolumeManager) -> Create:
    """Creates a volume (``local`` where no policy is said) and returns its record."""

    def make(name: str, **given: Any) -> JSON:
        record: JSON = manager.create(name, Given(**{"policy": "local", **given}))["Volume"]
        return record

    return make


@pytest.fixture
def texts(manager: VolumeManager) -> Callable[..., list[str]]:
    """The texts of the events of a volume, in order."""

    def read(name: str = "*") -> list[str]:
        return [event["Text"] for event in manager.events(filters=[f"volume={name}"])]

    return read
