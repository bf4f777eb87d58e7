"""What a create request says, read from what people write."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..controllers.contract import Wish
from ..errors import InvalidInput
from ..records import Volume, check_name

DEFAULT_POLICY = "distributed"
MAX_SIZE = 2**43
"""MB: 8 EiB, what a file offset can hold."""

WORDS = {
    "policy": "policy",
    "fstype": "fstype",
    "mb_size": "size",
    "shared": "shared",
    "auto_migrate": "automigrate",
    "options": "options",
    "labels": "labels",
    "qos_profile": "qos_profile",
    "qos_state": "qos",
}
"""The fields of a volume that a request may name -> the word for it in requests and errors."""

LABEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
MAX_LABEL = 255


def read_labels(*values: object) -> dict[str, str]:
    """Labels as people write them: each ``K=V``, ``K=V,K=V``, a list or a mapping; checked."""
    labels: dict[str, str] = {}
    for value in values:
        labels |= _pairs("labels", value) or {}
    return check_labels(labels)


def merge_labels(there: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The labels that result: given ones are set, and removed where their value is empty."""
    return {key: value for key, value in {**there, **given}.items() if value}


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Raise InvalidInput for what can be no label. An empty value says: no such label."""
    for key, value in labels.items():
        if not LABEL.fullmatch(key):
            raise InvalidInput(
                f"Not a label: {key[:60]!r}; use 1 to 63 letters, digits, '_', '.' and '-', "
                f"beginning with a letter or digit"
            )
        if len(value) > MAX_LABEL or "," in value or not value.isprintable():
            raise InvalidInput(
                f"The value of label {key} must be at most {MAX_LABEL} printable characters "
                f"without a comma, not {value[:60]!r}"
            )
    return dict(labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a create request said; None is what it left out."""

    policy: str | None = None
    mb_size: int | None = None
    fstype: str | None = None
    shared: bool | None = None
    auto_migrate: bool | None = None
    options: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    qos_profile: str | None = None
    qos_state: bool | None = None

    def __post_init__(self) -> None:
        if self.mb_size is not None and not 1 <= self.mb_size <= MAX_SIZE:
            raise InvalidInput(f"size must be a number of MB from 1 up, not {self.mb_size}")
        check_labels(self.labels or {})

    @classmethod
    def of(
        cls,
        *,
        policy: object = None,
        size: object = None,
        fstype: object = None,
        shared: object = None,
        automigrate: object = None,
        opt: object = None,
        labels: object = None,
        qos_profile: object = None,
        qos: object = None,
    ) -> Self:
        """
        Read a request's words; None and "" are left out.

        size
            MB, as a number or in digits.
        shared, automigrate, qos
            Booleans, or ``true`` and ``false``; qos is true where a profile is named.
        opt, labels
            A mapping, ``K=V``, ``K=V,K=V`` or a list of such.

        Raises InvalidInput, naming the word.
        """
        profile = check_name(qos_profile, "profile") if qos_profile not in (None, "") else None
        return cls(
            policy=_text("policy", policy),
            mb_size=_size(size),
            fstype=_text("fstype", fstype),
            shared=_boolean("shared", shared),
            auto_migrate=_boolean("automigrate", automigrate),
            options=_pairs("opt", opt),
            labels=_pairs("labels", labels),
            qos_profile=profile,
            qos_state=_boolean("qos", True if profile and qos in (None, "") else qos),
        )

    def named(self) -> list[str]:
        """The fields that were given."""
        return [name for name in WORDS if getattr(self, name) is not None]

    def over(self, volume: Volume | None) -> Wish:
        """The wish that this comes to: for an existing volume, what it is unless said otherwise."""
        return Wish(
            policy=self._or(volume, "policy") or DEFAULT_POLICY,
            mb_size=self._or(volume, "mb_size") or None,
            fstype=self._or(volume, "fstype") or None,
            shared=self.shared,
            auto_migrate=self.auto_migrate,
            options=self._or(volume, "options") or {},
        )

    def _or(self, volume: Volume | None, name: str) -> Any:
        given = getattr(self, name)
        return getattr(volume, name) if given is None and volume is not None else given


def _text(word: str, value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{word} must be a word, not {value!r}")
    return value


def _size(value: object) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        return int(value[:20])
    raise InvalidInput(f"size must be a whole number of MB, not {str(value)[:60]!r}")


def _boolean(word: str, value: object) -> bool | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InvalidInput(f"{word} must be true or false, not {str(value)[:60]!r}")


def _pairs(word: str, value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = [part for part in value.split(",") if part]
    if isinstance(value, Mapping):
        pairs = {str(key): _scalar(word, item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        pairs = {}
        for item in value:
            if isinstance(item, Mapping):
                pairs |= {str(k): _scalar(word, v) for k, v in item.items()}
                continue
            key, given, text = str(item).partition("=")
            if not given or not key:
                raise InvalidInput(f"{word} must be KEY=VALUE, not {str(item)[:60]!r}")
            pairs[key] = text
    else:
        raise InvalidInput(f"{word} must be KEY=VALUE, not {str(value)[:60]!r}")
    if any(not key for key in pairs):
        raise InvalidInput(f"{word} has a value without a key")
    return pairs


def _scalar(word: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise InvalidInput(f"{word} holds {str(value)[:60]!r}, which is no text")
