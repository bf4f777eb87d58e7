"""``docker dsvolume events``: Docker's own and libstorage's, as one stream."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.bridge import Bridge
from lab.cli import Cli, plugin_of_docker
from lab.docker import IMAGE, Engine
from lab.live import SECONDS, Live, live
from lab.site import NODE, Site

DRIVER = "dsvolume"
MOMENT = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
RUN = [
    "CONTAINER create",
    "(from libstorage) Mount success",
    "volume mount",
    "CONTAINER start",
    "CONTAINER die",
    "(from libstorage) Unmount success",
    "volume unmount",
    "CONTAINER destroy",
]
"""What ``docker run --rm`` with a volume is, in order."""
LATER = [*RUN[:4], *RUN[5:7], RUN[4], RUN[7]]
"""The same of Docker 26, which tells of the end when it has given back the volumes."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("events")


@pytest.fixture(scope="module")
def engine(place: Path) -> Iterator[Engine]:
    with Engine(place / "engine") as engine:
        yield engine


@pytest.fixture(scope="module")
def bridge(place: Path, engine: Engine) -> Iterator[Bridge]:
    with (
        Site(place / "site") as site,
        Bridge(place / "bridge", site, engine.plugins / f"{DRIVER}.sock", engine.socket) as bridge,
    ):
        engine("volume", "create", "--driver", DRIVER, "--opt=policy=local", "vol")
        yield bridge


@pytest.fixture(scope="module")
def cli(place: Path, bridge: Bridge, engine: Engine) -> Cli:
    return Cli(
        bridge.admin, plugin_of_docker(place / "docker"), DOCKER_HOST=f"unix://{engine.socket}"
    )


def told(lines: list[str], container: str) -> list[str]:
    """What the lines say of a container and of ``vol``, without times and attributes."""
    found = []
    for line in lines:
        text = re.sub(rf"^{MOMENT} ", "", line).partition(" (image=")[0]
        text = re.sub(r"^vol: ", "", text).replace("Unmount[vol]", "Unmount")
        text = re.sub(rf" container {container}", "", text)
        text = re.sub(rf"^container (\w+) {container}.*", r"CONTAINER \1", text)
        text = re.sub(r"^volume (\w+) vol .*", r"volume \1", text)
        found.append(text)
    return [text for text in found if text in RUN]


def run(engine: Engine, *words: str) -> str:
    """A container that uses the volume, from its beginning to its end; its id."""
    id = engine("create", "--network=none", "-v", "vol:/x:nocopy", *words, IMAGE, "true")
    engine("start", "--attach", id)
    engine("rm", id)
    return id


def times(lines: list[str]) -> list[str]:
    return [line.split(" ", 1)[0] for line in lines]


# -- live


def test_both_are_one_stream_in_order_of_time(cli: Cli, engine: Engine) -> None:
    with live(cli) as watching:
        for _ in range(3):
            id = run(engine)
            lines = watching.until(f"container destroy {id}")
        assert times(lines) == sorted(times(lines))
        assert told(lines, id).count("(from libstorage) Mount success") == 3
    with live(cli, "--filter=volume=vol") as watching:
        id = run(engine)
        engine("volume", "inspect", "vol")
        lines = watching.until("volume unmount vol")
        assert all(" vol" in line for line in lines)


def test_a_run_is_told_step_by_step(cli: Cli, engine: Engine) -> None:
    with live(cli) as watching:
        id = run(engine)
        assert told(watching.until(f"container destroy {id}"), id) in (RUN, LATER)


def test_dockers_lines_are_dockers(cli: Cli, engine: Engine) -> None:
    since = str(int(time.time()))
    id = run(engine, "--label=team=web", "--name=named")
    window = (f"--since={since}", f"--until={time.time() + 0.2:.6f}")
    dockers = engine.client("events", *window, TZ="UTC").stdout.splitlines()
    lines = cli("events", *window, "--filter=type=container", "--filter=type=network").lines
    assert lines == [line for line in dockers if " volume " not in line.partition("(")[0]]
    assert any(id in line and "name=named, team=web" in line for line in lines)


