"""Edits: labels and protection, decided on the record as it is, told once, copied to the data."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.site import Site, assert_clean
from libstorage.controllers.local import Local
from libstorage.errors import (
    InvalidInput,
    LibstorageError,
    NoSpace,
    NoSuchVolume,
    OperationInProgress,
    VolumeExists,
    VolumeInUse,
)
from libstorage.manager import Given, Request, VolumeManager, read_labels
from libstorage.manager.edits import Edits
from libstorage.store.contract import Put

Create = Callable[..., dict[str, Any]]
Texts = Callable[..., list[str]]
Edit = Callable[[VolumeManager], dict[str, Any]]

KINDS: dict[str, dict[str, Any]] = {
    "directory": {"policy": "local"},
    "ext4": {"policy": "local", "fstype": "ext4", "mb_size": 8},
    "ram": {"policy": "ram", "mb_size": 8},
    "secure": {"policy": "secure", "mb_size": 8},
}
EDITS: dict[str, Edit] = {
    "label": lambda manager: manager.label("v", {"team": "web"}),
    "protect": lambda manager: manager.protect("v"),
    "unprotect": lambda manager: manager.unprotect("v"),
}


def stored(site: Site, name: str = "v") -> dict[str, Any]:
    return site.values("volumes/")[f"volumes/{name}"]


def copies(site: Site) -> list[dict[str, Any]]:
    """The records beside the data."""
    found = [
        path for folder in ("local", "images", "ram") for path in site.root.glob(f"{folder}/*")
    ]
    return [json.loads(path.read_text())["record"] for path in found if path.suffix == ".json"]


def begun(site: Site, verb: str, *, by_the_living: bool, step: str = "destroy") -> None:
    """An operation on v, as a living process elsewhere, or a dead one of this node, leaves it."""
    record = stored(site)
    value = {
        "Volume": "v",
        "Verb": verb,
        "Arguments": record,
        "Owner": site.store.owner() if by_the_living else "nobody",
        "Token": "t",
        "Process": {},
        "Node": "elsewhere" if by_the_living else "node1",
        "Step": step,
        "Started": "2026-01-01T00:00:00Z",
        "Seconds": 600,
    }
    site.store.transact([], [Put("operations/v", value)])


# -- what they do --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_set_changed_and_removed(
    site: Site, manager: VolumeManager, create: Create, texts: Texts, kind: str
) -> None:
    made = create("v", **KINDS[kind], labels={"team": "db", "old": "x"})
    manager.mount("v")
    answer = manager.label("v", {"team": "web", "tier": "1", "old": "", "never": ""})
    assert answer["Labels"] == {"team": "web", "tier": "1"}
    assert answer == {**made, "Labels": answer["Labels"], "Revision": 2} == stored(site)
    assert [v["Name"] for v in manager.ls(["label=tier"])] == ["v"]
    assert texts("v")[-1] == "Volume label success"
    assert copies(site) == [answer]
    manager.unmount("v")
    assert_clean(site)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_protected_is_not_removed(
    site: Site, manager: VolumeManager, create: Create, texts: Texts, kind: str
) -> None:
    made = create("v", **KINDS[kind])
    assert manager.protect("v") == {**made, "Protected": True, "Revision": 2}
    for force in (False, True):
        for test in (False, True):
            with pytest.raises(VolumeInUse) as caught:
                manager.rm("v", force=force, test=test)
            assert str(caught.value) == "Volume is protected: v; unprotect it first"
    manager.mount("v")
    manager.unmount("v")
    assert manager.ls(["protected=true"])[0]["Name"] == "v"
    assert manager.unprotect("v") == {**made, "Revision": 3}
    manager.rm("v")
    told = [text for text in texts("v") if "protect " in text and "failed" not in text]
    assert told == ["Volume protect success", "Volume unprotect success"]
    assert_clean(site)


def test_an_edit_that_changes_nothing_writes_nothing(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", labels={"a": "1"})
    protected = manager.protect("v")
    before = site.store.revision()
    assert manager.protect("v") == protected
    assert manager.label("v", {"a": "1", "b": ""}) == protected
    assert site.store.revision() == before


@pytest.mark.parametrize("edit", ["label", "protect"])
def test_under_test_nothing_is_written_and_the_outcome_told(
    site: Site, manager: VolumeManager, create: Create, edit: str
) -> None:
    create("v", fstype="ext4", mb_size=8)
    arguments = [{"team": "web"}] if edit == "label" else []
    before = site.store.revision()
    foretold = getattr(manager, edit)("v", *arguments, test=True)
    assert site.store.revision() == before
    assert getattr(manager, edit)("v", *arguments) == foretold == stored(site)


@pytest.mark.parametrize("edit", EDITS)
def test_what_is_not_there_cannot_be_edited(
    site: Site, manager: VolumeManager, create: Create, edit: str
) -> None:
    create("other")
    before = site.values()
    with pytest.raises(NoSuchVolume, match=r"^No such volume: v$"):
        EDITS[edit](manager)
    assert site.values() == before


def test_fields_of_a_newer_version_stay(site: Site, manager: VolumeManager, create: Create) -> None:
    create("v")
    site.store.transact([], [Put("volumes/v", {**stored(site), "Colour": "red"})])
    assert manager.label("v", {"a": "1"})["Colour"] == "red" == manager.protect("v")["Colour"]


def test_nodes_of_one_job_edit_once(site: Site) -> None:
    managers = [site.manager(node) for node in ("node1", "node2", "node3")]
    managers[0].create("v", Given(policy="local"))
    job = Request("20260101120000000000")
    answers = [manager.label("v", {"a": "1"}, request=job) for manager in managers]
    answers += [managers[1].unprotect("v", request=job), managers[0].protect("v", request=job)]
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert [e["Verb"] for e in managers[2].events()] == ["create", "label", "protect"]


# -- what they refuse ----------------------------------------------------------------------------

BAD_KEYS = ["", " ", "a b", "-a", "_a", ".a", "a/b", "ü", "a\n", "a" * 64, "a,b"]
BAD_VALUES = ["a,b", "a\nb", "\n", "\t", "\x00", "\x7f", "v" * 256]


@pytest.mark.parametrize(
    "labels", [{}, *({key: "1"} for key in BAD_KEYS), *({"a": value} for value in BAD_VALUES)]
)
def test_a_bad_label_is_refused_by_label_and_create_in_one_sentence(
    site: Site, manager: VolumeManager, create: Create, labels: dict[str, str]
) -> None:
    create("v")
    verbs: list[Callable[[], object]] = [
        lambda: manager.label("v", labels),
        lambda: manager.label("v", labels, test=True),
        lambda: manager.label("v", {"good": "1", **labels}) if labels else manager.label("v", {}),
    ]
    if labels:
        verbs.append(lambda: manager.create("new", Given(policy="local", labels=labels)))
    for verb in verbs:
        before = site.store.revision()
        with pytest.raises(InvalidInput) as caught:
            verb()
        text = str(caught.value)
        assert len(text) < 200 and "\n" not in text
        assert text.startswith(("Not a label: ", "The value of label a must", "label needs at"))
        assert site.store.revision() == before


@pytest.mark.parametrize(
    ("key", "value"), [("a" * 63, "v" * 255), ("0.a_b-c", "Größe = 5 % [x]"), ("A", "'\"\\")]
)
def test_a_good_label_is_kept_as_it_is(
    manager: VolumeManager, create: Create, key: str, value: str
) -> None:
    create("v")
    assert manager.label("v", {key: value})["Labels"] == {key: value}
    assert create("w", labels={key: value})["Labels"] == {key: value}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", ["", "../x", "a b", "a@b", "v" * 129])
def test_a_bad_name_is_refused(manager: VolumeManager, edit: str, name: str) -> None:
    arguments = [{"a": "1"}] if edit == "label" else []
    with pytest.raises(InvalidInput, match="Not a volume name"):
        getattr(manager, edit)(name, *arguments)


def test_labels_are_read_from_what_people_write() -> None:
    assert read_labels("a=1,b=2", ["c=x=y"], {"d": 4, "e": True}, "f=") == {
        "a": "1",
        "b": "2",
        "c": "x=y",
        "d": "4",
        "e": "true",
        "f": "",
    }
    with pytest.raises(InvalidInput, match="labels must be KEY=VALUE, not 'a'"):
        read_labels("a")


# -- create beside label -------------------------------------------------------------------------


def test_create_compares_only_the_labels_that_it_names(
    manager: VolumeManager, create: Create
) -> None:
    create("v", labels={"team": "web"})
    record = manager.label("v", {"tier": "1"})
    for labels in ({"team": "web"}, {"tier": "1"}, {}, {"none": ""}):
        assert create("v", labels=labels) == record
    for labels, words in (
        ({"team": "db"}, "labels team=web, asked team=db"),
        ({"x": "1"}, "labels none, asked x=1"),
        ({"team": ""}, "labels team=web, asked none"),
    ):
        with pytest.raises(VolumeExists, match=words):
            create("v", labels=labels)


def test_an_empty_label_at_create_is_none(create: Create) -> None:
    assert create("v", labels={"a": "", "b": "1"})["Labels"] == {"b": "1"}


# -- beside others -------------------------------------------------------------------------------

LABEL = """
n, at = arguments
time.sleep(max(0, at - time.time()))
print(json.dumps(manager.label("v", {f"key{n}": str(n)})["Revision"]))
"""


@pytest.mark.parametrize("kind", ["ext4", "directory"])
def test_eight_processes_set_labels_at_once_and_all_are_there(
    site: Site, manager: VolumeManager, create: Create, kind: str
) -> None:
    create("v", **KINDS[kind])
    manager.mount("v")
    at = time.time() + 2.5
    processes = [site.python(LABEL, n, at) for n in range(8)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert {err for _, err in answers} == {""}
    assert sorted(int(out) for out, _ in answers) == list(range(2, 10))
    record = stored(site)
    assert record["Labels"] == {f"key{n}": str(n) for n in range(8)}
    assert record["Revision"] == 1 + 8
    assert len(manager.events(filters=["verb=label"])) == 8
    assert copies(site) == [record]
    manager.unmount("v")
    manager.doctor(fix=True)
    assert_clean(site)


def test_a_lost_race_is_never_shown(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is faster three times: the edit is decided anew on what he has left."""
    create("v")
    faster = iter(range(3))
    write = Edits._write

    def slow(self: Edits, *args: Any) -> bool:
        if next(faster, None) is not None:
            record = stored(site)
            labels = {**record["Labels"], "other": str(record["Revision"])}
            moved = {**record, "Labels": labels, "Revision": record["Revision"] + 1}
            site.store.transact([], [Put("volumes/v", moved)])
        return write(self, *args)

    monkeypatch.setattr(Edits, "_write", slow)
    record = manager.label("v", {"mine": "1"})
    assert (record["Labels"], record["Revision"]) == ({"other": "3", "mine": "1"}, 5)


