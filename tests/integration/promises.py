"""What every state promises, as checks: its test run is honest, its refusal changes nothing."""

from typing import Any

from loaded import States
from situations import nothing_is_written

from lab.site import Site


def foretold(states: States, site: Site, function: str, name: str, **args: Any) -> dict[str, Any]:
    """What a test run says, after a check that it wrote nothing and a real run does just that."""
    with nothing_is_written(site):
        test: dict[str, Any] = getattr(states, function)(name, test=True, **args)
    real = getattr(states, function)(name, **args)
    assert (real["result"], real["changes"]) == (True, test["changes"]), real
    assert test["result"] is (None if test["changes"] else True)
    assert real["comment"].endswith(".") and test["comment"].endswith(".")
    again = getattr(states, function)(name, **args)
    assert (again["result"], again["changes"]) == (True, {})
    return test


def refused(
    states: States, site: Site, test: bool, function: str, name: str, **args: Any
) -> dict[str, Any]:
    """A state that is False with a sentence, and has changed nothing."""
    with nothing_is_written(site) if test else site.nothing_changes():
        answer: dict[str, Any] = getattr(states, function)(name, test=test, **args)
    assert (answer["result"], answer["changes"]) == (False, {})
    assert answer["comment"].endswith(".") and not answer["comment"].endswith("..")
    assert "\n" not in answer["comment"]
    return answer