def test_it_begins_with_what_happens_then(cli: Cli, engine: Engine) -> None:
    watching = Live(cli, "--filter=type=libstorage")
    try:
        # Nobody is told when it listens: things happen until one is seen.
        end = time.monotonic() + SECONDS
        while watching.come.empty():
            assert time.monotonic() < end
            run(engine)
        lines = watching.until("success")
        assert "(from libstorage)" in lines[0]
    finally:
        os.killpg(watching.process.pid, signal.SIGINT)
        assert watching.process.wait(20) == 130
    assert watching.error() == ""


def test_it_is_interrupted_as_dockers_own(cli: Cli, engine: Engine) -> None:
    """Docker's own ends with 130, too; that of 26.1 only with the next event."""
    with live(cli) as watching:
        run(engine)
        watching.until("(from libstorage) Unmount")
        # Not as a terminal does, which tells both: docker alone is told.
        watching.process.send_signal(signal.SIGINT)
        assert watching.process.wait(20) == 130


def test_it_ends_at_a_time_to_come(cli: Cli, engine: Engine) -> None:
    end = time.time() + 3
    watching = Live(cli, f"--until={end:.3f}")
    id = run(engine)
    assert watching.process.wait(20) == 0
    assert 0 <= time.time() - end < 2
    lines = []
    while (line := watching.come.get(timeout=5)) is not None:
        lines.append(line)
    assert times(lines) == sorted(times(lines))
    assert told(lines, id)[-1:] == ["CONTAINER destroy"]


# -- the past


def test_the_past_is_sorted_exactly(cli: Cli, engine: Engine) -> None:
    id = run(engine)
    lines = cli("events", "--since=10m", "--until=0s").lines
    assert times(lines) == sorted(times(lines))
    mine = [line for line in lines if id in line or "vol: (from libstorage)" in line]
    assert told(mine[-12:], id)[-8:] in (RUN, LATER)
    rows = [json.loads(line) for line in _json(cli, "--since=10m", "--until=0s")]
    assert len(rows) >= len(lines)
    assert {"Type", "Action", "Actor"} <= next(row for row in rows if "Action" in row).keys()
    assert {"Id", "Verb", "Text"} <= next(row for row in rows if "Verb" in row).keys()
    assert cli("events", "--until=2h").lines == []


def _json(cli: Cli, *words: str) -> list[str]:
    said = cli("events", *words, "--format=json")
    assert (said.status, said.err) == (0, "")
    return said.lines


@pytest.fixture(scope="module")
def happened(cli: Cli, engine: Engine) -> tuple[str, list[str]]:
    """A container that was there until its mount was known to be its own; its id, and when."""
    since = f"{time.time():.6f}"
    id = engine("create", "--network=none", "-v", "vol:/x:nocopy", IMAGE, "sleep", "600")
    engine("start", id)
    end = time.monotonic() + SECONDS
    while cli("info", "vol", "--format=json").data()[0]["Containers"] != [f"{id}@{NODE}"]:
        assert time.monotonic() < end
    engine("rm", "--force", id)
    return id, [f"--since={since}", f"--until={time.time():.6f}"]


@pytest.mark.parametrize(
    ("filters", "ours", "dockers"),
    [
        (["type=container"], False, True),
        (["type=libstorage"], True, False),
        (["type=volume"], True, True),
        (["event=mount"], True, True),
        (["event=die"], False, True),
        (["volume=vol"], True, True),
        (["volume=other"], False, False),
        (["container=ID"], True, True),
        (["container=ID", "event=unmount"], True, False),
        (["image=busybox:test"], False, True),
        (["verb=mount"], True, False),
        (["verb=mount", "success=false"], False, False),
        (["event=mount", "event=die"], True, True),
    ],
)
def test_filters_apply_to_both(
    cli: Cli, happened: tuple[str, list[str]], filters: list[str], ours: bool, dockers: bool
) -> None:
    id, window = happened
    words = [f"--filter={text.replace('ID', id)}" for text in filters]
    rows = [json.loads(line) for line in _json(cli, *window, *words)]
    assert any("Verb" in row for row in rows) == ours
    assert any("Action" in row for row in rows) == dockers


