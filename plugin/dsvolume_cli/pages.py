"""The help of commands, in docker's form."""

import textwrap

from .command import Command
from .commands import COMMANDS, GROUPS, members
from .words import FORMAT, Flag

WIDTH = 80


def usage(program: str, name: str) -> str:
    """The line that says how a command, or a group's, is written."""
    if name in COMMANDS:
        return f"Usage:  {program} {name} [OPTIONS] {COMMANDS[name].usage}".rstrip()
    return f"Usage:  {' '.join(filter(None, (program, name, 'COMMAND')))}"


def page(program: str, name: str) -> str:
    """The whole help of a command, or of a group (``""`` is the whole)."""
    if name in COMMANDS:
        return _command(program, COMMANDS[name])
    return _group(program, name)


def _command(program: str, command: Command) -> str:
    flags = sorted((*command.flags, FORMAT), key=lambda flag: flag.name)
    return "\n".join(
        [usage(program, command.name), "", command.help, "", "Options:", *_options(flags)]
    )


def _options(flags: "list[Flag]") -> "list[str]":
    names = [_name(flag) for flag in flags]
    column = max(map(len, names)) + 3
    lines = []
    for flag, name in zip(flags, names, strict=True):
        default = f'"{flag.default}"' if flag.kind == "string" else flag.default
        help = f"{flag.help} (default {default})" if flag.default else flag.help
        first, *more = textwrap.wrap(help, WIDTH - column, break_on_hyphens=False)
        lines += [name.ljust(column) + first, *(" " * column + line for line in more)]
    return lines


def _name(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    kind = "" if flag.kind == "bool" else f" {flag.kind}"
    return f"  {short}--{flag.name}{kind}"


def _group(program: str, group: str) -> str:
    lines = [usage(program, group), "", GROUPS[group]]
    if not group:
        others = {name: help for name, help in GROUPS.items() if name}
        lines += ["", "Management Commands:", *_listed(others)]
    lines += ["", "Commands:", *_listed(members(group)), ""]
    whole = f"{program} {group}".rstrip()
    return "\n".join([*lines, f"Run '{whole} COMMAND --help' for more information on a command."])


def _listed(commands: "dict[str, str]") -> "list[str]":
    column = max(11, *(len(name) + 1 for name in commands))
    return [f"  {name.ljust(column)} {commands[name]}" for name in sorted(commands)]
