"""What the bridge reads of an engine's answers."""

from datetime import UTC, datetime

import pytest

from dsvolume_bridge.engine import _instant


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T13:17:18.838400096Z", datetime(2026, 11, 24, 13, 17, 18, 838400, UTC)),
        ("2026-11-24T13:17:18.5Z", datetime(2026, 11, 24, 13, 17, 18, 500000, UTC)),
        ("2026-11-24T13:17:18Z", datetime(2026, 11, 24, 13, 17, 18, 0, UTC)),
        ("0001-01-01T00:00:00Z", None),
    ],
)
def test_times_are_read_to_the_microsecond(text: str, moment: datetime | None) -> None:
    """A container that is restarted ends and mounts again within one second."""
    assert _instant(text) == moment
