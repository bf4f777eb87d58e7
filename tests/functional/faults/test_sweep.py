"""Whoever dies, wherever: the volume is as before or as asked, and nothing is left over."""

import os
from collections.abc import Iterator

import pytest

from lab import faults
from lab.ahead import Ahead
from lab.scenarios import scenarios_of

SCENARIOS = scenarios_of(*os.environ.get("DSVOLUME_GROUP", "").split())
WORKERS = int(os.environ.get("DSVOLUME_WORKERS", "16"))
"""Half of the faults wait until a stopped process counts as gone."""
ROUNDS = int(os.environ.get("DSVOLUME_ROUNDS", "1"))
CASES = [(name, action) for name in SCENARIOS for action in faults.ACTIONS]


@pytest.fixture(scope="module")
def ahead(request: pytest.FixtureRequest) -> Iterator[Ahead]:
    """Strikes the faults of the chosen tests; with the first test it begins the next ones."""
    chosen = [
        (item.callspec.params["name"], item.callspec.params["action"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.getparent(pytest.Module) is request.node
    ]
    with Ahead(SCENARIOS, chosen, workers=WORKERS, rounds=ROUNDS) as made:
        yield made


@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("name", "action"), CASES, ids=[f"{n}-{a}" for n, a in CASES])
def test_fault_at_every_point_leaves_nothing_half_done(ahead: Ahead, name: str, action: str):
    struck = ahead.struck((name, action))
    faults.report({action: struck.jobs})
    failures = struck.failures
    assert not failures, f"{len(failures)} of {struck.jobs} faults:\n" + "\n".join(failures[:5])
    if action != "orphan":
        assert struck.jobs, f"{name} has no point at all"
