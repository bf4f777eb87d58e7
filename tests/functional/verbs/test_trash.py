"""Removed volumes are kept, come back whole, and go when they are to go: never otherwise."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.faults import Trap, fork_victim
from lab.scenarios import KINDS, assert_intact, read_marker, write_marker
from lab.site import KEEPS_TRASH, NO_TRASH, NODE, Site, assert_clean
from libstorage.controllers.local import Local
from libstorage.errors import (
    BackendError,
    InvalidInput,
    LibstorageError,
    NoSpace,
    NoSuchVolume,
    NotHere,
    NotInTrash,
    OperationInProgress,
    VolumeExists,
    VolumeInUse,
)
from libstorage.manager import Given, VolumeManager
from libstorage.manager import trash as trash_module
from libstorage.manager.context import Deadline
from libstorage.records import JSON
from libstorage.store.contract import Delete, Put

Create = Callable[..., JSON]
TRASHED = ("directory", "ext4", "xfs", "raw", "ram", "secure")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that keeps what is removed."""
    with Site(tmp_path / "site", trash=KEEPS_TRASH) as made:
        yield made


@pytest.fixture(params=TRASHED)
def given(request: pytest.FixtureRequest) -> Given:
    """A volume of each kind."""
    return Given(**KINDS[request.param])


def names(manager: VolumeManager) -> list[str]:
    return [row["Name"] for row in manager.trash_ls()]


def entry(site: Site, id: str) -> JSON:
    return site.values("trash/")[f"trash/{id}"]


def rm_for_a_moment(site: Site, name: str) -> None:
    """Remove a volume whose time in the trash is over at once."""
    hasty = site.manager(trash=dict.fromkeys(KEEPS_TRASH, 1e-9))
    hasty.rm(name)
    hasty.close()


def holding(manager: VolumeManager, name: str, text: str, **given: Any) -> JSON:
    """A volume with something in it."""
    record: JSON = manager.create(name, Given(**{"policy": "local", **given}))["Volume"]
    write_marker(manager, text=text, name=name)
    return record


# -- there and back ------------------------------------------------------------------------------


def test_what_was_removed_comes_back_whole(
    site: Site, manager: VolumeManager, given: Given
) -> None:
    record = manager.create("v", given)["Volume"]
    write_marker(manager)
    record = manager.label("v", {"team": "web"})
    assert manager.rm("v", by={"user": "root"}) == record
    with pytest.raises(NoSuchVolume):
        manager.info("v")
    assert manager.ls() == []
    [row] = manager.trash_ls()
    assert (row["Name"], row["Id"], row["By"]) == ("v", record["Id"], {"user": "root"})
    assert row["TrashedAt"] < row["Until"]
    assert_clean(site)

    back = manager.undelete("v")
    assert back == {**record, "Revision": record["Revision"] + 1}
    assert manager.trash_ls() == []
    assert_intact(manager)
    assert_clean(site)
    manager.rm("v", purge=True)
    assert manager.trash_ls() == []
    assert_clean(site)
    assert not [path for path in site.listing() if record["Id"] in path]


@pytest.mark.parametrize("given", [kind for kind in TRASHED if kind != "secure"], indirect=True)
def test_a_new_volume_of_the_name_and_the_old_one_never_meet(
    site: Site, manager: VolumeManager, given: Given
) -> None:
    first = manager.create("v", given)["Volume"]
    write_marker(manager, text="the first's\n")
    manager.rm("v")
    second = manager.create("v", given)["Volume"]
    write_marker(manager, text="the second's\n")
    assert first["Id"] != second["Id"]
    with pytest.raises(VolumeExists, match=r"^Volume exists: v; undelete .* \(new=NAME\)$"):
        manager.undelete("v")
    back = manager.undelete("v", new="old")
    assert (back["Name"], back["Id"]) == ("old", first["Id"])
    assert read_marker(manager, name="old").startswith("the first's\n")
    assert read_marker(manager, name="v").startswith("the second's\n")
    manager.rm("old")
    manager.rm("v")
    assert names(manager) == ["old", "v"]
    assert_clean(site)


def test_the_newest_comes_back_unless_an_id_is_named(site: Site, manager: VolumeManager) -> None:
    records = []
    for number in range(3):
        records.append(holding(manager, "v", f"number {number}\n"))
        manager.rm("v")
    assert [row["Id"] for row in manager.trash_ls("v")] == [r["Id"] for r in records]
    assert manager.undelete("v")["Id"] == records[2]["Id"]
    assert manager.undelete("v", id=records[0]["Id"], new="w")["Id"] == records[0]["Id"]
    assert read_marker(manager, name="w") == "number 0\n"
    assert manager.trash_ls("w") == []
    assert [row["Id"] for row in manager.trash_ls()] == [records[1]["Id"]]
    assert_clean(site)


