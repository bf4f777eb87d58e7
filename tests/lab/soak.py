"""
The long runs: the full counts that CI has no time for.

    make soak                     all of them
    make soak ONLY=races N=20     one, with its count

Each prints what it does, and on success writes its result (commit, seed, counts, duration) to
docs/proof/, to be committed.
"""

import json
import os
import platform
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROOF = ROOT / "docs" / "proof"
SHOWN = ("::", " violations", "passed", "failed")
"""What lines of a run say that tell how far it is."""


@dataclass(frozen=True)
class Soak:
    """
    A long run.

    promise
        What it proves.
    count, unit
        How often, unless N says otherwise, and what is counted.
    """

    promise: str
    count: int
    unit: str
    run: Callable[[int, int], dict[str, object]]


def pytest(paths: str, **environment: object) -> dict[str, object]:
    """Run tests, showing them as they go; raises SystemExit where one fails."""
    command = [sys.executable, "-m", "pytest", "-v", "-x", "--timeout=2400", *paths.split()]
    variables = {key: str(value) for key, value in environment.items()}
    told = ["CI=true", *(f"{k}={v}" for k, v in variables.items())]
    print("$", *told, "pytest", paths, flush=True)
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"CI": "true"} | variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout
    last = ""
    for line in child.stdout:
        if line.startswith("E ") or any(word in line for word in SHOWN):
            print(line, end="", flush=True)
        last = line if re.search(r"\d+ passed", line) else last
    if child.wait() or not last:
        raise SystemExit(f"failed: pytest {paths}")
    return {"tests": int(re.search(r"(\d+) passed", last)[1])}  # type: ignore[index]


def faults(group: str, count: int, seed: int) -> dict[str, object]:
    return _struck(
        "tests/functional/faults/test_sweep.py",
        DSVOLUME_GROUP=group,
        DSVOLUME_ROUNDS=count,
    )


def faults_over_etcd(count: int, seed: int) -> dict[str, object]:
    return _struck(
        "tests/functional/faults/test_sweep_etcd.py",
        DSVOLUME_EVERY=1,
        DSVOLUME_ROUNDS=count,
        DSVOLUME_SEED=seed,
    )


def _struck(paths: str, **environment: object) -> dict[str, object]:
    report = _report("faults.txt")
    told = pytest(paths, DSVOLUME_REPORT=report, **environment)
    struck: dict[str, int] = {}
    for line in report.read_text().splitlines():
        action, number = line.split()
        struck[action] = struck.get(action, 0) + int(number)
    return {**told, "faults": struck, "faults in all": sum(struck.values())}


def _report(name: str) -> Path:
    """A file that the tests write what they have seen into."""
    path = ROOT / "build" / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def nodes(count: int, seed: int) -> dict[str, object]:
    report = _report("storm.json")
    told = pytest(
        "tests/functional/nodes/test_storm.py",
        DSVOLUME_SECONDS=count * 60,
        DSVOLUME_SEED=seed,
        DSVOLUME_REPORT=report,
    )
    seen: dict[str, object] = json.loads(report.read_text())
    return {**told, **seen}


def shadow(count: int, seed: int) -> dict[str, object]:
    report = _report("shadow.json")
    told = pytest(
        "tests/system/test_never_shadow.py",
        DSVOLUME_SECONDS=count * 60,
        DSVOLUME_SEED=seed,
        DSVOLUME_REPORT=report,
    )
    seen: dict[str, object] = json.loads(report.read_text())
    return {**told, **seen}


def containers(count: int, seed: int) -> dict[str, object]:
    report = _report("containers.json")
    told = pytest(
        "tests/system/test_containers.py::test_records_engine_and_mount_table_agree[fresh]",
        DSVOLUME_OPERATIONS=count,
        DSVOLUME_SEED=seed,
        DSVOLUME_REPORT=report,
    )
    seen: dict[str, object] = json.loads(report.read_text())
    return {**told, **seen}


def model(count: int, seed: int) -> dict[str, object]:
    return pytest("tests/functional/model", DSVOLUME_EXAMPLES=count, DSVOLUME_SEED=seed)


