"""The pool that strikes faults ahead tells each case its own, and ends with whoever asked."""

import multiprocessing
from dataclasses import replace

from lab.ahead import Ahead
from lab.faults import Scenario
from lab.scenarios import scenarios_of
from libstorage.manager import VolumeManager

GOOD = scenarios_of("limits")["qos_create"]


def _fail(_: VolumeManager) -> None:
    raise AssertionError("this is bad")


SCENARIOS: dict[str, Scenario] = {
    "good": GOOD,
    "bad": replace(GOOD, name="bad", check=_fail),
    "broken": replace(GOOD, name="broken", act=_fail),
}


def test_each_case_is_told_its_own_failures() -> None:
    cases = [(name, "kill") for name in SCENARIOS]
    with Ahead(SCENARIOS, cases, workers=2, rounds=2) as ahead:
        broken = ahead.struck(("broken", "kill"))
        good = ahead.struck(("good", "kill"))
        bad = ahead.struck(("bad", "kill"))
    assert good.failures == [] and good.jobs >= 4
    assert len(bad.failures) == bad.jobs == good.jobs
    assert all("bad: kill at point" in text and "this is bad" in text for text in bad.failures)
    [failure] = broken.failures
    assert "broken fails without any fault" in failure and not broken.jobs


def test_who_leaves_early_leaves_no_worker() -> None:
    before = multiprocessing.active_children()
    cases = [("good", "kill"), ("bad", "kill"), ("bad", "stop")]
    with Ahead(SCENARIOS, cases, workers=2) as ahead:
        assert not ahead.struck(("good", "kill")).failures
    assert multiprocessing.active_children() == before