def test_memory_keeps_what_it_holds_until_the_reboot(
    site: Site, manager: VolumeManager, texts: Any
) -> None:
    record = holding(manager, "v", "x\n", policy="ram", mb_size=2)
    manager.rm("v")
    assert site.root / "ram" / record["Id"] in site.mounted()
    manager.close()
    site.reboot()
    after = site.manager()
    assert after.doctor() == []
    after.undelete("v")
    after.mount("v")
    assert list((site.root / "mounts" / "v").iterdir()) == []
    after.unmount("v")
    assert "Volume emptied by reboot success" not in texts("v")
    assert "Volume emptied by reboot" in texts("v")


def test_the_events_tell(manager: VolumeManager, create: Create, texts: Any) -> None:
    create("v")
    manager.rm("v")
    manager.undelete("v", new="w")
    with pytest.raises(VolumeExists):
        create("v")
        manager.rm("v")
        manager.undelete("v", new="w")
    manager.rm("v", purge=True)
    assert texts("v")[-3:] == [
        "Volume create success",
        "Volume destroy success",
        "Volume purge success",
    ]
    assert texts("w")[0] == "Volume undelete success"
    assert texts("w")[1].startswith("Volume undelete failed Volume exists: w; ")
    kept = [e for e in manager.events() if e["Verb"] == "rm"]
    assert all(e["Data"]["until"] > e["Time"] for e in kept)


# -- what is and is not kept ---------------------------------------------------------------------


def test_each_policy_has_its_days(tmp_path: Path) -> None:
    with Site(tmp_path / "site", trash={**NO_TRASH, "ram": 1}) as site:
        manager = site.manager()
        for name, kind in (("d", "directory"), ("i", "ext4"), ("m", "ram"), ("s", "secure")):
            manager.create(name, Given(**KINDS[kind]))
            write_marker(manager, name=name)
            manager.rm(name)
        assert names(manager) == ["m"]
        assert_clean(site)


