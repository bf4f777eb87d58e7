"""dsvolume-runc until it becomes runc, in whose place a script tells its arguments."""

import json
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest

WRAPPER = Path(__file__).resolve().parents[2] / "plugin/bin/dsvolume-runc"
BOOT = "b007"
FIRST, SECOND = sorted(str(path) for path in Path("/dev").iterdir() if path.is_block_device())[:2]


class Place:
    """A bundle, libstorage's notes, and a runtime."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = folder / "bundle"
        self.run_dir = folder / "run"
        self.config = self.bundle / "config.json"
        (self.run_dir / "attachments").mkdir(parents=True)
        (self.run_dir / "boot-id").write_text(f"{BOOT} kernel\n")
        self.bundle.mkdir()
        self.runtime = folder / "runtime"
        self.runtime.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        self.runtime.chmod(0o755)
        self.log = folder / "log"

    def call(self, *words: str) -> "subprocess.CompletedProcess[str]":
        own = [f"--dsvolume-run-dir={self.run_dir}", f"--dsvolume-runtime={self.runtime}"]
        return subprocess.run(
            [WRAPPER, *own, *words], capture_output=True, text=True, check=False, cwd=self.folder
        )

    def create(self) -> "subprocess.CompletedProcess[str]":
        log = ("--log", str(self.log), "--log-format", "json")
        return self.call(*log, "create", "--bundle", str(self.bundle), "id")

    def volume(self, name: str, shows: str, device: str, boot: str = BOOT) -> str:
        """A volume whose mount point shows something; the mount point."""
        point = self.folder / "mounts" / name
        point.parent.mkdir(exist_ok=True)
        point.symlink_to(shows)
        note = {"Mountpoint": str(point), "Device": device, "BootId": boot}
        self.note(name, json.dumps(note))
        return str(point)

    def note(self, name: str, text: str) -> None:
        (self.run_dir / "attachments" / f"{name}.json").write_text(text)

    def mounts(self, *mounts: tuple[str, str], **more: Any) -> None:
        """A configuration with mounts: source and options."""
        rows = [
            {"source": source, "destination": "/x", "type": "bind", "options": options.split(",")}
            for source, options in mounts
        ]
        self.config.write_text(json.dumps({"mounts": rows, **more}))

    def resources(self) -> Any:
        return json.loads(self.config.read_text())["linux"]["resources"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def rule(path: str, access: str) -> dict[str, Any]:
    number = Path(path).stat().st_rdev
    major, minor = number >> 8, number & 255
    return {"allow": True, "type": "b", "major": major, "minor": minor, "access": access}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--version",
        "--root /r --log /l --log-format=json --systemd-cgroup state id",
        "--root=/r create --bundle /nowhere --pid-file /p id",
        "-debug run -b=/nowhere -- id",
        "kill --all id 9",
        "update -r - id",
        "create id",
    ],
)
def test_arguments_go_on_as_they_are(place: Place, line: str) -> None:
    done = place.call(*line.split())
    assert (done.returncode, done.stdout.split()) == (0, line.split())


@pytest.mark.parametrize("words", [["--bundle", "B"], ["--bundle=B"], ["-b", "B"], ["-b=B"], []])
@pytest.mark.parametrize("command", ["create", "run", "restore"])
def test_the_bundle_is_found_however_it_is_named(
    place: Place, words: list[str], command: str
) -> None:
    place.mounts((place.volume("disk", FIRST, FIRST), "rbind"))
    if not words:
        place.config.rename(place.folder / "config.json")
        place.config = place.folder / "config.json"
    said = [word.replace("B", str(place.bundle)) for word in words]
    done = place.call("--root", "create", command, "--pid-file=/p", *said, "id")
    assert done.stdout.split() == ["--root", "create", command, "--pid-file=/p", *said, "id"]
    assert place.resources()["devices"] == [rule(FIRST, "rw")]


def test_each_device_is_allowed_as_its_mounts_say(place: Place) -> None:
    one, two = place.volume("one", FIRST, FIRST), place.volume("two", SECOND, SECOND)
    before = {"allow": False, "access": "rwm"}
    place.mounts(
        (one, "rbind,ro,rprivate"),
        (two, "rbind,ro"),
        (two, "rbind,rw"),
        linux={"resources": {"devices": [before], "memory": {"limit": 2**63 - 1}}, "a": "é"},
    )
    place.config.chmod(0o640)
    assert place.create().returncode == 0
    resources = place.resources()
    assert resources["devices"] == [before, rule(FIRST, "r"), rule(SECOND, "rw")]
    assert resources["memory"] == {"limit": 2**63 - 1}
    assert json.loads(place.config.read_text())["linux"]["a"] == "é"
    assert place.config.stat().st_mode & 0o777 == 0o640
    assert list(place.bundle.iterdir()) == [place.config]


def test_what_is_absent_or_null_is_made(place: Place) -> None:
    point = place.volume("disk", FIRST, FIRST)
    for linux in ({}, {"linux": None}, {"linux": {"resources": {"devices": None}}}):
        place.mounts((point, "rbind"), **linux)
        assert place.create().returncode == 0
        assert place.resources()["devices"] == [rule(FIRST, "rw")]


def test_containers_without_volumes_keep_every_byte(place: Place) -> None:
    folder = place.folder / "files"
    folder.mkdir()
    place.volume("disk", FIRST, FIRST)
    for source in (FIRST, str(folder), "/nowhere", "disk", "/other/disk", ""):
        place.mounts((source, "rbind"))
        before = place.config.read_bytes()
        assert place.create().returncode == 0
        assert place.config.read_bytes() == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"mounts": 3}', '{"mounts": [3, {"source": 3}]}', "[" * 9999]
)
def test_what_is_no_configuration_is_left_to_runc(place: Place, text: str) -> None:
    place.volume("disk", FIRST, FIRST)
    place.config.write_text(text)
    assert place.create().returncode == 0
    assert place.config.read_text() == text


def test_a_note_of_an_older_boot_counts_for_nothing(place: Place) -> None:
    place.mounts((place.volume("disk", FIRST, FIRST, boot="older"), "rbind"))
    assert place.create().returncode == 0
    assert "linux" not in json.loads(place.config.read_text())


def refused(place: Place) -> str:
    """The container is refused; what the engine then finds in the log."""
    before = place.config.read_text()
    done = place.create()
    assert (done.returncode, done.stdout) == (1, "")
    assert place.config.read_text() == before and list(place.bundle.iterdir()) == [place.config]
    told = json.loads(place.log.read_text())
    assert told["level"] == "error" and told["msg"] in done.stderr
    return str(told["msg"])


def test_another_device_than_the_volumes_is_refused(place: Place) -> None:
    place.mounts((place.volume("disk", FIRST, SECOND), "rbind"))
    assert "volume disk shows the device" in refused(place)


def test_a_note_that_cannot_be_read_is_told(place: Place) -> None:
    place.mounts((place.volume("disk", FIRST, FIRST), "rbind"))
    place.note("disk", "{")
    assert "what the container may do with volume disk" in refused(place)


def test_what_no_engine_writes_is_refused_for_volumes(place: Place) -> None:
    point = place.volume("disk", FIRST, FIRST)
    for linux in (3, {"resources": []}, {"resources": {"devices": {}}}):
        place.log.unlink(missing_ok=True)
        place.mounts((point, "rbind"), linux=linux)
        assert "of a kind that no engine writes" in refused(place)


def test_a_runtime_that_is_not_there_is_named(place: Place) -> None:
    place.runtime.unlink()
    done = place.call("state", "id")
    assert (done.returncode, done.stderr) == (
        1,
        f"dsvolume-runc: {place.runtime} cannot be run: No such file or directory\n",
    )


def test_it_costs_next_to_nothing(place: Place) -> None:
    place.mounts((place.volume("disk", FIRST, FIRST), "rbind"))
    took = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        place.create()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.045
