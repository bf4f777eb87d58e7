"""Many Salt processes on one node, one volume: they agree."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkout import configure

from lab.site import NODE, Site, assert_clean

PROCESSES = 8
CALLER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import salt.client
import salt.config

config, function, arguments, keywords = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])
caller = salt.client.Caller(mopts=salt.config.minion_config(config))
caller.cmd("dsvolume.version")
print("ready", flush=True)
time.sleep(max(0, float(sys.stdin.readline()) - time.time()))
try:
    answer = caller.cmd(function, *arguments, **keywords)
except Exception as exc:
    answer = f"{type(exc).__name__}: {exc}"
print(json.dumps(answer))
"""

Together = Callable[..., list[Any]]


@pytest.fixture
def together(site: Site, tmp_path: Path) -> Together:
    """Calls a function in many processes, each with a Caller of its own, at one moment."""
    dsvolume = {"root": str(site.root), "timeout": 20, "capacity": {"near_full": 100}}

    def minion(number: int) -> Path:
        """A configuration each: Salt processes that start together race in a shared cache."""
        return configure(tmp_path / f"minion{number}", NODE, dsvolume) / "minion"

    def call(function: str, *calls: tuple[list[Any], dict[str, Any]]) -> list[Any]:
        callers = [
            site.ends(
                subprocess.Popen(
                    [sys.executable, "-c", CALLER, str(minion(number)), function]
                    + [json.dumps(part) for part in parts],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
            for number, parts in enumerate(calls)
        ]
        for caller in callers:
            assert caller.stdout is not None
            assert caller.stdout.readline() == "ready\n", caller.communicate()
        at = f"{time.time() + 0.1}\n"
        for caller in callers:
            assert caller.stdin is not None
            caller.stdin.write(at)
            caller.stdin.flush()
        said = [caller.communicate(timeout=60) for caller in callers]
        assert all(caller.returncode == 0 for caller in callers), said
        return [json.loads(out) for out, _ in said]

    return call


def test_eight_create_one_name_and_one_creates(site: Site, together: Together) -> None:
    call = (["v"], {"policy": "local", "fstype": "ext4", "size": 8})
    answers = together("dsvolume.create", *[call] * PROCESSES)
    assert answers == [answers[0]] * PROCESSES
    assert answers[0]["Name"] == "v"
    events = site.manager().events()
    assert [(event["Verb"], event["Success"]) for event in events] == [("create", True)]
    assert_clean(site)


def test_eight_sizes_of_one_name_leave_one_and_name_the_difference(
    site: Site, together: Together
) -> None:
    given = {"policy": "local", "fstype": "ext4"}
    sizes = [8 + n for n in range(PROCESSES)]
    answers = together("dsvolume.create", *[(["v"], {**given, "size": size}) for size in sizes])
    [made] = [answer["MBSize"] for answer in answers if isinstance(answer, dict)]
    said = "CommandExecutionError: Volume exists with other options: size"
    assert sorted(answer for answer in answers if isinstance(answer, str)) == sorted(
        f"{said} {made}, asked {size}" for size in sizes if size != made
    )
    assert_clean(site)
