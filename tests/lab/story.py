"""
Stories: a text of commands (``$ ...``) and what they say, compared with what they say now.

What is another one each time is written as a word: TIME, ID, a RATE of megabytes, N. Two lines of a
story are alike, whatever empty lines stand between them.
"""

import re
from collections.abc import Callable
from pathlib import Path

from lab.cli import Said

DAY = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} \d{1,2} \d\d:\d\d:\d\d UTC 20\d\d"
MOMENT = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
CONTAINER = r"\b[0-9a-f]{64}\b|(?<=container )[0-9a-f]{8,}\b"
FAST = r"\d+\.\d MB/s"
LOOP = r'"7:\d+"'
WORDS = (
    *((DAY, "TIME"), (MOMENT, "TIME"), (UUID, "ID"), (CONTAINER, "ID")),
    *((FAST, "RATE MB/s"), (LOOP, '"7:N"')),
    # Some of Docker's clients say it so.
    (r"^(docker: Error response from daemon: .*)\.$", r"\1"),
    (r"^(See|Run) 'docker run --help'.*$", ""),
)

FRONT = r"""
exec 2>&1
docker() {
    if [ "$1" = run ]; then shift; set -- run --network=none "$@"; fi
    command docker "$@" 2>&1
}
rate() {
    awk '/records in/ { bytes = $1 * 4096 }
        /^real/ { seconds = $2 * 60 + $3; if (!seconds) seconds = 0.01 }
        END { rate = bytes / seconds
            if (rate < 1e6) printf "%.0f kB/s\n", rate / 1e3
            else printf "%.1f MB/s\n", rate / 1e6 }'
}
"""
"""What a story asks of bash: containers without a network, and a rate as dd would tell it."""

Run = Callable[[str], Said]
"""Runs a command of the story in a shell, with the errors among what it says."""


class Story:
    """
    A story.

    path
        Its text: a paragraph of introduction, then the commands.
    mounts
        Where volumes are mounted, on each host of the story; MOUNTS in the text.
    """

    def __init__(self, path: Path, *mounts: Path) -> None:
        self._mounts = [str(root) for root in mounts]
        self.lines = _full(path.read_text().partition("\n\n")[2].splitlines())

    def told(self, run: Run) -> list[str]:
        """The story as it is now."""
        lines = []
        for line in self.lines:
            if not line.startswith("$ "):
                continue
            said = run(line.removeprefix("$ ").replace("MOUNTS", self._mounts[0]))
            lines += [line, *said.lines]
            if said.status:
                lines.append(f"exit status {said.status}")
        return _full([self._alike(line) for line in lines])

    def _alike(self, line: str) -> str:
        for root in self._mounts:
            line = line.replace(root, "MOUNTS")
        for pattern, word in WORDS:
            line = re.sub(pattern, word, line)
        return line


def _full(lines: list[str]) -> list[str]:
    return [line for line in lines if line]
