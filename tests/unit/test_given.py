"""What people write in a create request, read into one form."""

import pytest

from libstorage.errors import InvalidInput
from libstorage.manager import Given


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ({}, Given()),
        ({"policy": "", "size": "", "fstype": "", "shared": ""}, Given()),
        ({"size": "100"}, Given(mb_size=100)),
        ({"size": 100}, Given(mb_size=100)),
        ({"shared": "False", "automigrate": "true"}, Given(shared=False, auto_migrate=True)),
        ({"opt": "a=1,b=2"}, Given(options={"a": "1", "b": "2"})),
        (
            {"opt": ["a=1", "b=x=y", {"c": False}]},
            Given(options={"a": "1", "b": "x=y", "c": "false"}),
        ),
        (
            {"opt": {"exec": False, "mode": "0750"}},
            Given(options={"exec": "false", "mode": "0750"}),
        ),
        ({"labels": {"n": 7}}, Given(labels={"n": "7"})),
        ({"labels": "a="}, Given(labels={"a": ""})),
    ],
)
def test_words_come_to_one_form(words: dict[str, object], given: Given) -> None:
    assert Given.of(**words) == given


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"policy": 7}, "policy must be a word, not 7"),
        ({"fstype": ["ext4"]}, "fstype must be a word, not ['ext4']"),
        ({"size": "ten"}, "size must be a whole number of MB, not 'ten'"),
        ({"size": "--5"}, "size must be a whole number of MB, not '--5'"),
        ({"size": "-5"}, "size must be a number of MB from 1 up, not -5"),
        ({"size": "0"}, "size must be a number of MB from 1 up, not 0"),
        ({"shared": "yes"}, "shared must be true or false, not 'yes'"),
        ({"automigrate": 1}, "automigrate must be true or false, not '1'"),
        ({"opt": "a"}, "opt must be KEY=VALUE, not 'a'"),
        ({"opt": "=b"}, "opt must be KEY=VALUE, not '=b'"),
        ({"opt": 7}, "opt must be KEY=VALUE, not '7'"),
        ({"labels": {"a": None}}, "labels holds 'None', which is no text"),
        ({"labels": {"": "x"}}, "labels has a value without a key"),
    ],
)
def test_a_wrong_word_is_named_in_one_sentence(words: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Given.of(**words)
    assert str(caught.value) == says


def test_what_was_given_is_told_apart_from_what_was_left_out() -> None:
    assert Given.of(policy="ram", shared=False, size=None).named() == ["policy", "shared"]
