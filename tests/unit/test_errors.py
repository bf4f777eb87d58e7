"""Errors: one sentence each, whoever made it."""

import inspect

import pytest

from libstorage import errors
from libstorage.errors import CommandFailed, LibstorageError, NoSuchVolume
from libstorage.host.commands import _last_words

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, LibstorageError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_when_it_is_raised(kind: type[LibstorageError]) -> None:
    assert kind.__doc__


def test_an_absent_volume_is_told_in_the_fixed_words() -> None:
    assert str(NoSuchVolume("db")) == "No such volume: db"


@pytest.mark.parametrize(
    ("status", "words", "text"),
    [
        (1, "no room", "mkfs.ext4 failed (exit status 1): no room"),
        (-9, "", "mkfs.ext4 failed (signal 9): it gave no reason"),
    ],
)
def test_a_failed_command_names_itself_its_status_and_its_last_words(
    status: int, words: str, text: str
) -> None:
    error = CommandFailed(("mkfs.ext4", "-q", "/i"), status, words)
    assert str(error) == text
    assert (error.argv[0], error.status, error.words) == ("mkfs.ext4", status, words)


@pytest.mark.parametrize(
    ("wrote", "words"),
    [
        ("", ""),
        ("\n \n", ""),
        ("one\ntwo\n", "two"),
        ("  two  \n\n", "two"),
        (
            "mount: /x: wrong fs type, bad option, bad superblock on /dev/loop0.\n"
            "       dmesg(1) may have more information after failed mount system call.\n",
            "mount: /x: wrong fs type, bad option, bad superblock on /dev/loop0.",
        ),
        ("see dmesg(1)\n", "see dmesg(1)"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_a_command_s_last_words_are_one_line_that_tells_something(wrote: str, words: str) -> None:
    assert _last_words(wrote) == words
