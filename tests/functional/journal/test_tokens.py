"""Whoever has lost the token touches nothing more and undoes nothing."""

import pytest

from lab.site import KEEPS_TRASH, Site, assert_clean
from libstorage.controllers.local import Local
from libstorage.errors import StoreUnavailable, Superseded
from libstorage.manager import Given
from libstorage.manager.journal import undo
from libstorage.store.contract import KeyAbsent, Put

EXT4 = Given(policy="local", fstype="ext4", mb_size=8)


@pytest.fixture
def taken_over(site):
    """An operation of one manager that another has recovered: (held, journal, store)."""
    first, second = site.manager(), site.manager()
    wanted = first.create("v", EXT4, test=True)["Volume"]
    held = first._journal.begin("v", "create", wanted, {}, [KeyAbsent("volumes/v")])
    held.step("create")
    # What a judge sees who finds the owner dead; the owner wakes later.
    second._journal._owners.bury = lambda owned: None
    second._journal.recover(*second._journal.find("v"))
    assert site.values("operations/") == {}
    return held


def test_an_owner_that_wakes_records_no_further_step(taken_over, site):
    with site.nothing_changes(), pytest.raises(Superseded, match="create of v was taken over"):
        taken_over.step("copy")


def test_an_owner_that_wakes_commits_nothing(taken_over, site):
    with site.nothing_changes(), pytest.raises(Superseded):
        taken_over.commit()


def test_an_owner_that_wakes_undoes_nothing(taken_over, site):
    acted = []
    with site.nothing_changes(), pytest.raises(Superseded):
        undo(taken_over, lambda: acted.append("undone"))
    assert acted == []


@pytest.mark.parametrize(
    ("step", "verb"),
    [("destroy", lambda m: m.rm("v", purge=True)), ("grow", lambda m: m.resize("v", 16))],
    ids=["purge", "resize"],
)
def test_an_owner_that_wakes_when_all_is_over_is_told_so(tmp_path, monkeypatch, step, verb):
    """Another has finished the purge or the growth meanwhile, and there is no such volume more."""
    with Site(tmp_path / "site", trash=KEEPS_TRASH) as site:
        first, second = site.manager(), site.manager()
        first.create("v", EXT4)
        if step == "destroy":
            first.rm("v")
        real = getattr(Local, step)

        def late(*args):
            real(*args)
            monkeypatch.setattr(Local, step, real)
            second._journal._owners.bury = lambda owned: None
            second._journal.recover(*second._journal.find("v"))
            if step == "grow":
                second.rm("v", purge=True)

        monkeypatch.setattr(Local, step, late)
        with pytest.raises(Superseded, match="of v was taken over by a recovery"):
            verb(first)
        assert_clean(site)


def test_an_outcome_written_under_the_own_token_is_no_loss(site):
    manager = site.manager()
    wanted = manager.create("v", EXT4, test=True)["Volume"]
    held = manager._journal.begin("v", "create", wanted, {}, [KeyAbsent("volumes/v")])
    entry = site.store.get("operations/v")
    site.store.transact([], [Put(entry.key, {**entry.value, "Outcome": "frozen"})])
    held.step("copy")
    now = site.store.get("operations/v").value
    assert (now["Step"], now["Outcome"]) == ("copy", "frozen")
    held.commit()
    assert_clean(site)


def test_a_lost_store_is_refused_instead_of_answered_from(site):
    manager = site.manager()
    manager.create("v", EXT4)
    manager.close()
    for file in (site.root / "store").iterdir():
        file.unlink()
    for ask in (
        lambda m: m.info("v"),
        lambda m: m.ls(),
        lambda m: m.create("w", EXT4),
        lambda m: m.mount("v"),
    ):
        with pytest.raises(StoreUnavailable, match="store is empty, but this node holds volumes"):
            ask(site.manager())
    [finding] = site.manager().doctor()
    assert (finding["Kind"], finding["Name"], finding["Fixed"]) == ("backend", "v", None)
