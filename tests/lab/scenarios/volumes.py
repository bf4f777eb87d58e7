"""Volumes come, are used, edited and go."""

from lab.faults import Act, Scenario
from libstorage.manager import Given, VolumeManager

from .recovery import recovery
from .words import EDITED, KINDS, V, assert_intact, write_marker


def scenarios() -> list[Scenario]:
    """All of this group."""
    found = [scenario for kind in KINDS for scenario in _scenarios(kind)]
    victims = ("create-ext4", "rm-ext4", "mount-xfs", "unmount-ram")
    return [*found, *(recovery(scenario) for scenario in found if scenario.name in victims)]


def _scenarios(kind: str) -> list[Scenario]:
    given = Given(**KINDS[kind])

    def nothing(manager: VolumeManager) -> None:
        """No volume beforehand."""

    def create(manager: VolumeManager) -> None:
        manager.create(V, given)

    def written(manager: VolumeManager) -> None:
        create(manager)
        write_marker(manager)

    def used(manager: VolumeManager) -> None:
        written(manager)
        manager.mount(V, id="a")

    def used_twice(manager: VolumeManager) -> None:
        used(manager)
        manager.mount(V, id="b")

    def made_or_absent(manager: VolumeManager) -> None:
        for record in manager.ls():
            assert record["Fstype"] == KINDS[kind].get("fstype", record["Fstype"])
            write_marker(manager)
            assert_intact(manager)

    def intact_or_absent(manager: VolumeManager) -> None:
        if manager.ls():
            assert_intact(manager)

    def users(*allowed: set[str]) -> Act:
        def check(manager: VolumeManager) -> None:
            now = {user.split("@")[0] for user in manager.info(V)[0]["Containers"] or ()}
            assert now in [{f"salt:{u}" for u in some} for some in allowed], now
            assert_intact(manager)

        return check

    def labelled(manager: VolumeManager) -> None:
        written(manager)
        manager.label(V, {"team": "db"})

    def edited(field: str, *allowed: object) -> Act:
        def check(manager: VolumeManager) -> None:
            record = manager.info(V)[0]
            assert (record[field], record["Revision"]) in allowed, record
            assert_intact(manager)

        return check

    def come(id: str) -> Act:
        return lambda manager: manager.mount(V, id=id)

    def go(id: str) -> Act:
        return lambda manager: manager.unmount(V, id=id)

    scenarios = [
        Scenario(f"create-{kind}", nothing, create, made_or_absent),
        Scenario(f"rm-{kind}", written, lambda m: m.rm(V), intact_or_absent),
        Scenario(f"first_mount-{kind}", create, come("a"), _mounted_or_not),
        Scenario(f"mount-{kind}", written, come("a"), users({"a"}, set())),
        Scenario(f"unmount-{kind}", used, go("a"), users({"a"}, set())),
    ]
    if kind in EDITED:
        labels = {"team": "web", "tier": "1"}
        changed = edited("Labels", ({"team": "db"}, 2), (labels, 3))
        safe = edited("Protected", (False, 1), (True, 2))
        scenarios += [
            Scenario(f"label-{kind}", labelled, lambda m: m.label(V, labels), changed),
            Scenario(f"protect-{kind}", written, lambda m: m.protect(V), safe),
        ]
    if "fstype" in KINDS[kind]:
        # Elsewhere usage touches nothing on the host.
        scenarios.append(Scenario(f"usage-{kind}", written, lambda m: m.usage(V), users(set())))
    if kind != "secure":
        scenarios += [
            Scenario(f"join-{kind}", used, come("b"), users({"a"}, {"a", "b"})),
            Scenario(f"leave-{kind}", used_twice, go("b"), users({"a"}, {"a", "b"})),
        ]
    return scenarios


def _mounted_or_not(manager: VolumeManager) -> None:
    users = manager.info(V)[0]["Containers"]
    if users:
        assert [user.split("@")[0] for user in users] == ["salt:a"]
        manager.unmount(V, id="a")
    write_marker(manager)
    assert_intact(manager)
