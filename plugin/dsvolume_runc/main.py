"""From runc's arguments to runc."""

import os
import sys

from .errors import Refused

RUN_DIR = "/run/dsvolume"
MAKES = ("create", "run", "restore")
"""Runc's commands that make a container of a bundle."""
VALUED = ("root", "log", "log-format", "criu", "rootless", "cgroup-manager")
"""Global options whose value may be the next word; runc's, and crun's."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN = "dsvolume-"


class Call:
    """
    One call by an engine.

    words
        All arguments for runc.
    command
        ``create``, ``start`` and so on; "" where there is none.
    options
        The global ones with a value.
    own
        Ours, without ``dsvolume-``; runc does not get them.
    bundle
        The directory of ``config.json``.
    """

    def __init__(self, argv: "list[str]") -> None:
        self.words: list[str] = []
        self.options: dict[str, str] = {}
        self.own: dict[str, str] = {}
        self.command = ""
        rest = self._global(argv)
        self.words += rest
        self.bundle = _value_of(rest[1:], ("bundle", "b")) or "."
        self.run_dir = self.own.get("run-dir", RUN_DIR)

    def _global(self, argv: "list[str]") -> "list[str]":
        """Read what stands before the command; returns the command and what follows it."""
        words = list(argv)
        while words and words[0].startswith("-"):
            word = words.pop(0)
            name, given, value = word.lstrip("-").partition("=")
            if name.startswith(OWN):
                self.own[name.removeprefix(OWN)] = value
                continue
            self.words.append(word)
            if not given and name in VALUED and words:
                value = words.pop(0)
                self.words.append(value)
            self.options[name] = value
        self.command = words[0] if words else ""
        return words


def _value_of(words: "list[str]", names: "tuple[str, ...]") -> str:
    """An option's value, wherever it stands; as Go's flags are written."""
    for number, word in enumerate(words):
        name, given, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name in names:
            return value if given else "".join(words[number + 1 : number + 2])
    return ""


def main(argv: "list[str]") -> int:
    """Become runc; returns only where the container is refused, or there is no runc."""
    call = Call(argv[1:])
    try:
        if call.command in MAKES and os.path.isdir(os.path.join(call.run_dir, "attachments")):
            from .bundle import prepare  # noqa: PLC0415 - most calls do not need it

            prepare(call.bundle, call.run_dir)
        _become(_runtime(call), call.words)
    except Refused as exc:
        _say(call, f"dsvolume-runc: {exc}")
    return 1


def _become(runtime: str, words: "list[str]") -> None:
    try:
        os.execv(runtime, [runtime, *words])
    except OSError as exc:
        raise Refused(f"{runtime} cannot be run: {exc.strerror}") from exc


def _runtime(call: Call) -> str:
    """The real runtime: the one that was named, or the first ``runc`` of the PATH."""
    if named := call.own.get("runtime"):
        return named
    for folder in os.environ.get("PATH", PATH).split(":") + PATH.split(":"):
        path = os.path.join(folder, "runc")
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise Refused(
        "there is no runc in the PATH; install it, or name it (--dsvolume-runtime=PATH among the "
        "runtime's runtimeArgs in /etc/docker/daemon.json)"
    )


def _say(call: Call, text: str) -> None:
    """Tell it as runc would: engines show what they find in its log."""
    print(text, file=sys.stderr)
    log = call.options.get("log")
    if not log or call.options.get("log-format") != "json":
        return
    import json  # noqa: PLC0415
    import time  # noqa: PLC0415

    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps({"level": "error", "msg": text, "time": now}) + "\n")
    except OSError as exc:
        print(f"{log} cannot be written: {exc.strerror}", file=sys.stderr)
