"""One line an entry, whatever is in it."""

import json
import logging
import sys

import pytest

from dsvolume_bridge.logs import About, Json, Logfmt


def entry(text: str, exc_info: bool = False, **known: object) -> logging.LogRecord:
    about = About(text, **known)
    record = logging.LogRecord("dsvolume_bridge.driver", logging.INFO, "", 0, about, (), None)
    record.created = 1_700_000_000.25
    record.exc_info = sys.exc_info() if exc_info else None
    return record


def test_a_line_has_its_facts_as_words() -> None:
    record = entry("Mount done", volume="db", mount=None, seconds=0.25, path="/a/b", says="a b")
    assert Logfmt().format(record) == (
        'time=2023-11-14T22:13:20.250Z level=info from=driver msg="Mount done" '
        'volume=db seconds=0.25 path=/a/b says="a b"'
    )


@pytest.mark.parametrize("value", ["", "a\nb", 'say "a"', "a=b", "ä ö", "\x1b[0m", "a\\b"])
def test_whatever_stands_in_a_fact_stays_one_word(value: str) -> None:
    line = Logfmt().format(entry("x", volume=value))
    quoted = line.partition("volume=")[2]
    assert "\n" not in line and json.loads(quoted) == value


def test_an_object_has_them_too() -> None:
    try:
        raise ValueError("no\nway")
    except ValueError:
        line = Json().format(entry("failed", exc_info=True, volume="a\nb"))
    assert "\n" not in line
    said = json.loads(line)
    assert said["volume"] == "a\nb" and said["level"] == "info"
    assert said["trace"].endswith("ValueError: no\nway")