def states(count: int, seed: int) -> dict[str, object]:
    return pytest(
        "tests/integration/test_states_foretell.py", DSVOLUME_EXAMPLES=count, DSVOLUME_SEED=seed
    )


def races(count: int, seed: int) -> dict[str, object]:
    told: dict[str, object] = {"tests": 0}
    for turn in range(count):
        print(f"round {turn + 1} of {count}", flush=True)
        told = pytest("tests/functional/concurrency")
    return told


def snapshots(count: int, seed: int) -> dict[str, object]:
    return pytest("tests/functional/verbs/test_snapshots_under_load.py", DSVOLUME_SNAPSHOTS=count)


def jobs(count: int, seed: int) -> dict[str, object]:
    return pytest("tests/integration/test_jobs.py", DSVOLUME_NAMES=count)


def rebuild(count: int, seed: int) -> dict[str, object]:
    return pytest("tests/functional/verbs/test_rebuild.py", DSVOLUME_VOLUMES=count)


def ceph(count: int, seed: int) -> dict[str, object]:
    return pytest(
        "tests/system/test_ceph_story.py",
        DSVOLUME_VOLUMES=count,
        DSVOLUME_AWAY=30,
        DSVOLUME_KIB=64,
    )


def faults_on_ceph(count: int, seed: int) -> dict[str, object]:
    return _struck("tests/functional/ceph/test_ceph_sweep.py", DSVOLUME_EVERY=count)


def faults_on_mappers(count: int, seed: int) -> dict[str, object]:
    name = "test_a_death_at_any_point_leaves_no_device_of_the_kernel"
    return _struck(f"tests/system/test_guest.py::{name}", DSVOLUME_EVERY_IN_GUEST=count)


def events(count: int, seed: int) -> dict[str, object]:
    report = ROOT / "build" / "events.jsonl"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    told = pytest(
        "tests/integration/test_events_engine.py", DSVOLUME_EVENTS=count, DSVOLUME_REPORT=report
    )
    return {**told, "figures": [json.loads(line) for line in report.read_text().splitlines()]}


def terraform(count: int, seed: int) -> dict[str, object]:
    return pytest("tests/terraform", DSVOLUME_TERRAFORM=1)


def releases(count: int, seed: int) -> dict[str, object]:
    return pytest("tests/terraform/test_release.py", DSVOLUME_RELEASE=1)


