"""Limits on images of Ceph: what they make of the rates, and how soon a change acts."""

import pytest

from lab.rates import RATES, acts_within_a_second, assert_each_limit_is_kept, places
from libstorage.manager import VolumeManager

POLICY = "distributed"


def test_each_limit_is_kept(manager: VolumeManager) -> None:
    with places(manager, len(RATES), POLICY) as found:
        assert_each_limit_is_kept(found)


@pytest.mark.parametrize("change", ["edit", "switch"])
def test_a_change_acts_within_a_second(manager: VolumeManager, change: str) -> None:
    with places(manager, 1, POLICY) as [place]:
        acts_within_a_second(place, change)
