"""A weight is in effect where something in the kernel weighs: BFQ, or io.cost; else it is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from guest.conftest import Limited, device, info
from guest.loads import CGROUPS
from libstorage.host import throttling
from libstorage.manager import VolumeManager
from libstorage.records import JSON


def weight(view: JSON) -> int:
    """The weight that info says is in effect."""
    rows = view["QoSLimits"] or []
    return max((row["Weight"] for row in rows), default=0)


def base() -> Path:
    host = throttling.hierarchy()
    assert host is not None
    return CGROUPS / host.base().strip("/")


def scheduler(view: JSON) -> Path:
    return Path(f"/sys/dev/block/{device(view['Mountpoint'])}/queue/scheduler")


@pytest.fixture(autouse=True)
def schedulers() -> Iterator[None]:
    """Schedulers stay on a loop device: who gets it next is to find it as it was."""
    before = {file: file.read_text() for file in Path("/sys/block").glob("loop*/queue/scheduler")}
    yield
    for file, text in before.items():
        file.write_text(text.partition("[")[2].partition("]")[0])


def test_without_either_it_is_recorded_only(manager: VolumeManager, limited: Limited):
    view = limited("plain", weight=300)
    assert "[bfq]" not in scheduler(view).read_text()
    assert manager.qos.info("plain")[0]["Weight"] == 300
    assert weight(view) == 0
    assert view["QoSScope"] == ""


def test_with_bfq_it_is_in_effect(manager: VolumeManager, limited: Limited):
    view = limited("fair", weight=300, read_iops=1000)
    id = device(view["Mountpoint"])
    assert weight(view) == 0
    scheduler(view).write_text("bfq")
    manager.qos.edit("fair", {"weight": 400})
    assert weight(info(manager, "fair")) == 400
    assert f"{id} 400" in (base() / "io.bfq.weight").read_text().splitlines()
    manager.qos.disable(["fair"])
    assert id not in (base() / "io.bfq.weight").read_text()
    manager.qos.enable(["fair"])
    assert weight(info(manager, "fair")) == 400
    manager.unmount("fair")
    assert id not in (base() / "io.bfq.weight").read_text()


@pytest.mark.parametrize(("given", "kernel"), [(10, 1), (1000, 10000), (500, 4950)])
def test_with_io_cost_it_is_in_effect(
    given: int, kernel: int, manager: VolumeManager, limited: Limited
):
    name = f"cost{given}"
    view = limited(name, weight=250)
    id = device(view["Mountpoint"])
    switch = CGROUPS / "io.cost.qos"
    switch.write_text(f"{id} enable=1")
    try:
        manager.qos.edit(name, {"weight": given})
        assert weight(info(manager, name)) == given
        assert f"{id} {kernel}" in (base() / "io.weight").read_text().splitlines()
        manager.unmount(name)
        assert id not in (base() / "io.weight").read_text()
    finally:
        switch.write_text(f"{id} enable=0")
