"""What a master's event bus tells of libstorage, written down by a process that listens."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

LISTENER = """
import json, sys, time
import salt.config, salt.utils.event
opts = salt.config.master_config(sys.argv[1])
with salt.utils.event.get_event("master", opts["sock_dir"], opts=opts, listen=True) as bus:
    print("[]", flush=True)
    while True:
        heard = bus.get_event(wait=5, tag=sys.argv[2], full=True, auto_reconnect=True)
        if heard is not None:
            print(json.dumps([time.time(), heard["tag"], heard["data"]]), flush=True)
"""


@dataclass(frozen=True)
class Heard:
    """An event's record as it arrived: when, under which tag."""

    at: float
    tag: str
    record: dict[str, Any]


class Listener:
    """Listens to tags that begin so until its block ends, over restarts of the master too."""

    def __init__(self, config: Path, file: Path, tag: str = "libstorage/") -> None:
        self._command = [sys.executable, "-c", LISTENER, str(config), tag]
        self._file = file
        self._read = 0
        self._messages: list[tuple[float, str, dict[str, Any]]] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with open(self._file, "wb") as heard:
            self._process = subprocess.Popen(self._command, stdout=heard, stderr=subprocess.DEVNULL)
        until(lambda: self._file.stat().st_size > 0)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def messages(self) -> list[tuple[float, str, dict[str, Any]]]:
        """All that was heard: when, tag, data."""
        with open(self._file, "rb") as heard:
            heard.seek(self._read)
            whole, end, _ = heard.read().rpartition(b"\n")  # the last line may be half written
        self._read += len(whole + end)
        self._messages += [tuple(json.loads(line)) for line in whole.split(b"\n") if len(line) > 2]
        return self._messages

    def records(self) -> list[Heard]:
        """The records of events, those that shared a message each by itself."""
        return [
            Heard(at, tag, record)
            for at, tag, data in self.messages()
            for record in (data["Events"] if tag.endswith("/batch") else [data])
        ]

    def ids(self) -> list[str]:
        return [heard.record["Id"] for heard in self.records()]


def until(reached: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)
