"""What Ceph's words come to."""

import pytest

from libstorage.controllers.rbd_connection import host_of


@pytest.mark.parametrize(
    ("client", "host"),
    [
        ("10.0.0.5:0/3710147553", "10.0.0.5"),
        ("v1:10.0.0.5:0/37", "10.0.0.5"),
        ("v2:10.0.0.5:6800/37", "10.0.0.5"),
        ("[2001:db8::5]:0/37", "2001:db8::5"),
        ("v2:[2001:db8::5]:0/37", "2001:db8::5"),
    ],
)
def test_a_client_s_host_is_in_its_address(client: str, host: str) -> None:
    assert host_of(client) == host
