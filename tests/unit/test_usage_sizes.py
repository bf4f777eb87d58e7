"""Sizes as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstorage.host.usage import SIZES, human

SIZES_IN_BYTES = st.integers(0, 2**63)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (1, "0.1K"),
        (512, "0.5K"),
        (1024, "1K"),
        (12 * 1024, "12K"),
        (15 * 1024, "15K"),
        (1536 * 1024, "1.5M"),
        (10 * 1024 - 1, "10K"),
        (100 * 2**20, "100M"),
        (100 * 2**20 + 1, "101M"),
        (2**30, "1G"),
        (5 * 2**40, "5T"),
        (2**63, "8E"),
    ],
)
def test_a_size_reads_as_in_the_examples(size: int, text: str) -> None:
    assert human(size) == text


def bytes_of(text: str) -> float:
    if text == "0":
        return 0
    return float(text[:-1]) * 1024 ** (SIZES.index(text[-1]) + 1)


@given(SIZES_IN_BYTES)
def test_nothing_looks_smaller_than_it_is_nor_much_larger(size: int) -> None:
    shown = bytes_of(human(size))
    # a float holds 53 bits: beyond, the last bytes do not count
    assert shown >= size * (1 - 1e-12)
    assert shown <= max(size * 1.1, size + 103)


@given(SIZES_IN_BYTES, SIZES_IN_BYTES)
def test_a_larger_size_never_looks_smaller(one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert bytes_of(human(small)) <= bytes_of(human(large))


@given(SIZES_IN_BYTES)
def test_a_size_is_at_most_five_characters(size: int) -> None:
    assert len(human(size)) <= 5
