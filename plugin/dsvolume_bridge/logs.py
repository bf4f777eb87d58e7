"""
The log: one line an entry, with its facts as ``key=value`` or as JSON.

The lines look as the engine's own do beside them in the journal.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any

FORMATS = ("logfmt", "json")
PLAIN = frozenset("-_.,:;/@+#%&()[]{}<>*!?$'^~|")
"""What a value may hold, besides letters and digits, without being quoted."""


def begin(level: str, form: str) -> None:
    """Log to stderr; ``form`` is one of FORMATS."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if form == "json" else Logfmt())
    logging.basicConfig(level=level, handlers=[handler], force=True)


class About(str):
    """
    A message with its facts: ``log.info(About("Mount done", volume="db"))``; None is left out.

    Not logging's ``extra``, which is lost where Salt has put its own kind of logger.
    """

    facts: dict[str, Any]

    def __new__(cls, text: str, /, **facts: Any) -> "About":
        about = super().__new__(cls, text)
        about.facts = {key: value for key, value in facts.items() if value is not None}
        return about


class Json(logging.Formatter):
    """An object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_entry(self, record), default=str)


class Logfmt(logging.Formatter):
    """``time=... level=info msg="..." volume=db``."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(value)}" for key, value in _entry(self, record).items())


def _entry(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    moment = datetime.fromtimestamp(record.created, UTC)
    entry = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "from": record.name.removeprefix("dsvolume_bridge."),
        "msg": record.getMessage(),
        **getattr(record.msg, "facts", {}),
    }
    if record.exc_info:
        entry["trace"] = formatter.formatException(record.exc_info)
    return entry


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    bare = text and all(char.isalnum() or char in PLAIN for char in text)
    return text if bare else json.dumps(text, ensure_ascii=False)
