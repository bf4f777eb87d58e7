"""
Flags and arguments, as docker's commands take them.

``-z 100``, ``-z=100``, ``-z100``, ``--size 100``, ``--size=100`` are the same; a boolean flag
stands alone (``-m``) or has its value behind ``=`` (``-m=false``); flags and arguments come in any
order, and after ``--`` all is arguments.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

BOOL, NUMBER, TEXT, LIST = "bool", "int", "string", "list"

TRUE = frozenset(("1", "t", "T", "true", "True", "TRUE"))
FALSE = frozenset(("0", "f", "F", "false", "False", "FALSE"))


class WrongUsage(Exception):
    """The command line cannot be meant; nothing was asked of anybody."""


class Flag:
    """
    A flag of a command.

    kind
        BOOL, NUMBER, TEXT or LIST, which may be given several times.
    short
        Its one letter, if any.
    default
        What is shown as the default; the function that is called has it, not the command line.
    older
        A name that it had before.
    argument
        The function's argument; the flag's own name with ``_`` where nothing is said.
    completes
        What may be its value: words, or one of the kinds of ``completion``.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        help: str,
        *,
        short: str = "",
        default: str = "",
        older: str = "",
        argument: str = "",
        completes: "str | tuple[str, ...]" = (),
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.short = short
        self.default = default
        self.older = older
        self.argument = argument or name.replace("-", "_")
        self.completes = ("true", "false") if kind == BOOL else completes

    @property
    def title(self) -> str:
        """The flag as it is named in errors."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"

    @property
    def written(self) -> "list[str]":
        """The ways in which it is written."""
        names = [f"--{name}" for name in (self.name, self.older) if name]
        return [f"-{self.short}", *names] if self.short else names

    def read(self, text: str) -> "bool | int | str":
        """The value that a text stands for. Raises WrongUsage."""
        if self.kind == BOOL:
            if text in TRUE or text in FALSE:
                return text in TRUE
            raise self._wrong(text, "it must be true or false")
        if self.kind == NUMBER:
            digits = text.removeprefix("-")
            if digits.isascii() and digits.isdigit() and len(digits) <= 20:
                return int(text)
            raise self._wrong(text, "it must be a whole number")
        return text

    def _wrong(self, text: str, why: str) -> WrongUsage:
        return WrongUsage(f'invalid argument "{text[:60]}" for "{self.title}" flag: {why}')


HELP = Flag("help", BOOL, "Print usage", short="h")
FORMAT = Flag("format", TEXT, "'json': the answer as one JSON document", completes=("json",))
"""The flags that every command has."""


class Parsed:
    """
    What a command line says.

    given
        The values of the flags that are there, by argument; only these are handed on, so that
        every default stays where it is documented, in the function.
    rest
        The arguments.
    waiting
        The flag whose value is missing at the end.
    """

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.rest: list[str] = []
        self.waiting: Flag | None = None

    def add(self, flag: Flag, text: str) -> None:
        """Take a flag's value. Raises WrongUsage."""
        value = flag.read(text)
        if flag.kind == LIST:
            self.given.setdefault(flag.argument, []).append(value)
        else:
            self.given[flag.argument] = value


def parse(words: "list[str]", flags: "tuple[Flag, ...]") -> Parsed:
    """Read the words behind a command's name. Raises WrongUsage."""
    known = (*flags, FORMAT, HELP)
    names = {name: flag for flag in known for name in (flag.name, flag.older) if name}
    shorts = {flag.short: flag for flag in known if flag.short}
    parsed = Parsed()
    left = iter(words)
    for word in left:
        if word == "--":
            parsed.rest += left
        elif word.startswith("--"):
            name, given, value = word[2:].partition("=")
            if name not in names:
                raise WrongUsage(f"unknown flag: --{name}")
            _take(parsed, names[name], value if given else None, left, f"--{name}")
        elif word.startswith("-") and len(word) > 1:
            _letters(parsed, word, shorts, left)
        else:
            parsed.rest.append(word)
    return parsed


def _letters(parsed: Parsed, word: str, shorts: "dict[str, Flag]", left: "Iterator[str]") -> None:
    """One word of flags of a letter: ``-m``, ``-ms``, ``-z100``, ``-mz=100``."""
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = shorts.get(letter)
        if flag is None:
            raise WrongUsage(f"unknown shorthand flag: '{letter}' in {word}")
        if letters.startswith("="):
            parsed.add(flag, letters[1:])
            return
        if flag.kind != BOOL:
            _take(parsed, flag, letters or None, left, f"'{letter}' in {word}")
            return
        parsed.add(flag, "true")


def _take(
    parsed: Parsed, flag: Flag, value: "str | None", left: "Iterator[str]", where: str
) -> None:
    """A flag's value: beside it, or the next word."""
    if value is None:
        value = "true" if flag.kind == BOOL else next(left, None)
    if value is None:
        parsed.waiting = flag
        raise WrongUsage(f"flag needs an argument: {where}")
    parsed.add(flag, value)
