"""States beside others' work: a living owner is waited for, a dead one's work is judged."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from loaded import States
from situations import KINDS, leave_operation, look, nothing_is_written

from lab.site import NODE, Site

BOTH = pytest.mark.parametrize("test", [False, True], ids=["real", "test"])
GIVEN: dict[str, Any] = {"policy": "local", "fstype": "ext4", "mb_size": 8}
EXT4 = KINDS["ext4"]

WORKS = """
from libstorage.controllers.local import Local
verb, name, given, seconds = arguments
method = {"create": "create", "rm": "destroy", "mount": "attach", "unmount": "detach"}[verb]
real = getattr(Local, method)

def slow(*args):
    print("working", flush=True)
    time.sleep(seconds)
    return real(*args)

setattr(Local, method, slow)
manager.create(name, Given(**given)) if verb == "create" else getattr(manager, verb)(name)
print("done", flush=True)
"""


@pytest.fixture
def working(site: Site) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts a process that works on volume v, and goes on for some seconds."""

    def start(verb: str, seconds: float) -> "subprocess.Popen[str]":
        process: subprocess.Popen[str] = site.python(WORKS, verb, "v", GIVEN, seconds)
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        return process

    return start


def ended(process: "subprocess.Popen[str]") -> bool:
    """Did it do its work, and is it through with it by now?"""
    assert process.stdout is not None
    return process.stdout.readline() == "done\n"


# -- the living ----------------------------------------------------------------------------------

WAITED: list[tuple[str, str, dict[str, Any], bool, bool | None]] = [
    # others' verb, state, its arguments, is there a volume before, does the state then change it;
    # None: it is refused
    ("create", "present", EXT4, False, False),
    ("create", "absent", {}, False, True),
    ("create", "mounted", {}, False, True),
    ("create", "unmounted", {}, False, False),
    ("rm", "present", EXT4, True, True),
    ("rm", "absent", {}, True, False),
    ("rm", "unmounted", {}, True, False),
    ("mount", "mounted", {}, True, False),
    ("mount", "unmounted", {}, True, True),
    ("mount", "absent", {}, True, None),
    ("unmount", "absent", {}, True, True),
    ("unmount", "mounted", {}, True, True),
    ("unmount", "unmounted", {}, True, False),
]


@BOTH
@pytest.mark.parametrize(("verb", "function", "arguments", "before", "changes"), WAITED)
def test_a_living_operation_is_waited_for(
    states: States,
    site: Site,
    working: Callable[..., "subprocess.Popen[str]"],
    verb: str,
    function: str,
    arguments: dict[str, Any],
    before: bool,
    changes: bool | None,
    test: bool,
) -> None:
    if before:
        states.present("v", **EXT4)
    if verb == "unmount":
        states.mounted("v")
    other = working(verb, 0.4)
    keys = set(look(site)["values"])
    answer = getattr(states, function)("v", test=test, **arguments)
    assert bool(answer["changes"]) is bool(changes), answer
    assert answer["result"] is (False if changes is None else None if test and changes else True)
    assert ended(other)
    if test:  # What there is more is the other's event, and what he made.
        added = set(look(site)["values"]) - keys
        assert not [key for key in added if key.startswith(("owners/", "operations/"))]
        assert len([key for key in added if key.startswith("events/")]) == 1


FUNCTIONS = ["present", "absent", "mounted", "unmounted"]
BUSY = [(verb, function) for verb in ("create", "rm") for function in FUNCTIONS]
# A volume that is being mounted is present all the while.
BUSY += [(verb, function) for verb in ("mount", "unmount") for function in FUNCTIONS[1:]]


@BOTH
@pytest.mark.parametrize(("verb", "function"), BUSY)
def test_past_the_limit_a_state_is_false_and_names_the_owner(
    states: States,
    site: Site,
    working: Callable[..., "subprocess.Popen[str]"],
    verb: str,
    function: str,
    test: bool,
) -> None:
    if verb != "create":
        states.present("v", **EXT4)
    if verb == "unmount":
        states.mounted("v")
    other = working(verb, 30)
    arguments = EXT4 if function == "present" else {}
    with nothing_is_written(site) if test else site.nothing_changes():
        answer = getattr(states, function)("v", test=test, timeout=0.3, **arguments)
    assert (answer["result"], answer["changes"]) == (False, {})
    assert f"by process {other.pid} on {NODE}" in answer["comment"]
    assert answer["comment"].endswith(".") and "\n" not in answer["comment"]


# -- the dead ------------------------------------------------------------------------------------

LEFT: dict[str, tuple[str, str, bool]] = {
    # verb, kind of volume, is it there once the operation is recovered
    "create": ("create", "ext4", False),
    "create of a directory": ("create", "directory", False),
    "rm begun": ("rm", "ext4", False),
    "rm not begun": ("rm", "directory", True),  # which has nothing but its record
    "usage": ("usage", "ext4", True),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("left", LEFT)
def test_a_dead_owners_work_is_judged_as_recovery_leaves_it(
    states: States, site: Site, left: str, function: str
) -> None:
    verb, kind, there = LEFT[left]
    declared = KINDS[kind]
    if verb != "create":
        states.present("v", **declared)
    given = {**declared}
    if size := given.pop("size", None):
        given["mb_size"] = size
    leave_operation(site, verb, "v", **given)
    arguments = declared if function == "present" else {}
    with nothing_is_written(site):
        foretold = getattr(states, function)("v", test=True, **arguments)
    results = {"present": True, "absent": None, "mounted": None, "unmounted": True}
    if not there:
        results |= {"present": None, "absent": True, "mounted": False}
    assert foretold["result"] is results[function], foretold
    real = getattr(states, function)("v", **arguments)
    assert real["changes"] == foretold["changes"]
    assert real["result"] is (foretold["result"] is not False)
    assert states.unmounted("v")["result"] is True
    assert states.absent("v")["result"] is True
    assert site.values("operations/") == site.values("volumes/") == {}
    assert (site.loops(), site.mounted()) == ({}, [])
    assert not [path for path in site.listing() if path.startswith(("images/", "local/"))]
