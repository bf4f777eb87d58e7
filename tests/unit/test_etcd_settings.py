"""``dsvolume:store`` for etcd: what is taken, and what is refused with which words."""

from pathlib import Path
from typing import Any

import pytest

from libstorage.config import load
from libstorage.errors import ConfigInvalid
from libstorage.store import open_store
from libstorage.store.etcd import EtcdStore
from libstorage.store.etcd_settings import Endpoint, EtcdSettings

ONE = {"kind": "etcd", "endpoints": ["http://10.0.0.1:2379"]}
SECURE = {"kind": "etcd", "endpoints": ["https://10.0.0.1:2379"]}
SECRET = "hunter2hunter2"


def test_the_least_that_is_needed() -> None:
    settings = EtcdSettings.read(ONE)
    assert settings.endpoints == (Endpoint("10.0.0.1", 2379, False),)
    assert (settings.prefix, settings.user, settings.password) == ("/dsvolume", None, None)
    assert settings.context() is None


def test_endpoints_as_people_write_them() -> None:
    given = ["http://a", "http://b:1/", "http://[::1]:2", "http://a:2379"]
    settings = EtcdSettings.read({"kind": "etcd", "endpoints": given})
    assert [str(e) for e in settings.endpoints] == ["http://a:2379", "http://b:1", "http://[::1]:2"]
    assert EtcdSettings.read({"kind": "etcd", "endpoints": "https://a"}).endpoints[0].secure


def test_the_configuration_opens_it_without_a_connection(tmp_path: Path) -> None:
    config = load("node1", {"root": str(tmp_path), "store": {**ONE, "prefix": "/a/b"}})
    store = open_store(config, dict)
    assert isinstance(store, EtcdStore)
    store.close()


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ({"endpoints": ["http://a"]}, "endpoints is no setting of the embedded store; set kind"),
        ({"kind": "embedded", "password": SECRET}, "password is no setting of the embedded store"),
        ({"kind": "consul"}, "store:kind must be embedded or etcd, not 'consul'"),
        ({"kind": None}, "store:kind must be embedded or etcd, not None"),
        ({"kind": ["etcd"]}, r"store:kind must be embedded or etcd, not ['etcd']"),
    ],
)
def test_a_store_that_is_not_meant_is_not_opened(
    tmp_path: Path, store: dict[str, Any], words: str
) -> None:
    config = load("node1", {"root": str(tmp_path), "store": store})
    with pytest.raises(ConfigInvalid) as failure:
        open_store(config, dict)
    assert words in str(failure.value) and SECRET not in str(failure.value)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"endpoints": None}, "endpoints must list the members"),
        ({"endpoints": []}, "endpoints must list the members"),
        ({"endpoints": ["10.0.0.1:2379"]}, "must be of the form http://HOST:PORT"),
        ({"endpoints": [f"http://u:{SECRET}@a:1"]}, "must be of the form http://HOST:PORT"),
        ({"endpoints": ["http://a:99999"]}, "must be of the form"),
        ({"endpoints": ["http://a/path"]}, "must be of the form"),
        ({"endpoints": [5]}, "must be of the form"),
        ({"endpoints": ["http://a", "https://b"]}, "all http:// or all https://"),
        ({"prefix": "dsvolume"}, "prefix must be a path such as /dsvolume"),
        ({"prefix": "/dsvolume/"}, "prefix must be a path"),
        ({"prefix": "/"}, "prefix must be a path"),
        ({"prefix": "/a/v1/b"}, "without a part v1"),
        ({"prefix": None}, "prefix must be a path"),
        ({"prefixes": "/a"}, "store:prefixes is no setting of the etcd store; there are: kind"),
        ({"user": "u"}, "store:password_file is missing"),
        ({"password": SECRET}, "store:user is missing"),
        ({"user": "u", "password": 5}, "store:password must be a text, not int"),
        ({"user": "u", "password": ""}, "store:password must be a text"),
        ({"user": "u", "password": SECRET, "password_file": "/f"}, "drop one"),
        ({"user": "u", "password_file": "relative"}, "a file's absolute path"),
        ({"user": "u", "password_file": "/no/such/file"}, "No such file"),
        ({"ca": "/ca.pem"}, "write https://"),
        ({"cert": "/c.pem"}, "cert and dsvolume:store:key belong together"),
        ({"cert": "/c.pem", "key": "/no/such/key"}, "store:key: /no/such/key: No such file"),
    ],
)
def test_what_cannot_be_meant_is_refused(over: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigInvalid) as failure:
        EtcdSettings.read({**ONE, **over})
    assert words in str(failure.value)
    assert SECRET not in repr(failure.value)


@pytest.mark.parametrize("name", ["password_file", "key"])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o640)
    given = {"user": "u", name: str(file)}
    if name == "key":
        given = {"cert": "/c.pem", name: str(file)}
    with pytest.raises(ConfigInvalid, match="others may read it: chmod 600") as failure:
        EtcdSettings.read({**SECURE, **given})
    assert SECRET not in repr(failure.value)


def test_a_password_comes_from_its_file_and_shows_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    with pytest.raises(ConfigInvalid, match="is empty"):
        EtcdSettings.read({**ONE, "user": "u", "password_file": str(file)})
    file.write_text(SECRET + "\n")
    settings = EtcdSettings.read({**ONE, "user": "u", "password_file": str(file)})
    assert settings.password == SECRET
    assert SECRET not in repr(settings)


def test_certificates_that_are_none_are_told(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(ConfigInvalid, match=r"certificates cannot be used .*check .*ca\.pem"):
        EtcdSettings.read({**SECURE, "ca": str(file)}).context()
    file.write_text("nothing")
    with pytest.raises(ConfigInvalid, match="certificates cannot be used"):
        EtcdSettings.read({**SECURE, "ca": str(file)}).context()
    assert EtcdSettings.read(SECURE).context() is not None
