"""
The stage of the demo: a host with a configuration and a state of its own, the commands that are
shown with their answers, and the checks on them.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SALT_CALL = ROOT / ".venv/bin/salt-call"
LIMIT = 90.0  # seconds that one command may take
HELP = 12  # lines of a refused call's answer that are shown: Salt may add the function's help

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
BOLD, DIM, RED, GREEN = ("1", "2", "31", "32")


def paint(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if COLOUR else text


def say(text: str = "") -> None:
    print(text, flush=True)


class Unexpected(Exception):
    """Something was not as the story says."""


def expect(holds: object, what: str) -> None:
    """Show a check that holds; raise Unexpected for one that does not."""
    if not holds:
        raise Unexpected(what)
    say(paint(f"  ok: {what}", GREEN))


class Answer:
    """What a command said, and checks on it that show themselves."""

    def __init__(self, command: str, status: int, out: str, err: str) -> None:
        self.command = command
        self.status = status
        self.text = out + err
        self._out = out

    def exits(self, status: int) -> "Answer":
        if self.status != status:
            last = (self.text.strip().splitlines() or ["it said nothing"])[-1 if status else 0]
            raise Unexpected(f"{self.command}: exit status {status}, not {self.status} ({last})")
        return self

    def says(self, *texts: str) -> "Answer":
        for text in texts:
            if text not in self.text:
                raise Unexpected(f"{self.command}: an answer with {text!r}")
            say(paint(f"  ok: says {text!r}", GREEN))
        return self

    def has(self, **fields: Any) -> "Answer":
        """Fields of the JSON answer (of the only one, where it is a list)."""
        answer = self.data()
        record = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
        if not isinstance(record, dict):
            raise Unexpected(f"{self.command}: one record, not {answer!r}")
        for field, value in fields.items():
            if record.get(field) != value:
                was = record.get(field)
                raise Unexpected(f"{self.command}: {field} is {value!r}, not {was!r}")
        shown = ", ".join(f"{field} {json.dumps(value)}" for field, value in fields.items())
        say(paint(f"  ok: {shown}", GREEN))
        return self

    def data(self) -> Any:
        try:
            return json.loads(self._out)["local"]
        except (ValueError, KeyError, TypeError):
            raise Unexpected(f"{self.command}: a JSON answer") from None


class Host:
    """Commands on this host, with the demo's own configuration; and what they may leave behind."""

    def __init__(self) -> None:
        (ROOT / "build").mkdir(exist_ok=True)
        self.root = Path(tempfile.mkdtemp(prefix="demo-", dir=ROOT / "build"))
        self.state = self.root / "dsvolume"
        self.mounts = self.state / "mounts"
        self.saltfile = self.root / "Saltfile"
        self.children: list[subprocess.Popen[str]] = []
        self.environment = {**os.environ, "SALT_SALTFILE": str(self.saltfile), "LC_ALL": "C.UTF-8"}

    def configure(self) -> None:
        """etc/minion with other directories, and not minding a full disk; nothing else differs."""
        text = (ROOT / "etc/minion").read_text()
        own = str(self.root.relative_to(ROOT))
        # Named, so that not even /etc/dsvolume/config.yaml leads anywhere else.
        places = f"dsvolume:\n  run_dir: {own}/dsvolume/run\n  mount_root: {own}/dsvolume/mounts\n"
        places += "  capacity: {near_full: 100}\n"
        derived = text.replace(".state", own).replace("dsvolume:\n", places, 1)
        if derived.count(own) < 4:
            raise Unexpected("etc/minion keeps its state below .state")
        (self.root / "etc").mkdir()
        (self.root / "etc/minion").write_text(derived)
        self.saltfile.write_text(f"salt-call:\n  local: True\n  config_dir: {self.root}/etc\n")

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start salt-call in the repository root, as an operator in the checkout would."""
        say(paint(f"$ salt-call --local {shlex.join(arguments)}", BOLD))
        process = subprocess.Popen(
            [str(SALT_CALL), "--local", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.children = [process]
        return process

    def salt(self, *arguments: str, status: int = 0) -> Answer:
        """Run salt-call, show what it answers and check its exit status."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise Unexpected(f"{arguments[0]} ends within {LIMIT:.0f} s") from None
        lines = [line for line in [*err.splitlines(), *out.splitlines()] if line.strip()]
        if status and len(lines) > HELP:
            lines = [*lines[:HELP], f"... and {len(lines) - HELP} more lines of help"]
        for line in lines:
            say(line)
        answer = Answer(" ".join(arguments), process.returncode, out, err)
        return answer.exits(status)

    def shell(self, command: str) -> Answer:
        """Run a plain command, as an application or a container would."""
        say(paint(f"$ {command}", BOLD))
        done = subprocess.run(
            command,
            shell=True,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        for line in (done.stdout + done.stderr).splitlines():
            say(line)
        return Answer(command, done.returncode, done.stdout, done.stderr).exits(0)

    # -- what there is on the host because of the demo

    def mounted(self) -> list[str]:
        """Mount points below the demo's directory, the innermost first."""
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            points = [line.split(" ")[4] for line in file]
        return [point for point in reversed(points) if Path(point).is_relative_to(self.root)]

    def loops(self) -> list[str]:
        """Loop devices on files of the demo."""
        found = []
        for file in Path("/sys/block").glob("loop*/loop/backing_file"):
            with suppress(OSError):  # freed just now
                if str(self.root) in file.read_text():
                    found.append(f"/dev/{file.parts[3]}")
        return found

    def processes(self) -> Iterator[tuple[int, str]]:
        """Commands that dsvolume has begun on the demo's files; a killed salt-call leaves them."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                ours = str(self.root).encode() in command
                if ours and b"DSVOLUME_TOKEN=" in (folder / "environ").read_bytes():
                    yield int(folder.name), command.split(b"\0")[0].decode(errors="replace")

    def files(self) -> list[str]:
        """Files of volumes in the demo's state; store, boot id and profiles are nobody's data."""
        kept = ("store", "run", "profiles")
        return sorted(
            str(path.relative_to(self.state))
            for path in self.state.rglob("*")
            if path.relative_to(self.state).parts[0] not in kept
            and not (path.is_dir() and path.parent == self.state)
        )

    def clear(self) -> list[str]:
        """Take all of the demo from the host, also after a failure; says what would not go."""
        for child in self.children:
            child.kill()
            child.wait()
        for pid, _ in list(self.processes()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 10
        while any(self.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        for point in self.mounted():
            _quietly("umount", point)
        for device in self.loops():
            _quietly("losetup", "--detach", device)
        if self.mounts.is_dir():  # a bare mount point is immutable
            _quietly("chattr", "-R", "-i", str(self.mounts))
        if not self.mounted():
            shutil.rmtree(self.root, ignore_errors=True)
        return [
            *(f"the mount {point}" for point in self.mounted()),
            *(f"the loop device {device}" for device in self.loops()),
            *(f"the process {pid} ({name})" for pid, name in self.processes()),
            *([f"the directory {self.root}"] if self.root.exists() else []),
        ]


def _quietly(*command: str) -> None:
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, capture_output=True, check=False, timeout=LIMIT)


# -- the story, chapter by chapter
