"""Records: which names there are, and that a record survives JSON and older versions."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstorage.errors import InvalidInput
from libstorage.records import (
    Attachment,
    Event,
    Operation,
    Trashed,
    User,
    Volume,
    check_name,
    in_days,
    now,
)

FIRST = string.ascii_letters + string.digits
REST = FIRST + "_.-"
ALLOWED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")

VOLUME = {
    "Name": "db",
    "Voltype": "ds-local",
    "CreatedBy": "node1",
    "CreatedAt": "2026-01-31T12:00:00.000000Z",
    "Policy": "local",
    "Fstype": "ext4",
    "MBSize": 100,
    "AutoMigrate": False,
    "Shared": True,
    "Id": "11111111-2222-3333-4444-555555555555",
}
SEED_NAMES = (
    "Name,Voltype,CreatedBy,CreatedAt,Policy,Fstype,MBSize,AutoMigrate,Shared,IsClone,"
    "ParentSnapshot,QoSState,QoSProfile"
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.builds(str.__add__, st.sampled_from(FIRST), st.text(REST, max_size=127)))
def test_every_allowed_name_is_accepted(name: str) -> None:
    assert check_name(name) == name


@given(st.text(max_size=140) | st.text(REST, max_size=140))
def test_a_name_is_accepted_exactly_where_the_rule_allows_it(name: str) -> None:
    try:
        accepted = check_name(name) == name
    except InvalidInput:
        accepted = False
    assert accepted == bool(ALLOWED.match(name))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 129,
        "a" * 300,
        "../x",
        "-rf",
        ".hidden",
        "a@b",
        "a/b",
        "a b",
        "a\n",
        "naïve",
        7,
        None,
    ],
)
def test_a_wrong_name_is_told_in_one_short_sentence(name: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_name(name)
    text = str(caught.value)
    assert text.startswith("Not a volume name: ")
    assert "\n" not in text
    assert len(text) < 220


def test_the_error_says_what_was_named() -> None:
    with pytest.raises(InvalidInput, match="Not a user id name: 'a/b'"):
        check_name("a/b", "user id")


def test_a_volume_has_the_names_that_operators_know() -> None:
    data = Volume.from_json(VOLUME).to_json()
    assert ",".join(list(data)[:13]) == SEED_NAMES
    assert data["MBSize"] == 100
    assert (data["State"], data["Revision"], data["Location"]) == ("ok", 1, "near")


@given(st.dictionaries(st.text(min_size=1).filter(lambda k: k not in VOLUME), json_values))
def test_fields_of_a_newer_version_survive_a_round_trip(extra: dict[str, object]) -> None:
    known = Volume.from_json(VOLUME).to_json()
    data = {**known, **{k: v for k, v in extra.items() if k not in known}}
    assert Volume.from_json(data).to_json() == data


def test_users_of_an_attachment_survive_a_round_trip() -> None:
    data = {
        "Volume": "db",
        "Node": "node1",
        "Id": "x",
        "Status": "attached",
        "BootId": "b",
        "Mountpoint": "/m/db",
        "Users": [{"Engine": "docker", "Id": "1", "At": "t", "Colour": "red"}],
        "Shade": "dark",
    }
    attachment = Attachment.from_json(data)
    user = attachment.user("docker", "1")
    assert user is not None
    assert user.count == 1
    assert attachment.user("docker", "2") is None
    written = attachment.to_json()
    assert written["Users"][0]["Colour"] == "red"
    assert written["Shade"] == "dark"
    assert Attachment.from_json(written) == attachment


def test_a_removed_volume_survives_a_round_trip() -> None:
    data = {
        "Volume": {**Volume.from_json(VOLUME).to_json(), "Colour": "red"},
        "At": now(),
        "Until": in_days(7),
        "By": {"user": "root"},
        "Parent": "x",
        "Nodes": {"node1": {"id": "y", "made": True}},
        "Busy": "",
        "Shade": "dark",
    }
    trashed = Trashed.from_json(data)
    assert trashed.to_json() == data
    assert trashed.volume.name == "db"
    assert trashed.state == {key: data[key] for key in ("At", "Until", "By", "Parent")}


def test_times_are_compared_as_texts() -> None:
    assert in_days(-1) < now() < in_days(0.0001) < in_days(1)


@pytest.mark.parametrize("field", ["Name", "Policy", "MBSize", "Id"])
def test_a_record_without_a_field_names_it(field: str) -> None:
    python_name = {"MBSize": "mb_size"}.get(field, field.lower())
    rest = {key: value for key, value in VOLUME.items() if key != field}
    with pytest.raises(ValueError, match=f"Volume without {python_name}"):
        Volume.from_json(rest)


@pytest.mark.parametrize("kind", [Attachment, Event, Operation, User])
def test_an_empty_record_is_refused(kind: type[User]) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} without "):
        kind.from_json({})


def test_a_user_is_shown_by_its_container_where_known() -> None:
    assert User(engine="docker", id="7", at="").who == "docker:7"
    assert User(engine="docker", id="7", at="", container="c1").who == "c1"


def test_times_are_utc_and_sort_as_text() -> None:
    first, second = now(), now()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first)
    assert first <= second
