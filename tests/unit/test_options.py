"""The options of volumes."""

from typing import Any

import pytest

from libstorage.controllers import options
from libstorage.errors import InvalidInput

KNOWN = {**options.MOUNT, "mode": options.mode}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({}, {}),
        ({"exec": "FALSE"}, {"exec": "false"}),
        ({"suid": "true", "atime": "False"}, {"suid": "true", "atime": "false"}),
        ({"mode": "750"}, {"mode": "0750"}),
        ({"mode": "1777"}, {"mode": "1777"}),
    ],
)
def test_values_are_brought_to_one_form(given: dict[str, str], read: dict[str, str]) -> None:
    assert options.read(given, KNOWN, "ram") == read
    assert options.read(read, KNOWN, "ram") == read


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"colour": "red"}, "Unknown option 'colour' for policy ram; there are suid, dev, exec"),
        ({"exec": "yes"}, "Option exec must be true or false, not 'yes'"),
        ({"exec": ""}, "Option exec must be true or false, not ''"),
        ({"mode": "rwx"}, "Option mode must be a mode in octal, such as 0750, not 'rwx'"),
        ({"mode": "0o750"}, "Option mode must be a mode in octal"),
        ({"mode": "17777"}, "Option mode must be a mode in octal"),
        ({"mode": "750,size=1g"}, "Option mode must be a mode in octal"),
        ({"mode": "750\n"}, "Option mode must be a mode in octal"),
    ],
)
def test_a_wrong_option_is_named_in_one_sentence(given: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        options.read(given, KNOWN, "ram")
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "read"),
    [({"exec": False}, {"exec": "false"}), ({"mode": 750}, {"mode": "0750"})],
)
def test_what_yaml_makes_of_an_unquoted_value_is_understood(
    given: dict[str, Any], read: dict[str, str]
) -> None:
    assert options.read(given, KNOWN, "ram") == read


@pytest.mark.parametrize("value", [None, [], 7, {"a": 1}])
def test_a_value_that_is_no_text_at_all_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^Option exec must be true or false, not "):
        options.read({"exec": value}, KNOWN, "ram")


def test_a_policy_without_options_says_so() -> None:
    with pytest.raises(InvalidInput, match="there are none"):
        options.read({"exec": "true"}, {}, "local")


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ({}, ["nosuid", "nodev"]),
        ({"suid": "true"}, ["nodev"]),
        ({"dev": "true"}, ["nosuid"]),
        ({"exec": "false", "atime": "false"}, ["nosuid", "nodev", "noexec", "noatime"]),
        ({"exec": "true", "atime": "true", "suid": "false"}, ["nosuid", "nodev"]),
    ],
)
def test_set_user_id_and_devices_work_only_where_asked(
    given: dict[str, str], flags: list[str]
) -> None:
    assert options.mount_flags(given) == flags
