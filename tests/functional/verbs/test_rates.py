"""What a limit makes of a real device's rates, measured; within 5 % of what was said."""

import pytest

from lab.rates import (
    CLOSE,
    RATES,
    acts_within_a_second,
    assert_each_limit_is_kept,
    at_once,
    places,
    written_buffered,
)
from lab.site import Site

BUFFERED = [200_000, 500_000, 2_000_000]


def test_direct_reads_and_writes_keep_to_each_limit(site: Site) -> None:
    with places(site.manager(), len(RATES)) as found:
        assert_each_limit_is_kept(found)


def test_buffered_writes_reach_the_device_at_the_limit(site: Site) -> None:
    with places(site.manager(), len(BUFFERED)) as volumes:
        found = at_once(volumes, written_buffered, BUFFERED)
        assert [share for share in found if abs(share - 1) > CLOSE] == [], found


@pytest.mark.parametrize("change", ["edit", "apply", "disable", "switch"])
def test_a_change_acts_within_a_second(site: Site, change: str) -> None:
    with places(site.manager(), 1) as [place]:
        acts_within_a_second(place, change)