def fresh(count: int, seed: int) -> dict[str, object]:
    releases = []
    for _ in range(count):
        child = subprocess.Popen(
            ["bash", str(ROOT / "tests/lab/fresh.sh")],
            env={"TARGET": "demo test", **os.environ},
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert child.stdout
        for line in child.stdout:
            print(line, end="", flush=True)
            releases += re.findall(r"\b(bookworm|trixie)\b", line)
        if child.wait():
            raise SystemExit("failed: tests/lab/fresh.sh")
    return {"release": sorted(set(releases))}


SOAKS = {
    **{
        f"faults-{group}": Soak(
            f"Every verb on {group}, killed, stopped or orphaned at every point, leaves nothing "
            f"half done",
            20,
            "rounds",
            partial(faults, group),
        )
        for group in ("volumes", "snapshots", "limits", "trash", "nodes")
    },
    "faults-etcd": Soak(
        "Every verb over etcd, killed or stopped at every point, is finished or undone within 30 s "
        "by the agent or another node, and whoever wakes then writes nothing more",
        2,
        "rounds",
        faults_over_etcd,
    ),
    "nodes": Soak(
        "Three nodes over three etcd members: processes, nodes, links and members die, hang and "
        "are cut off, and no update is lost, nothing has two owners, all that was acknowledged is "
        "there",
        40,
        "minutes",
        nodes,
    ),
    "shadow": Soak(
        "etcd, the bridge or both are killed or stopped around each of Docker's calls: no "
        "managed name becomes a local volume, containers get their data or fail with a word, and "
        "all is as before when they are back",
        40,
        "minutes",
        shadow,
    ),
    "containers": Soak(
        "Random operations on containers while the engine and the bridge are killed: within 5 s "
        "records, engine and mount table agree",
        1000,
        "operations",
        containers,
    ),
    "model": Soak(
        "Random verbs, deaths and reboots agree with the model", 400, "sequences, twice", model
    ),
    "states": Soak(
        "Test runs write nothing and foretell the changes of real runs",
        300,
        "examples, twice",
        states,
    ),
    "races": Soak(
        "Eight processes at once: one creates, and all users are counted", 20, "rounds", races
    ),
    "snapshots": Soak(
        "Every clone of a busy database's snapshot is whole",
        100,
        "snapshots on each of three filesystems",
        snapshots,
    ),
    "rebuild": Soak(
        "A lost store is made anew, records and users as before, mounts untouched",
        200,
        "volumes beside snapshots and clones",
        rebuild,
    ),
    "ceph": Soak(
        "Two hosts with Docker on Ceph: the seed's story; an OSD stops for 30 s under load and "
        "nothing is lost; a lost store is made anew under running containers that never notice; "
        "1 MiB at 50,000 B/s and 64 KiB at 2,000 B/s",
        100,
        "volumes under a lost store",
        ceph,
    ),
    "faults-ceph": Soak(
        "Every verb on Ceph, killed at every point, leaves no orphan image, snapshot, clone or "
        "mapping",
        1,
        "of each so many points",
        faults_on_ceph,
    ),
    "faults-mappers": Soak(
        "Every verb that maps an image by krbd or rbd-nbd, killed, leaves no device",
        4,
        "of each so many points",
        faults_on_mappers,
    ),
    "jobs": Soak(
        "Three minions of a master: a job creates each name once, and all answer the same",
        50,
        "names",
        jobs,
    ),
    "events": Soak(
        "An engine, on the master and in a minion, killed in a burst and over restarts of the "
        "master: no event is lost, one batch at most comes again",
        10000,
        "events in each burst",
        events,
    ),
    "terraform": Soak(
        "Four hosts become a Salt cluster; roles change, hosts come, go and die, and no other is "
        "touched",
        1,
        "run",
        terraform,
    ),
    "releases": Soak(
        "Plain hosts with the other Debian release, let in as a user with sudo, become a cluster",
        1,
        "run",
        releases,
    ),
    "fresh": Soak("The README's commands work on the other Debian release", 1, "machine", fresh),
}


def prove(name: str, soak: Soak, count: int, seed: int) -> None:
    """Run one and keep its result."""
    print(f"== {name}: {soak.promise} ({count} {soak.unit})", flush=True)
    begun = time.monotonic()
    told = soak.run(count, seed)
    release = next(
        line.split("=")[1].strip().strip('"')
        for line in Path("/etc/os-release").read_text().splitlines()
        if line.startswith("PRETTY_NAME=")
    )
    result = {
        "promise": soak.promise,
        "commit": _git("rev-parse", "HEAD") + ("+changes" if _changes() else ""),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "count": f"{count} {soak.unit}",
        "seed": seed,
        **told,
        "seconds": round(time.monotonic() - begun),
        "host": f"{release}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores",
    }
    PROOF.mkdir(parents=True, exist_ok=True)
    path = PROOF / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"== {name}: held, {result['seconds']} s; {path.relative_to(ROOT)}", flush=True)


def _git(*argv: str) -> str:
    return subprocess.run(
        ["git", *argv], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def _changes() -> str:
    """What is not committed, but for what these runs themselves have written."""
    return _git("status", "--porcelain", "--", ".", ":!docs/proof")


def main() -> None:
    only = os.environ.get("ONLY")
    if only and only not in SOAKS:
        raise SystemExit(f"ONLY={only} is none of {', '.join(SOAKS)}")
    seed = int(os.environ.get("DSVOLUME_SEED") or random.SystemRandom().randrange(10**9))
    for name in [only] if only else SOAKS:
        prove(name, SOAKS[name], int(os.environ.get("N") or SOAKS[name].count), seed)


if __name__ == "__main__":
    main()
