"""Runs the test layers in order, one pytest each, and says how long each took against its budget.

    layers.py [LAYER...] [-- PYTEST_ARGUMENT...]

A layer without test files is passed over. Under CI=true a skipped test is a failure: there, every
component has to be present. Exit status 0 only if tests ran and none failed.

The tests hold real daemons to times, on machines that may stand still for a moment: the few that
failed run once more by themselves. Who passes then does not fail the run, but is told at its end:
a test that is told again and again, or in two runs, has found something. Random tests draw the same
then (``DSVOLUME_SEED`` is drawn here): what they find by their draw, they find again.
"""

import os
import random
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUDGETS = {"unit": 2, "functional": 30, "integration": 14, "system": 30, "terraform": 15}  # minutes
NO_TESTS_RAN = 5  # pytest's exit status when arguments such as -k leave none
FEW = 5  # more failures than these in a layer are no moment's


def run(layer: str, arguments: list[str]) -> dict[str, int]:
    """Runs one layer; returns how many tests passed, failed and were skipped or unsteady."""
    report = ROOT / "build" / f"tests-{layer}.xml"
    first, failures = pytest(report, f"tests/{layer}", *arguments)
    if not 0 < len(failures) == first["failed"] <= FEW:
        return first
    print(f"\n== {layer}, once more what failed", flush=True)
    again = report.with_name(f"tests-{layer}-again.xml")
    second, still = pytest(again, f"tests/{layer}", "--last-failed", *arguments)
    if second["failed"] != len(still) or second["passed"] + second["failed"] != first["failed"]:
        return first  # it broke off, or ran something else
    steady = [name for name in failures if name not in still]
    if steady:
        print("unsteady, failed and then passed:", *steady, sep="\n   ", flush=True)
    return {
        "passed": first["passed"],
        "failed": second["failed"],
        "skipped": first["skipped"],
        "unsteady": len(steady),
    }


def pytest(report: Path, *arguments: str) -> tuple[dict[str, int], list[str]]:
    """One run of pytest: its counts, and the names of what failed."""
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", f"--junit-xml={report}", *arguments]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    try:
        suites = list(ET.parse(report).iter("testsuite"))
    except (OSError, ET.ParseError):  # pytest itself broke off
        suites = []

    def total(*kinds: str) -> int:
        return sum(int(suite.get(kind, 0)) for suite in suites for kind in kinds)

    failures = [
        f"{case.get('classname')}.{case.get('name')}"
        for suite in suites
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    failed, skipped = total("failures", "errors"), total("skipped")
    passed = max(total("tests") - failed - skipped, 0)
    if status not in (0, NO_TESTS_RAN) and not failed:
        failed = 1
    return {"passed": passed, "failed": failed, "skipped": skipped}, failures


def main(arguments: list[str]) -> int:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    layers, rest = arguments[:cut] or list(BUDGETS), arguments[cut + 1 :]
    unknown = [layer for layer in layers if layer not in BUDGETS]
    if unknown:
        print(f"no such layer: {', '.join(unknown)}; there are {', '.join(BUDGETS)}")
        return 2
    os.environ.setdefault("DSVOLUME_SEED", str(random.SystemRandom().randrange(10**9)))
    sums = {"passed": 0, "failed": 0, "skipped": 0, "unsteady": 0}
    times = []
    for layer in layers:
        if not any((ROOT / "tests" / layer).rglob("test_*.py")):
            continue
        print(f"\n== {layer}", flush=True)
        start = time.monotonic()
        for kind, count in run(layer, rest).items():
            sums[kind] += count
        took, budget = time.monotonic() - start, BUDGETS[layer] * 60
        over = "  OVER BUDGET" if took > budget else ""
        times.append(f"{layer} {took:.1f} s of {budget} s budget{over}")
        print(times[-1], flush=True)
    print("\n== " + ("\n   ".join(times) or "no layer has tests"))
    strict = os.environ.get("CI") == "true" and sums["skipped"] > 0
    if strict:
        print("tests were skipped, and under CI=true that is a failure: their reasons stand above")
    told = {kind: count for kind, count in sums.items() if count or kind in ("passed", "failed")}
    print(", ".join(f"{count} {kind}" for kind, count in told.items()))
    return 1 if sums["failed"] or strict or not sums["passed"] + sums["unsteady"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
