"""
The settings of the etcd store: ``dsvolume:store`` where ``kind`` is ``etcd``.

A password is given by ``password_file``, by Salt's sdb, or plainly where the configuration itself
is private. It appears in no error and in no repr.
"""

import os
import re
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigInvalid

PREFIX = "/dsvolume"
PORT = 2379

_PREFIX = re.compile(r"(/[a-zA-Z0-9_.-]+)+")
_NAMES = (
    "kind",
    "endpoints",
    "prefix",
    "ca",
    "cert",
    "key",
    "user",
    "password",
    "password_file",
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one member of the cluster answers."""

    host: str
    port: int
    secure: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.secure else ''}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """
    How the cluster is reached.

    endpoints
        Members, any of which serves.
    prefix
        What all keys begin with; clusters with different ones do not see each other.
    ca, cert, key
        Files: who has signed the members' certificates (None: whom the system trusts), and this
        node's own certificate.
    user, password
        None where etcd asks for none.
    """

    endpoints: tuple[Endpoint, ...]
    prefix: str = PREFIX
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "EtcdSettings":
        """Check ``dsvolume:store``. Raises ConfigInvalid, naming the setting."""
        if unknown := sorted(set(given) - set(_NAMES)):
            raise ConfigInvalid(
                f"dsvolume:store:{unknown[0]} is no setting of the etcd store; there are: "
                + ", ".join(_NAMES)
            )
        user = _text(given, "user")
        password = _password(given)
        if (user is None) != (password is None):
            missing = "user" if user is None else "password_file"
            raise ConfigInvalid(
                f"dsvolume:store:{missing} is missing: user and password belong together (one that "
                f"Salt did not find in its sdb counts as none)"
            )
        endpoints = _endpoints(given.get("endpoints"))
        ca, cert, key = (_file(given, name) for name in ("ca", "cert", "key"))
        if (cert is None) != (key is None):
            raise ConfigInvalid("dsvolume:store:cert and dsvolume:store:key belong together")
        if key is not None:
            _private("key", key)
        if not endpoints[0].secure and (ca or cert):
            raise ConfigInvalid(
                "dsvolume:store has certificates, but its endpoints begin with http://: "
                "write https://"
            )
        return cls(endpoints, _prefix(given), ca, cert, key, user, password)

    def context(self) -> ssl.SSLContext | None:
        """What TLS connections are made with, None for plain ones."""
        if not self.endpoints[0].secure:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                # Without this an encrypted key would ask for its password on the terminal.
                context.load_cert_chain(self.cert, self.key, password=lambda: "")
        except (OSError, ValueError) as exc:  # an SSLError is an OSError
            files = ", ".join(str(file) for file in (self.ca, self.cert, self.key) if file)
            raise ConfigInvalid(
                f"dsvolume:store: the certificates cannot be used ({exc}): check {files}"
            ) from exc
        return context


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        # Not its value, which may be a password.
        raise ConfigInvalid(f"dsvolume:store:{name} must be a text, not {type(value).__name__}")
    return value


def _endpoints(value: Any) -> tuple[Endpoint, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values:
        raise ConfigInvalid(
            "dsvolume:store:endpoints must list the members of the etcd cluster, such as "
            "[http://10.0.0.1:2379]"
        )
    endpoints = tuple(dict.fromkeys(_endpoint(value) for value in values))
    if len({endpoint.secure for endpoint in endpoints}) > 1:
        raise ConfigInvalid("dsvolume:store:endpoints are to be all http:// or all https://")
    return endpoints


def _endpoint(value: Any) -> Endpoint:
    try:
        url = urlsplit(value if isinstance(value, str) else "")
        port = url.port or PORT
        plain = not (url.username or url.password or url.query or url.fragment)
        if url.scheme in ("http", "https") and url.hostname and plain and url.path in ("", "/"):
            return Endpoint(url.hostname, port, url.scheme == "https")
    except ValueError:
        pass
    # Not its value: somebody may have written a password into it.
    raise ConfigInvalid(
        "dsvolume:store:endpoints must be of the form http://HOST:PORT or https://HOST:PORT"
    )


def _prefix(given: Mapping[str, Any]) -> str:
    prefix = given.get("prefix", PREFIX)
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix) or "v1" in prefix.split("/"):
        # Keys are below <prefix>/v1/: a prefix with such a part could lie within another's keys.
        raise ConfigInvalid(
            f"dsvolume:store:prefix must be a path such as {PREFIX}, without a part v1, "
            f"not {prefix!r}"
        )
    return prefix


def _file(given: Mapping[str, Any], name: str) -> Path | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str | Path) or not os.path.isabs(value):
        raise ConfigInvalid(f"dsvolume:store:{name} must be a file's absolute path")
    return Path(value)


def _private(name: str, path: Path) -> None:
    """Raise ConfigInvalid unless the file can be read by its owner alone."""
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise ConfigInvalid(f"dsvolume:store:{name}: {path}: {exc.strerror}") from exc
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise ConfigInvalid(
            f"dsvolume:store:{name}: {path} holds a secret and others may read it: chmod 600"
        )


def _password(given: Mapping[str, Any]) -> str | None:
    plain, file = _text(given, "password"), _file(given, "password_file")
    if plain is not None and file is not None:
        raise ConfigInvalid("dsvolume:store has both password and password_file: drop one")
    if file is None:
        return plain
    _private("password_file", file)
    try:
        password = file.read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigInvalid(f"dsvolume:store:password_file: {file} cannot be read") from exc
    if not password:
        raise ConfigInvalid(f"dsvolume:store:password_file: {file} is empty")
    return password