def test_at_the_deadline_it_says_why(
    site: Site, manager: VolumeManager, create: Create, texts: Texts, monkeypatch: Any
) -> None:
    create("v")
    monkeypatch.setattr(Edits, "_write", lambda *_: False)
    with pytest.raises(OperationInProgress, match="v changes faster than this call can protect it"):
        manager.protect("v", timeout=0.2)
    assert texts("v")[-1].startswith("Volume protect failed v changes faster than")


@pytest.mark.parametrize("edit", ["label", "protect"])
def test_an_edit_waits_for_no_operation(
    site: Site, manager: VolumeManager, create: Create, edit: str
) -> None:
    create("v", fstype="ext4", mb_size=8)
    begun(site, "usage", by_the_living=True)
    began = time.monotonic()
    assert EDITS[edit](manager)["Revision"] == 2
    assert time.monotonic() - began < 1
    assert "operations/v" in site.values("operations/")


def test_an_operation_that_ends_during_an_edit_does_not_matter(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: Any
) -> None:
    """And neither does one that begins: only a removal counts."""
    create("v", fstype="ext4", mb_size=8)
    write = Edits._write

    def meanwhile(self: Edits, *args: Any) -> bool:
        monkeypatch.setattr(Edits, "_write", write)
        assert manager.usage("v")[0]["Err"] == ""
        return write(self, *args)

    monkeypatch.setattr(Edits, "_write", meanwhile)
    begun(site, "usage", by_the_living=False)
    assert manager.protect("v")["Protected"] is True
    manager.unprotect("v")
    manager.rm("v")
    manager.doctor(fix=True)
    assert_clean(site)