# -- where the engine is, and when one of both is not there


def test_the_engine_is_found_as_docker_finds_it(
    cli: Cli, engine: Engine, bridge: Bridge, place: Path
) -> None:
    here = f"unix://{engine.socket}"
    config = str(place / "docker")
    window = ("events", "--since=1h", "--until=0s", "--filter=type=container")
    run(engine)
    subprocess.run(
        ["docker", "--config", config, "context", "create", "lab", f"--docker=host={here}"],
        check=True,
        capture_output=True,
    )
    for flags, env in (
        (["-H", here], {}),
        ([f"--host={here}"], {"DOCKER_HOST": "unix:///nowhere"}),
        ([], {"DOCKER_HOST": here}),
        (["--context", "lab"], {}),
        ([], {"DOCKER_CONTEXT": "lab"}),
    ):
        plain = {k: v for k, v in cli.env.items() if not k.startswith("DOCKER_")} | env
        command = ["docker", "--config", config, *flags, "dsvolume", *window]
        done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "") and "container start" in done.stdout


def test_without_an_engine_libstorages_are_told(cli: Cli, place: Path) -> None:
    for host, why in (
        (f"unix://{place}/none", "No such file or directory"),
        ("tcp://127.0.0.1:9", "Connection refused"),
        ("ssh://host", "this command does not speak ssh"),
    ):
        away = Cli(Path(cli.env["DSVOLUME_SOCKET"]), DOCKER_HOST=host)
        said = away("events", "--since=1h", "--until=0s")
        assert "vol: (from libstorage) Volume create success" in said.out
        sentence = f"the engine of docker does not tell its events: {why}"
        assert said.err == f"docker dsvolume: {sentence}; going on with libstorage's\n"
        assert said.status == 0


def test_a_bridge_that_comes_back_tells_what_was_missed(
    cli: Cli, engine: Engine, bridge: Bridge
) -> None:
    with live(cli, "--filter=type=libstorage") as watching:
        run(engine)
        watching.until("Unmount")
        for end in (bridge.kill, bridge.stop):
            end()
            bridge.start()
            run(engine)
            watching.until("Mount success")
            lines = watching.until("Unmount")
        assert [line.partition("libstorage) ")[2].split()[0] for line in lines] == [
            "Mount",
            "Unmount[vol]",
        ] * 3
        watching.process.terminate()
        watching.process.wait(20)
        assert watching.error().count("going on with what is missing when it is back") == 2


def test_an_engine_that_comes_back_is_heard_again(cli: Cli, engine: Engine) -> None:
    with live(cli, "--filter=type=container") as watching:
        first = run(engine)
        watching.until(f"container destroy {first}")
        engine.kill()
        engine.start()
        end = time.monotonic() + SECONDS
        while "container create" not in watching.lines[-1]:
            assert time.monotonic() < end
            second = engine("create", "--network=none", IMAGE, "true")
            engine("rm", second)
            while not watching.come.empty():
                watching.lines.append(watching.come.get() or "")
        watching.process.terminate()
        watching.process.wait(20)
        assert watching.error().count("does not tell its events") == 1


def test_without_a_bridge_it_says_so(cli: Cli, place: Path) -> None:
    said = Cli(place / "none.sock")("events")
    assert said.status == 1 and "the bridge is not there" in said.err


def test_what_cannot_be_meant(cli: Cli) -> None:
    for words, why in (
        (["--since=yesterday"], "it must be a time"),
        (["--filter=colour=red"], "it must be KEY=VALUE"),
        (["--since=1m", "--until=2m"], "--until must not be before --since"),
        (["more"], "accepts no arguments"),
    ):
        said = cli("events", *words)
        assert said.status == 125 and why in said.err
