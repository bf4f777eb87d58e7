"""
Each verb beside its floor: `make bench`. See docs/benchmarks.md.

    ONLY=local   the names that begin so
    N=50         samples of each (15 at least, unless fewer are asked for)
    WHERE=1      where our time goes, in microseconds, after the table
    STRICT=1     exit status 1 where a target does not hold
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "salt" / "_utils"), str(ROOT / "tests")]

from benchmarks import (  # noqa: E402 - the path comes first
    breakdown,
    ceph,
    cluster,
    docker,
    etcd,
    many,
    reflink,
    salted,
    volumes,
)
from benchmarks.measure import Figure, Story, figures  # noqa: E402
from benchmarks.place import Place  # noqa: E402

SAMPLES = 25
SUBJECTS: tuple[Callable[[Place], list[Story]], ...] = (
    volumes.stories,
    reflink.stories,
    many.stories,
    etcd.stories,
    salted.stories,
    docker.stories,
    ceph.stories,
    cluster.stories,
)


@dataclass(frozen=True, slots=True)
class Target:
    """
    What a figure must not exceed: a ratio, milliseconds, or milliseconds above its floor.

    p95
        Milliseconds that 95 of a hundred must not exceed, besides.
    """

    ratio: float = 0.0
    ms: float = 0.0
    above: float = 0.0
    p95: float = 0.0

    def holds(self, figure: Figure) -> bool:
        if self.p95 and figure.p95_ms >= self.p95:
            return False
        if self.ratio:
            return figure.ratio <= self.ratio
        return figure.ours_ms < (self.ms or figure.floor_ms + self.above)

    def __str__(self) -> str:
        if self.ratio:
            return f"ratio {self.ratio:.4g}"
        return f"{self.ms:g} ms" if self.ms else f"+{self.above:g} ms"


TARGETS = {
    "local.create_ext4": Target(ratio=1.3),
    "local.create_xfs": Target(ratio=1.3),
    "local.mount_ext4": Target(ratio=1.5),
    "local.unmount_ext4": Target(ratio=1.5),
    "local.rm_ext4": Target(ratio=1.5),
    **{f"local.{v}": Target(ratio=1.3) for v in ("snapshot", "clone", "rollback", "resize")},
    **{f"local.reflink_snapshot_{f}_20g": Target(ratio=1.3) for f in ("xfs", "ext4", "raw")},
    **{f"local.reflink_clone_{f}_20g": Target(ratio=1.3) for f in ("ext4", "raw")},
    "store.ls_10000": Target(ms=150),
    "store.info_10000": Target(ms=2),
    **{f"etcd.{verb}": Target(ratio=2) for verb in ("create", "info", "ls", "snapshot")},
    "etcd.salt_info": Target(ratio=1.5),
    "etcd.ls_20000": Target(ms=500),
    "etcd.ls_20000_used": Target(ms=500),
    "ceph.create": Target(ratio=1.15, p95=300),
    "ceph.mount": Target(ratio=1.15, p95=1000),
    **{f"ceph.{verb}_50g": Target(ratio=1.3) for verb in ("snapshot", "clone")},
    "ceph.many_120": Target(ms=10_000),
    **{name: Target(ratio=1 / 0.97) for name in ceph.FIO},
    "docker.run_attached": Target(ratio=1.1),
    "docker.run_detached": Target(above=150),
    "docker.cli_ls": Target(ratio=1.5),
    "docker.get_p99": Target(ms=5),
    "docker.list": Target(ms=150),
    "docker.dockerd_start": Target(above=1000),
    "cluster.private_apply": Target(ms=90_000),
    "cluster.private_apply_noop": Target(ms=3_000),
}


def show(figure: Figure) -> bool:
    """A line of the table; whether its target, if it has one, holds."""
    target = TARGETS.get(figure.name)
    holds = target is None or target.holds(figure)
    mark = "" if target is None else f"{target!s:>10}  {'holds' if holds else 'MISSED'}"
    print(
        f"{figure.name:<32}{figure.floor_ms:>10.3f}{figure.ours_ms:>10.3f}"
        f"{figure.ratio:>8.2f}{figure.p95_ms:>10.3f}{figure.samples:>9}  {mark}".rstrip(),
        flush=True,
    )
    return holds


def bench(place: Place, only: str, samples: int) -> tuple[list[Figure], bool]:
    """Measure and show what is asked for; the figures, and whether all targets hold."""
    columns = f"{'floor ms':>10}{'ours ms':>10}{'ratio':>8}{'p95 ms':>10}{'samples':>9}"
    print(f"{'name':<32}{columns}      target")
    found, hold = [], True
    for story in chosen(place, only):
        for figure in figures(story, samples):
            if figure.name.startswith(only):
                hold = show(figure) and hold
                found.append(figure)
    return found, hold


def chosen(place: Place, only: str) -> list[Story]:
    """The stories that have a name which begins so."""
    every = [story for subject in SUBJECTS for story in subject(place)]
    return [story for story in every if any(name.startswith(only) for name in story.names)]


def write(path: Path, found: list[Figure]) -> None:
    path.write_text(json.dumps([asdict(figure) for figure in found], indent=1) + "\n")
    print("written to build/bench.json; the ratio is the median of each round's own", flush=True)


def main() -> int:
    only, samples = os.environ.get("ONLY", ""), int(os.environ.get("N") or SAMPLES)
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    scratch = tempfile.TemporaryDirectory(prefix="bench-", dir=build)
    with scratch as folder, Place(Path(folder) / "root") as place:
        try:
            found, hold = bench(place, only, samples)
            if found:
                write(build / "bench.json", found)
            if found and os.environ.get("WHERE"):
                breakdown.show(chosen(place, only), only, samples)
        finally:
            # A second Ctrl-C must not leave mounts and loop devices behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not found:
        print(f"no benchmark begins with {only!r}", file=sys.stderr)
        return 2
    return 1 if os.environ.get("STRICT") == "1" and not hold else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