SLOW_RM = """
from libstorage.controllers.local import Local
destroy = Local.destroy
def slow(*args):
    print("at it", flush=True)
    input()
    destroy(*args)
Local.destroy = slow
print(json.dumps(manager.rm("v")))
"""


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("test", [False, True])
def test_an_edit_of_what_is_being_removed_waits_and_saves_nothing(
    site: Site, manager: VolumeManager, create: Create, edit: str, test: bool
) -> None:
    made = create("v", fstype="ext4", mb_size=8)
    remover = site.python(SLOW_RM)
    assert remover.stdout and remover.stdin
    assert remover.stdout.readline() == "at it\n"
    arguments = [{"team": "web"}] if edit == "label" else []
    with pytest.raises(OperationInProgress, match="v is busy: rm by process"):
        getattr(manager, edit)("v", *arguments, test=test, timeout=0.3)
    errors: list[LibstorageError] = []

    def later() -> None:
        try:
            getattr(manager, edit)("v", *arguments, test=test)
        except LibstorageError as exc:
            errors.append(exc)

    thread = threading.Thread(target=later)
    thread.start()
    time.sleep(0.3)
    assert not errors
    out, err = remover.communicate("\n", timeout=20)
    thread.join(timeout=20)
    assert [str(error) for error in errors] == ["No such volume: v"]
    assert (json.loads(out), err) == (made, "")
    manager.doctor(fix=True)
    assert_clean(site)


