"""
What the bridge counts and measures, for Prometheus.

Told on the administration's socket, at ``GET /metrics``. Nothing here asks the store: it is told
what the bridge has seen, also while the store is away.
"""

import logging
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .logs import About

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 100)
QUIET = frozenset(("Activate", "Capabilities", "Get", "List", "Path"))
"""Calls that change nothing: they are logged where they are refused, else at level DEBUG."""

Up = Callable[[], bool]
See = Callable[[], Iterable[dict[str, Any]]]


class Call:
    """One call as it goes on; whoever serves it says what becomes of it."""

    def __init__(self) -> None:
        self.volume: str | None = None
        self.mount: str | None = None
        self.refused: str | None = None
        self.failed = False

    def about(self, volume: Any, mount: Any = None) -> None:
        """Name the volume and the mount that it is about, as far as they are such."""
        self.volume = volume[:128] if isinstance(volume, str) else None
        self.mount = mount[:12] if isinstance(mount, str) else None

    @property
    def outcome(self) -> str:
        if self.failed:
            return "failed"
        return "done" if self.refused is None else "refused"


class Metrics:
    """One bridge's; they begin anew with each start."""

    def __init__(self, node: str, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge(
            "dsvolume_bridge_info",
            "The bridge that answers.",
            ("node", "version"),
            registry=registry,
        ).labels(node, version).set(1)
        self._calls = Counter(
            "dsvolume_calls",
            "Calls that were answered.",
            ("door", "call", "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "dsvolume_call_seconds",
            "Seconds from a call to its answer.",
            ("door", "call"),
            registry=registry,
            buckets=BUCKETS,
        )
        self._open = Gauge(
            "dsvolume_calls_open", "Calls that wait for their answer.", ("door",), registry=registry
        )
        self.remembered = Counter(
            "dsvolume_answers_remembered",
            "Answers given from the cache, because the store could not be asked.",
            registry=registry,
        )

    def show(self, parts: Mapping[str, Up], volumes: See, attachments: See) -> None:
        """
        Tell these too, as they are whenever it is asked for.

        parts
            What the bridge needs, by name, and whether each was there when last seen.
        volumes
            The records of the volumes that this node knows of.
        attachments
            The records of what is attached here.
        """
        self._registry.register(_Here(parts, volumes, attachments))

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)

    @contextmanager
    def call(self, door: str, name: str) -> Iterator[Call]:
        """Measure a call, and log it."""
        call, began = Call(), time.monotonic()
        try:
            with self._open.labels(door).track_inprogress():
                yield call
        except BaseException:
            call.failed = True
            raise
        finally:
            took = time.monotonic() - began
            self._calls.labels(door, name, call.outcome).inc()
            self._seconds.labels(door, name).observe(took)
            quiet = call.outcome == "done" and (door != "cli" and name in QUIET)
            log.log(
                logging.DEBUG if quiet else logging.INFO,
                About(
                    f"{name} {call.outcome}",
                    door=door,
                    volume=call.volume,
                    mount=call.mount,
                    reason=call.refused,
                    seconds=round(took, 3),
                ),
            )


class _Here(Collector):
    """What is there at the moment of the question."""

    def __init__(self, parts: Mapping[str, Up], volumes: See, attachments: See) -> None:
        self._parts = parts
        self._volumes = volumes
        self._attachments = attachments

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of figures."""
        policies = Tally(record["Policy"] for record in self._volumes())
        users = {a["Volume"]: len(a["Users"]) for a in self._attachments()}
        for name, says, label, values in (
            ("up", "Was it there when it was last asked?", "part", self._up()),
            ("volumes", "Volumes that this node knows of.", "policy", policies),
            ("users", "Users of the volumes that are attached here.", "volume", users),
        ):
            family = GaugeMetricFamily(f"dsvolume_{name}", says, labels=(label,))
            for key, value in sorted(values.items()):
                family.add_metric((key,), value)
            yield family

    def _up(self) -> dict[str, int]:
        return {name: int(up()) for name, up in self._parts.items()}
