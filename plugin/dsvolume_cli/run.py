"""From the command line to the exit status."""

import json
import os
import sys

from . import __version__, bridge, show
from .command import Command
from .commands import find
from .words import HELP, Parsed, WrongUsage, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "dsvolume"
DONE, REFUSED, WRONG, INTERRUPTED = 0, 1, 125, 130
"""Exit statuses; 125 is docker's for flags that it does not know."""

DOCKERS = {"--config", "--context", "--host", "--log-level", "--tlscacert", "--tlscert", "--tlskey"}
DOCKERS |= {"-c", "-H", "-l"}
DOCKERS_ALONE = {"-D", "--debug", "--tls", "--tlsverify"}
"""Docker's global flags, with and without a value: they tell where its engine is."""
LONG = {"-c": "--context", "-H": "--host", "-l": "--log-level", "-D": "--debug"}


def run(words: "list[str]") -> int:
    """Do what the words behind the program's name say; returns the exit status."""
    # UTF-8 as all of docker's, whatever the locale.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the answer has enough; Python shall not try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    return status


def _run(words: "list[str]") -> int:
    if words[:1] in (["__complete"], ["__completeNoDesc"]):
        from .completion import complete  # noqa: PLC0415

        print(complete(words[1:], described=words[0] == "__complete"))
        return DONE
    program, dockers, words = _ours(words)
    if words[:1] == ["help"]:
        # As docker's own `help volume create`; and `docker help dsvolume` names us behind it.
        words = [*words[2 if words[1:2] == [NAME] else 1 :], "--help"]
    name, command, rest = find(words)
    if command is None:
        return _group(program, name, rest)
    try:
        parsed = parse(rest, command.flags)
        if parsed.given.pop(HELP.argument, False):
            return _help(program, name)
        form = parsed.given.pop("format", "")
        if form not in ("", "json"):
            raise WrongUsage(f'invalid argument "{form[:60]}" for "--format" flag: it can be json')
        _check(program, command, parsed)
        if command.function == "events":
            # No call with an answer: it goes on.
            from .events import watch  # noqa: PLC0415

            watch(parsed.given, dockers, as_json=bool(form))
            return DONE
    except WrongUsage as exc:
        return _wrong(program, name, str(exc))
    except (bridge.Refused, bridge.NoBridge) as exc:
        return _refused({}, exc)
    return _do(command, parsed, form)


def _ours(words: "list[str]") -> "tuple[str, dict[str, str], list[str]]":
    """How we are called, by docker or by our own name; docker's flags; the words for us."""
    left, given = list(words), {}
    while left and left[0].startswith("-"):
        word, sign, value = left[0].partition("=")
        if not word.startswith("--") and word[:2] in DOCKERS and len(word) > 2:
            word, sign, value = word[:2], "=", left[0][2:].removeprefix("=")
        if word in DOCKERS_ALONE:
            value = value or "true"
        elif word not in DOCKERS:
            break
        elif not sign:
            value = left[1] if len(left) > 1 else ""
            del left[1:2]
        given[LONG.get(word, word).lstrip("-")] = value
        del left[0]
    by_docker = left[:1] == [NAME] or left[:2] == ["help", NAME]
    if left[:1] == [NAME]:
        del left[0]
    return (f"docker {NAME}" if by_docker else f"docker-{NAME}"), given, left


def _check(program: str, command: Command, parsed: Parsed) -> None:
    try:
        command.check(parsed)
    except WrongUsage as exc:
        raise WrongUsage(f"docker: '{program} {command.name}' {exc}") from None


def _do(command: Command, parsed: Parsed, form: str) -> int:
    """Ask the bridge, and say what it answers."""
    args, kwargs = command.ask(parsed)
    about = command.about(parsed)
    try:
        answer = bridge.call(command.function, args, kwargs)
        said = json.dumps(answer) if form else _said(command, about, answer)
    except (bridge.Refused, bridge.NoBridge) as exc:
        return _refused(about, exc)
    if said:
        print(said)
    return DONE


def _refused(about: "dict[str, Any]", exc: Exception) -> int:
    if isinstance(exc, bridge.Refused):
        told = show.compact({**about, "Err": str(exc)})
        print(f"Error response from daemon: {told}", file=sys.stderr)
    else:
        print(f"docker {NAME}: {exc}", file=sys.stderr)
    return REFUSED


def _said(command: Command, about: "dict[str, Any]", answer: "Any") -> str:
    try:
        return command.say(about, answer)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise bridge.NoBridge(
            f"the bridge at {bridge.where()} is of another version than this command, "
            f"{__version__}: its answer cannot be shown ({exc!r}); --format json shows it as it is"
        ) from exc


def _group(program: str, group: str, rest: "list[str]") -> int:
    """No command was named: help, or the sentence that there is no such one."""
    flags = {"--help", "-h", "--help=true"}
    if any(word in flags for word in rest[:1]):
        return _help(program, group)
    whole = f"{program} {group}".rstrip()
    if not rest:
        from .pages import page  # noqa: PLC0415

        print(page(program, group), file=sys.stderr)
        return DONE
    if rest[0].startswith("-"):
        return _wrong(program, group, f"unknown flag: {rest[0]}")
    return _wrong(program, group, f"docker: unknown command: {whole} {rest[0]}")


def _help(program: str, name: str) -> int:
    from .pages import page  # noqa: PLC0415

    print(page(program, name))
    return DONE


def _wrong(program: str, name: str, text: str) -> int:
    from .pages import usage  # noqa: PLC0415

    whole = f"{program} {name}".rstrip()
    print(
        f"{text}\n\n{usage(program, name)}\n\nRun '{whole} --help' for more information",
        file=sys.stderr,
    )
    return WRONG