def test_a_removal_that_begins_between_look_and_write_is_not_overwritten(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: Any
) -> None:
    create("v", fstype="ext4", mb_size=8)
    write = Edits._write
    outcomes = []

    def late(self: Edits, *args: Any) -> bool:
        remover = site.python(SLOW_RM)
        assert remover.stdout and remover.stdin
        assert remover.stdout.readline() == "at it\n"
        outcomes.append(write(self, *args))
        remover.communicate("\n", timeout=20)
        return outcomes[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Edits, "_write", late)
        with pytest.raises(NoSuchVolume):
            manager.protect("v")
    assert outcomes == [False]
    assert [e["Verb"] for e in manager.events()] == ["create", "rm"]
    manager.doctor(fix=True)
    assert_clean(site)


@pytest.mark.parametrize("edit", EDITS)
def test_what_a_dead_process_was_removing_is_gone(
    site: Site, manager: VolumeManager, create: Create, edit: str
) -> None:
    create("v", fstype="ext4", mb_size=8)
    remover = site.python(SLOW_RM)
    assert remover.stdout
    assert remover.stdout.readline() == "at it\n"
    os.killpg(remover.pid, signal.SIGKILL)
    remover.wait()
    before = site.store.revision()
    arguments = [{"team": "web"}] if edit == "label" else []
    with pytest.raises(NoSuchVolume):
        getattr(manager, edit)("v", *arguments, test=True)
    assert site.store.revision() == before
    with pytest.raises(NoSuchVolume):
        EDITS[edit](manager)
    assert site.values("volumes/") == {} == site.values("operations/")
    manager.doctor(fix=True)
    assert_clean(site)


@pytest.mark.parametrize("test", [True, False])
def test_a_removal_that_died_before_its_first_step_has_left_the_volume(
    site: Site, manager: VolumeManager, create: Create, test: bool
) -> None:
    create("v")
    begun(site, "rm", by_the_living=False, step="")
    assert manager.protect("v", test=test)["Protected"] is True
    assert bool(site.values("operations/")) is test


