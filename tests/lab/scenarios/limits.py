"""QoS: profiles, volumes that they limit, and mounts with limits."""

from contextlib import suppress
from dataclasses import replace

from lab.faults import Scenario
from libstorage.errors import NoSuchProfile, Unsupported, VolumeExists
from libstorage.manager import Given, VolumeManager

from .words import FAST, GROWN, KINDS, OTHER, SLOWER, V, assert_intact, write_marker


def scenarios() -> list[Scenario]:
    """All of this group."""
    return [
        *(scenario for kind in ("ext4", "raw") for scenario in _on_limits(kind)),
        *_on_profiles(),
    ]


def _on_limits(kind: str) -> list[Scenario]:
    """QoS of a volume that is in use, or comes to be: the host has what the records say."""
    given, profile = Given(**KINDS[kind]), "p"

    def profiled(manager: VolumeManager) -> None:
        manager.create(V, given)
        write_marker(manager)
        manager.qos.create(profile, FAST)
        manager.qos.create("other", OTHER)
        manager.qos.apply(profile, [V])

    def used(manager: VolumeManager) -> None:
        profiled(manager)
        manager.mount(V, id="a")

    def limited(manager: VolumeManager) -> None:
        profiled(manager)
        manager.qos.enable([V])

    def used_limited(manager: VolumeManager) -> None:
        limited(manager)
        manager.mount(V, id="a")

    def used_twice(manager: VolumeManager) -> None:
        used_limited(manager)
        manager.mount(V, id="b")

    def keep(manager: VolumeManager) -> None:
        with suppress(VolumeExists):
            manager.snapshot_create(f"{V}@s")

    def grow(manager: VolumeManager) -> None:
        with suppress(Unsupported):  # of a mounted ext4, by this host's kernel
            manager.resize(V, GROWN[kind])

    def as_recorded(manager: VolumeManager) -> None:
        assert not [f for f in manager.doctor() if f["Kind"] == "limit"]
        manager.qos.edit(profile, SLOWER)
        assert not [f for f in manager.doctor() if f["Kind"] == "limit"]
        [record] = manager.info(V)
        rates = {row["WriteBW"] for row in record["QoSLimits"] or ()}
        limits = SLOWER if record["QoSProfile"] == profile else OTHER
        on = record["QoSState"] and record["Containers"]
        assert rates == ({limits["write_bw"]} if on else set()), record
        assert_intact(manager)

    scenarios = [
        Scenario(
            f"qos_apply-{kind}", used_limited, lambda m: m.qos.apply("other", [V]), as_recorded
        ),
        Scenario(f"qos_enable-{kind}", used, lambda m: m.qos.enable([V]), as_recorded),
        Scenario(f"qos_disable-{kind}", used_limited, lambda m: m.qos.disable([V]), as_recorded),
        Scenario(
            f"qos_edit-{kind}", used_limited, lambda m: m.qos.edit(profile, SLOWER), as_recorded
        ),
        Scenario(f"mount_limited-{kind}", limited, lambda m: m.mount(V, id="a"), as_recorded),
        Scenario(
            f"unmount_limited-{kind}", used_limited, lambda m: m.unmount(V, id="a"), as_recorded
        ),
        Scenario(f"snapshot_limited-{kind}", used_limited, keep, as_recorded),
        Scenario(f"resize_limited-{kind}", used_limited, grow, as_recorded),
        Scenario(f"join_limited-{kind}", used_limited, lambda m: m.mount(V, id="b"), as_recorded),
        Scenario(f"leave_limited-{kind}", used_twice, lambda m: m.unmount(V, id="b"), as_recorded),
    ]
    return [replace(scenario, shared=True) for scenario in scenarios]


def _on_profiles() -> list[Scenario]:
    """Profiles and the switch: the copy beside the data is as the store has it."""

    def nothing(manager: VolumeManager) -> None:
        """No profile beforehand."""

    def there(manager: VolumeManager) -> None:
        manager.qos.create("p", FAST)

    def drop(manager: VolumeManager) -> None:
        with suppress(NoSuchProfile):
            manager.qos.rm("p")

    def switch(manager: VolumeManager) -> None:
        manager.qos.disable([], everywhere=True)

    def whole(manager: VolumeManager) -> None:
        for record in manager.qos.ls()["Profiles"][1:]:
            assert record["WriteBW"] == FAST["write_bw"]
        manager.qos.create("p", FAST)
        manager.qos.enable([], everywhere=True)
        manager.qos.rm("p")

    return [
        Scenario("qos_create", nothing, there, whole),
        Scenario("qos_rm", there, drop, whole),
        Scenario("qos_switch", there, switch, whole),
    ]