def test_what_kept_a_volume_from_removal_still_does(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    manager.snapshot_create("v@s")
    with site.nothing_changes(), pytest.raises(VolumeInUse, match="Volume has snapshots: s"):
        manager.rm("v")
    manager.snapshot_rm("v@s")
    manager.mount("v")
    with site.nothing_changes(), pytest.raises(VolumeInUse, match="Volume in use by salt:salt"):
        manager.rm("v")
    manager.unmount("v")
    manager.protect("v")
    for purge in (False, True):
        with site.nothing_changes(), pytest.raises(VolumeInUse, match="Volume is protected: v"):
            manager.rm("v", purge=purge)
    manager.unprotect("v")
    manager.rm("v")
    assert names(manager) == ["v"]


def test_a_test_run_writes_nothing(site: Site, manager: VolumeManager, create: Create) -> None:
    record = create("v")
    with site.nothing_changes():
        assert manager.rm("v", test=True) == record
    manager.rm("v")
    with site.nothing_changes():
        assert manager.undelete("v", new="w", test=True)["Name"] == "w"
        assert manager.rm("v", purge=True, test=True) == record


# -- purge ---------------------------------------------------------------------------------------


def test_purge_takes_the_volume_and_leaves_older_ones(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    old = create("v")
    manager.rm("v")
    create("v")
    manager.rm("v", purge=True)
    assert [row["Id"] for row in manager.trash_ls()] == [old["Id"]]
    manager.rm("v", purge=True)
    assert manager.trash_ls() == []
    with pytest.raises(NoSuchVolume):
        manager.rm("v", purge=True)
    assert_clean(site)


def test_purge_takes_all_removed_ones_of_a_name(
    site: Site, manager: VolumeManager, given: Given
) -> None:
    for name in ("v", "v", "w", "v"):
        manager.create(name, given)
        write_marker(manager, name=name)
        manager.rm(name)
    newest = manager.trash_ls("v")[-1]
    assert manager.rm("v", purge=True)["Id"] == newest["Id"]
    assert names(manager) == ["w"]
    assert_clean(site)


def test_a_purge_that_fails_half_way_goes_on(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    create("v", fstype="ext4", mb_size=8)
    manager.rm("v")
    destroy = Local.destroy

    def half(self: Local, work: Any, id: str) -> None:
        self.drop_copy(id)
        raise BackendError("The disk does not answer")

    monkeypatch.setattr(Local, "destroy", half)
    with pytest.raises(BackendError, match="does not answer") as caught:
        manager.rm("v", purge=True)
    assert caught.value.__notes__ == ["The purge of v goes on at the next call or doctor"]
    with pytest.raises(BackendError, match="does not answer"):
        manager.undelete("v")
    monkeypatch.setattr(Local, "destroy", destroy)
    with pytest.raises(NotInTrash, match=r"^No removed volume: v; the trash is empty$"):
        manager.undelete("v")
    assert_clean(site)


# -- the doctor ----------------------------------------------------------------------------------


def test_the_doctor_purges_what_was_kept_long_enough(
    site: Site, manager: VolumeManager, given: Given
) -> None:
    record = manager.create("v", given)["Volume"]
    write_marker(manager)
    rm_for_a_moment(site, "v")
    assert [row["Id"] for row in manager.trash_ls()] == [record["Id"]]
    later = manager.create("v", given)["Volume"]
    write_marker(manager)
    manager.mount("v", id="user")
    [finding] = manager.doctor()
    assert (finding["Kind"], finding["Name"], finding["Fixed"]) == ("trash", "v", None)
    assert finding["Says"].startswith("v was removed at 20")
    assert finding["Says"].endswith("; its time in the trash is over.")
    [mended] = manager.doctor(fix=True)
    assert mended == {**finding, "Fixed": True}
    assert manager.trash_ls() == []
    assert manager.info("v")[0]["Id"] == later["Id"]
    manager.unmount("v", id="user")
    assert_intact(manager)
    assert_clean(site)


def test_what_the_doctor_finds_expired_may_still_come_back(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    write_marker(manager)
    rm_for_a_moment(site, "v")
    looks = site.manager()._doctor._data
    [finding] = [f for f in looks.in_trash(Deadline(0)) if f.mend]
    manager.undelete("v")
    assert finding.mend is not None
    finding.mend()
    assert_intact(manager)
    manager.rm("v")
    finding.mend()
    assert manager.undelete("v")["Revision"] == 3
    assert_intact(manager)
    assert_clean(site)


def test_missing_data_are_named(site: Site, manager: VolumeManager, create: Create) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    manager.rm("v")
    site.image(record).unlink()
    [finding] = manager.doctor(fix=True)
    assert finding["Kind"] == "trash" and finding["Fixed"] is None
    assert finding["Says"] == (
        "The data of v, which is in the trash, are missing from ds-local; restore them, or let "
        "go of it with rm purge=True."
    )
    manager.rm("v", purge=True)
    assert_clean(site)


@pytest.mark.parametrize("lost", ["state", "revision", "copy"])
def test_a_copy_that_lags_is_put_right(
    site: Site, manager: VolumeManager, create: Create, lost: str
) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    controller = manager._context.controllers.named("ds-local")
    manager.rm("v")
    [copy] = controller.copies()
    volume = manager._trash.here()[0].volume
    if lost == "state":
        controller.put_copy(volume, copy["cluster"])
    elif lost == "revision":
        manager.undelete("v")
        manager.rm("v")
        controller.put_copy(volume, copy["cluster"], copy["trashed"])
    else:
        controller.drop_copy(volume.id)
    [finding] = manager.doctor(fix=True)
    assert finding["Says"] == (
        "The copy of the record of v, which is in the trash, is not current."
    )
    [copy] = controller.copies()
    kept = entry(site, record["Id"])
    assert copy["record"] == kept["Volume"]
    assert copy["trashed"] == {key: kept[key] for key in ("At", "Until", "By", "Parent")}
    assert_clean(site)


def test_a_copy_of_the_trash_that_the_store_lacks_is_named(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("other")
    record = create("v", fstype="ext4", mb_size=8)
    manager.rm("v")
    site.store.transact([], [Delete(f"trash/{record['Id']}")])
    [finding] = manager.doctor(fix=True)
    assert finding["Fixed"] is None
    assert finding["Says"].endswith(
        "carries the record of v, which the trash of the store does not have."
    )
    assert site.image(record).exists()


@pytest.mark.parametrize("back", [False, True])
def test_an_edit_s_late_copy_says_what_has_become_of_the_volume(
    site: Site,
    manager: VolumeManager,
    create: Create,
    monkeypatch: pytest.MonkeyPatch,
    back: bool,
) -> None:
    create("v", fstype="ext4", mb_size=8)
    put = Local.put_copy
    other = site.manager()

    def late(self: Local, *args: Any) -> None:
        monkeypatch.setattr(Local, "put_copy", put)
        other.rm("v")
        if back:
            other.undelete("v", new="w")
        put(self, *args)

    monkeypatch.setattr(Local, "put_copy", late)
    manager.label("v", {"a": "1"})
    assert names(manager) == ([] if back else ["v"])
    assert_clean(site)
    record = manager.info("w")[0] if back else manager.undelete("v")
    assert record["Labels"] == {"a": "1"}


# -- clones --------------------------------------------------------------------------------------


@pytest.fixture
def clone(manager: VolumeManager) -> JSON:
    """A clone, removed into the trash; its parent is free of it."""
    holding(manager, "v", "parent's\n", fstype="ext4", mb_size=8)
    manager.snapshot_create("v@s")
    record: JSON = manager.snapshot_clone("v@s", "c")["Volume"]
    manager.rm("c")
    assert manager.snapshot_info("v@s")[0]["Children"] == []
    return record


def test_a_clone_is_its_parent_s_child_again(
    site: Site, manager: VolumeManager, clone: JSON
) -> None:
    back = manager.undelete("c", new="again")
    assert back["ParentSnapshot"] == "v@s"
    assert manager.snapshot_info("v@s")[0]["Children"] == ["again"]
    with pytest.raises(VolumeInUse, match=r"^Volume snapshot inuse$"):
        manager.snapshot_rm("v@s")
    assert read_marker(manager, name="again") == "parent's\n"
    manager.rm("again", purge=True)
    manager.snapshot_rm("v@s")
    assert_clean(site)


@pytest.mark.parametrize("another", [False, True])
def test_a_clone_outlives_its_parent(
    site: Site, manager: VolumeManager, clone: JSON, another: bool
) -> None:
    manager.snapshot_rm("v@s")
    if another:  # of the same name, and not its parent
        manager.snapshot_create("v@s")
    back = manager.undelete("c")
    assert (back["ParentSnapshot"], back["IsClone"]) == ("", True)
    assert read_marker(manager, name="c") == "parent's\n"
    if another:
        assert manager.snapshot_info("v@s")[0]["Children"] == []
        manager.snapshot_rm("v@s")
    assert_clean(site)


def test_a_failed_undelete_leaves_all_as_it_was(
    site: Site, manager: VolumeManager, clone: JSON, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Local.put_copy

    def full(self: Local, volume: Any, cluster: str, trashed: JSON | None = None) -> None:
        if trashed is None:
            raise NoSpace("The disk is full")
        put(self, volume, cluster, trashed)

    monkeypatch.setattr(Local, "put_copy", full)
    with site.nothing_changes(), pytest.raises(NoSpace):
        manager.undelete("c")
    monkeypatch.setattr(Local, "put_copy", put)
    assert manager.undelete("c")["ParentSnapshot"] == "v@s"
    assert_clean(site)


def test_a_full_disk_keeps_nobody_from_removing(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    create("v", fstype="ext4", mb_size=8)

    def full(self: Local, *args: Any) -> None:
        raise NoSpace("The disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Local, "put_copy", full)
        manager.rm("v")
    assert names(manager) == ["v"]
    assert [f["Kind"] for f in manager.doctor(fix=True)] == ["copy"]
    assert_clean(site)


# -- nodes ---------------------------------------------------------------------------------------


def test_what_is_tied_to_a_node_comes_back_and_goes_there(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    rm_for_a_moment(site, "v")
    other = site.manager("node2")
    assert names(other) == ["v"]
    with site.nothing_changes():
        with pytest.raises(
            NotHere,
            match=f"^v has its data on {NODE}, where no agent is running; undelete it there",
        ):
            other.undelete("v")
        with pytest.raises(
            NotHere, match=f"^v has its data on {NODE}, where no agent is running; purge it there"
        ):
            other.rm("v", purge=True)
    assert [f for f in other.doctor(fix=True) if f["Kind"] == "trash"] == []
    assert names(manager) == ["v"]


@pytest.mark.parametrize("count", [1, 90, 91, 250])
def test_the_data_keys_of_many_nodes_go_and_come(
    site: Site, manager: VolumeManager, create: Create, count: int
) -> None:
    record = create("v")
    data = {"id": record["Id"], "made": False}
    for number in range(count - 1):
        site.store.transact([], [Put(f"data/v/host{number}", data)])
    before = site.values("data/")
    assert len(before) == count
    manager.rm("v")
    assert site.values("data/") == {}
    assert len(entry(site, record["Id"])["Nodes"]) == count
    manager.undelete("v", new="w")
    assert site.values("data/") == {
        key.replace("/v/", "/w/"): value for key, value in before.items()
    }
    manager.rm("w")
    manager.rm("w", purge=True)
    assert len(site.values("purge/")) == count - 1
    assert site.values("trash/") == {} and site.values("data/") == {}


# -- who comes first -----------------------------------------------------------------------------

HOLDS = """
from libstorage.controllers.local import Local
verb, name, arguments = arguments

def held(self, *args):
    print("there", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), 9)

Local.put_copy = Local.destroy = held
getattr(manager, verb)(name, **arguments)
"""


@pytest.mark.parametrize("end", ["alive", "killed", "stopped"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("undelete", {"new": "a"}), ("undelete", {"new": "b"})),
        (("undelete", {"new": "a"}), ("rm", {"purge": True})),
        (("rm", {"purge": True}), ("undelete", {"new": "b"})),
        (("undelete", {}), ("undelete", {"new": "b"})),
    ],
)
def test_one_works_on_a_removed_volume_the_others_wait(
    site: Site, manager: VolumeManager, create: Create, first: Any, second: Any, end: str
) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    write_marker(manager)
    manager.rm("v")
    process = site.python(HOLDS, first[0], "v", first[1])
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "there\n"
    verb = getattr(manager, second[0])
    if end == "alive":
        with site.nothing_changes(), pytest.raises(OperationInProgress, match=r"undelete|purge"):
            verb("v", **second[1], timeout=0.5)
        return
    if end == "stopped":
        process.send_signal(signal.SIGSTOP)
    else:
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait(timeout=20)
    if first[0] == "rm":
        with pytest.raises(NotInTrash):
            verb("v", **second[1])
        assert manager.ls() == []
    elif second[0] == "rm":
        assert verb("v", **second[1])["Id"] == record["Id"]
        assert manager.ls() == []
    else:
        assert verb("v", **second[1])["Name"] == "b"
        assert_intact(manager, name="b")
    assert manager.operations() == []
    assert manager.doctor(fix=True)
    assert_clean(site)


@pytest.mark.parametrize("kind", ["directory", "raw", "ram"])
def test_an_undelete_that_somebody_died_of_is_undone_to_the_copy(
    site: Site, manager: VolumeManager, kind: str
) -> None:
    manager.create("v", Given(**KINDS[kind]))
    write_marker(manager)
    manager.rm("v")
    before = manager.trash_ls()
    for point in range(1, 100):
        pid, pipe = fork_victim(site.config, lambda m: m.undelete("v"), Trap(point, "kill"))
        os.close(pipe)
        if os.WIFEXITED(os.waitpid(pid, 0)[1]):
            break
        with pytest.raises(NotInTrash):
            manager.undelete("v", id="another")  # recovers what is on that name
        if manager.ls():  # it was done
            manager.rm("v")
            break
        assert manager.trash_ls() == before and manager.operations() == []
        assert [f for f in manager.doctor() if f["Kind"] != "owners"] == []
    assert point > 3
    manager.undelete("v")
    assert_intact(manager)


RACES = """
from libstorage.errors import LibstorageError
verb, options = arguments
sys.stdin.readline()
try:
    getattr(manager, verb)("v", **options)
    print("done")
except LibstorageError as exc:
    print(type(exc).__name__)
"""


def test_of_many_at_once_exactly_one_has_it(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    for _ in range(4):
        create("v", fstype="ext4", mb_size=8)
        write_marker(manager)
        manager.rm("v")
        asked = [("undelete", {"new": f"n{n}"}) for n in range(3)]
        asked += [("undelete", {}), ("rm", {"purge": True}), ("rm", {"purge": True})]
        processes = [site.python(RACES, verb, options) for verb, options in asked]
        said = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            out, err = process.communicate(timeout=40)
            assert not err, err
            said.append(out.strip())
        # A purge that comes after the undelete under the old name destroys the volume itself.
        won = said.count("done")
        assert won == 1 or (won == 2 and said[3] == "done" and "done" in said[4:]), said
        assert set(said) <= {"done", "NotInTrash", "NoSuchVolume", "VolumeExists"}
        assert manager.trash_ls() == []
        for row in manager.ls():
            assert_intact(manager, name=row["Name"])
            manager.rm(row["Name"], purge=True)
        manager.doctor(fix=True)
        assert_clean(site)


# -- a lost store --------------------------------------------------------------------------------


def test_a_lost_store_is_made_anew_with_its_trash(site: Site, manager: VolumeManager) -> None:
    for name, kind in KINDS.items():
        manager.create(name, Given(**kind))
        write_marker(manager, text="removed\n", name=name)
        manager.rm(name)
        manager.create(name, Given(**kind))
        write_marker(manager, text="living\n", name=name)
    manager.snapshot_create("ext4@s")
    manager.snapshot_clone("ext4@s", "clone")
    manager.rm("clone")
    before = {prefix: site.values(prefix) for prefix in ("volumes/", "snapshots/", "trash/")}
    manager.close()
    site.lose_store()

    again = site.manager()
    told = again.doctor(rebuild=True)
    assert "clone is in the trash again, as its copy says." in [f["Says"] for f in told]
    for prefix, values in before.items():
        assert site.values(prefix) == values, prefix
    assert again.doctor() == []
    for name, kind in KINDS.items():
        again.undelete(name, new=f"{name}-old")
        if kind["policy"] != "secure":
            assert read_marker(again, name=f"{name}-old").startswith("removed\n")
            assert read_marker(again, name=name).startswith("living\n")
    again.undelete("clone")
    assert again.snapshot_info("ext4@s")[0]["Children"] == ["clone"]
    assert_clean(site)


# -- what cannot be meant ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "../v", "a b", None, 7])
def test_bad_names_are_refused(site: Site, manager: VolumeManager, name: Any) -> None:
    manager.create("v", Given(policy="local"))
    manager.rm("v")
    refused: list[tuple[str, Callable[[], object]]] = [
        ("volume name", lambda: manager.undelete(name)),
        ("volume name", lambda: manager.rm(name, purge=True)),
    ]
    if name is not None:
        refused += [
            ("volume name", lambda: manager.undelete("v", new=name)),
            ("volume Id name", lambda: manager.undelete("v", id=name)),
            ("volume name", lambda: manager.trash_ls(name)),
        ]
    for what, call in refused:
        with site.nothing_changes(), pytest.raises(InvalidInput, match=f"^Not a {what}: "):
            call()


@pytest.mark.parametrize("purge", ["no", 1, None])
def test_purge_is_true_or_false(
    site: Site, manager: VolumeManager, create: Create, purge: Any
) -> None:
    create("v")
    with site.nothing_changes(), pytest.raises(InvalidInput, match=r"^purge must be true or false"):
        manager.rm("v", purge=purge)


def test_what_is_not_in_the_trash_is_named_with_what_is(
    manager: VolumeManager, create: Create
) -> None:
    with pytest.raises(NotInTrash, match=r"^No removed volume: v; the trash is empty$"):
        manager.undelete("v")
    for number in range(trash_module.NAMED + 1):
        create(f"w{number:02}")
        manager.rm(f"w{number:02}")
    with pytest.raises(NotInTrash, match=r"^No removed volume: v; the trash holds: w00, w01, "):
        manager.undelete("v")
    id = manager.trash_ls("w01")[0]["Id"]
    with pytest.raises(NotInTrash, match=rf"^No removed volume: w00 with the Id {id}; .*, \.\.\.$"):
        manager.undelete("w00", id=id)


def test_who_finds_no_room_is_told_of_the_trash(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    create("w", fstype="ext4", mb_size=8)
    manager.snapshot_create("w@s")
    huge = Given(policy="local", fstype="ext4", mb_size=10**8)

    def notes(call: Callable[[], object]) -> list[str]:
        with pytest.raises(NoSpace) as caught:
            call()
        return list(getattr(caught.value, "__notes__", []))

    assert notes(lambda: manager.create("x", huge)) == []
    manager.rm("v")
    told = ["the trash holds up to 8 MB, rm purge=True frees them"]
    assert notes(lambda: manager.create("x", huge)) == told
    assert notes(lambda: manager.resize("w", 10**8)) == told
    memory = Given(policy="ram", mb_size=10**8)
    assert notes(lambda: manager.create("x", memory)) == []
    with pytest.raises(LibstorageError) as caught:
        manager.create("x", Given(policy="ram", mb_size=0))
    assert not getattr(caught.value, "__notes__", [])