def test_protected_between_look_and_begin_is_not_removed(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: Any
) -> None:
    create("v", fstype="ext4", mb_size=8)
    other = site.manager("node1")
    begin = manager._journal.begin

    def late(*args: Any, **kwargs: Any) -> Any:
        other.protect("v")
        return begin(*args, **kwargs)

    monkeypatch.setattr(manager._journal, "begin", late)
    with pytest.raises(VolumeInUse, match="Volume is protected: v; unprotect it first"):
        manager.rm("v")
    assert stored(site)["Protected"] is True
    assert copies(site) == [stored(site)]


def test_an_edit_beside_the_first_mount_lets_both_succeed(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: Any
) -> None:
    create("v", fstype="ext4", mb_size=8)
    attach = Local.attach

    def slow(*args: Any) -> Any:
        manager.label("v", {"a": "1"})
        return attach(*args)

    monkeypatch.setattr(Local, "attach", slow)
    assert manager.mount("v")["Changed"] is True
    assert stored(site)["Labels"] == {"a": "1"}
    manager.unmount("v")
    assert_clean(site)


# -- the copy beside the data --------------------------------------------------------------------


def test_a_copy_that_cannot_be_written_lags_until_the_doctor_comes(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: Any
) -> None:
    create("v", fstype="ext4", mb_size=8)

    def full(*_: object) -> None:
        raise NoSpace("no room here")

    with monkeypatch.context() as patch:
        patch.setattr(Local, "put_copy", full)
        assert manager.label("v", {"a": "1"})["Revision"] == 2
    assert copies(site)[0]["Revision"] == 1
    [finding] = manager.doctor(fix=True)
    assert (finding["Kind"], finding["Fixed"]) == ("copy", True)
    assert copies(site) == [stored(site)]
    assert_clean(site)


def test_another_node_s_edit_leaves_the_copy_to_the_node_that_has_the_data(
    site: Site, manager: VolumeManager, create: Create
) -> None:
    create("v", fstype="ext4", mb_size=8)
    other = site.manager("node2")
    assert other.label("v", {"a": "1"})["Revision"] == 2
    assert copies(site)[0]["Revision"] == 1
    manager.doctor(fix=True)
    assert copies(site) == [stored(site)]


def test_a_copy_put_while_the_volume_goes_is_dropped(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: Any
) -> None:
    """Otherwise doctor would take it for a volume that the store has lost."""
    create("v", fstype="ext4", mb_size=8)
    put = Local.put_copy
    other = site.manager("node1")

    def late(self: Local, volume: Any, cluster: str) -> None:
        other.rm("v")
        put(self, volume, cluster)

    monkeypatch.setattr(Local, "put_copy", late)
    manager.label("v", {"a": "1"})
    assert copies(site) == []
    manager.doctor(fix=True)
    assert_clean(site)


def test_a_slower_put_of_an_older_record_is_put_right(
    site: Site, manager: VolumeManager, create: Create, monkeypatch: Any
) -> None:
    create("v", fstype="ext4", mb_size=8)
    put = Local.put_copy
    other = site.manager("node1")

    def late(self: Local, volume: Any, cluster: str) -> None:
        monkeypatch.setattr(Local, "put_copy", put)
        other.protect("v")
        put(self, replace(volume), cluster)

    monkeypatch.setattr(Local, "put_copy", late)
    manager.label("v", {"a": "1"})
    assert copies(site) == [stored(site)]
    assert copies(site)[0]["Revision"] == 3


def test_the_state_of_a_damaged_volume_is_an_edit_too(
    site: Site, manager: VolumeManager, create: Create, texts: Texts
) -> None:
    record = create("v", fstype="ext4", mb_size=8)
    manager.label("v", {"a": "1"})
    image = site.image(record)
    Path(image.parent, f"{record['Id']}.unchecked").touch()
    with open(image, "r+b") as file:
        file.write(bytes(2**20))
    with pytest.raises(LibstorageError):
        manager.mount("v")
    assert (stored(site)["State"], stored(site)["Labels"]) == ("damaged", {"a": "1"})
    assert stored(site)["Revision"] == 3
    assert copies(site) == [stored(site)]
    assert [text.split(" /")[0] for text in texts("v")][:2] == [
        "Volume create success",
        "Volume label success",
    ]
