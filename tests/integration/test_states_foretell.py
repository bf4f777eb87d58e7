"""
Whatever is there and whatever is declared: a test run writes nothing and foretells the real run.

A random situation is made (volumes of all kinds, mounted or not, some with what a killed process
has left), then random states are run on it, each three times: in test mode, for real, and again.

``DSVOLUME_EXAMPLES`` says how many situations (60). One run has a fixed seed and one a fresh one,
which is printed: ``DSVOLUME_SEED`` plays it again.
"""

import os
import random
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, note, seed, settings
from hypothesis import strategies as st
from loaded import States, working_on
from situations import KINDS, kill_during, nothing_is_written

from lab.site import KEEPS_TRASH, Site, assert_clean
from libstorage.errors import LibstorageError
from libstorage.manager import Given, VolumeManager

FIXED_SEED = 20151008
IDS = ("a", "b")


@dataclass(frozen=True)
class Actual:
    """
    A volume as it is.

    mishap
        A verb that a process was killed in, at its ``point``; ``vanish``: somebody unmounted it
        behind libstorage's back; ``remount``: that, and then a process was killed in mount;
        "" or ``none``: nothing happened.
    """

    kind: str
    there: bool
    shared: bool | None
    users: tuple[str, ...]
    mishap: str
    point: int
    labels: str = ""
    protected: bool = False


@dataclass(frozen=True)
class Declared:
    """A state as somebody declares it."""

    function: str
    name: str
    arguments: dict[str, Any]


KIND = st.sampled_from(list(KINDS))
USERS = st.sampled_from([("a",), ("a", "b"), ("b",)])
"""Who may be there when the mishap comes, so that it has something to spoil."""
BEFORE: dict[str, st.SearchStrategy[tuple[str, ...]]] = {
    **dict.fromkeys(("rm", "usage"), st.just(())),
    **dict.fromkeys(("", "mount", "label", "protect"), st.one_of(st.just(()), USERS)),
    **dict.fromkeys(("unmount", "vanish", "remount"), USERS),
}


@st.composite
def actual_volumes(draw: st.DrawFn) -> Actual:
    mishap = draw(st.sampled_from(("", "none", "create", *BEFORE)))
    return Actual(
        kind=draw(KIND),
        there=mishap in BEFORE,
        shared=draw(st.sampled_from([None, None, False])),
        users=draw(BEFORE.get(mishap, st.just(()))),
        mishap=mishap,
        point=draw(st.integers(1, 16)),
        labels=draw(st.sampled_from(["", "", "team=web", "team=db,tier=1"])),
        # What is protected, no process can have been killed in removing.
        protected=mishap != "rm" and draw(st.sampled_from([False, False, True])),
    )


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "shared": st.booleans(),
        "labels": st.sampled_from([{"team": "web"}, "team=db", "team=,tier=2", {}]),
        "opt": st.just("atime=false"),
        "size": st.sampled_from([1, 8, 9, 32]),
        "qos_profile": st.sampled_from(["slow", "default", "nope"]),
        "qos": st.booleans(),
    },
)
PROFILE = "slow"
LIMITS = st.fixed_dictionaries(
    {}, optional={"write_bw": st.sampled_from([0, 10**8]), "weight": st.sampled_from([10, 500])}
)


def _declared(name: str, kind: str) -> st.SearchStrategy[Declared]:
    """A state of a volume that is of this kind, or was to be."""
    labels = st.sampled_from([{"team": "web"}, "tier=2", "team=,tier=1"])
    same = st.one_of(
        st.sampled_from([{}, {"policy": "local"}, KINDS[kind]]),
        st.builds(lambda labels: {**KINDS[kind], "labels": labels}, labels),
    )
    other = st.builds(lambda kind, options: {**KINDS[kind], **options}, KIND, OPTIONS)
    users = st.fixed_dictionaries({"id": st.sampled_from(IDS)})
    return st.one_of(
        st.builds(Declared, st.just("present"), st.just(name), st.one_of(same, other)),
        st.builds(
            Declared,
            st.just("absent"),
            st.just(name),
            st.fixed_dictionaries({}, optional={"purge": st.booleans()}),
        ),
        st.builds(
            Declared,
            st.sampled_from(["snapshot_present", "snapshot_absent"]),
            st.just(f"{name}@s"),
            st.just({}),
        ),
        st.builds(
            Declared,
            st.just("qos_applied"),
            st.just(name),
            st.fixed_dictionaries(
                {},
                optional={
                    "profile": st.sampled_from([PROFILE, "default", "nope"]),
                    "enabled": st.booleans(),
                },
            ),
        ),
        st.builds(Declared, st.just("qos_profile_present"), st.just(PROFILE), LIMITS),
        st.builds(Declared, st.just("qos_profile_absent"), st.just(PROFILE), st.just({})),
        st.builds(Declared, st.just("mounted"), st.just(name), users),
        st.builds(Declared, st.just("unmounted"), st.just(name), users),
        st.builds(
            Declared,
            st.just("protected"),
            st.just(name),
            st.fixed_dictionaries({}, optional={"protected": st.booleans()}),
        ),
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[str, Actual], list[Declared]]:
    """One volume or two, and states of them."""
    actual = {name: draw(actual_volumes()) for name in draw(st.sampled_from(["v", "v", "vw"]))}
    name = st.sampled_from(list(actual))
    declared = name.flatmap(lambda name: _declared(name, actual[name].kind))
    return actual, draw(st.lists(declared, min_size=2, max_size=6))


def _make(site: Site, name: str, actual: Actual) -> None:
    """Bring a volume into its situation."""
    words = {**KINDS[actual.kind]}
    if actual.shared is not None or actual.kind == "secure":
        words["shared"] = bool(actual.shared)
    given = Given.of(**words, labels=actual.labels)
    verbs = {
        "create": lambda manager: manager.create(name, given),
        "rm": lambda manager: manager.rm(name),
        "usage": lambda manager: manager.usage(name),
        "mount": lambda manager: manager.mount(name, id="a"),
        "remount": lambda manager: manager.mount(name, id="b"),
        "unmount": lambda manager: manager.unmount(name, id=(*actual.users, "a")[0]),
        "label": lambda manager: manager.label(name, {"team": "web"}),
        "protect": lambda manager: manager.protect(name),
    }
    manager = site.manager()
    if actual.there:
        manager.create(name, given)
        for user in actual.users:
            with suppress(LibstorageError):  # a second one of what is not shared
                manager.mount(name, id=user)
        if actual.protected:
            manager.protect(name)
    manager.close()
    if actual.mishap in ("vanish", "remount") and site.root / "mounts" / name in site.mounted():
        subprocess.run(["umount", str(site.root / "mounts" / name)], check=True)
        event("its mount vanished")
    if actual.mishap in verbs:

        def act(manager: VolumeManager) -> None:
            with suppress(LibstorageError):
                verbs[actual.mishap](manager)

        if kill_during(site, act, actual.point):
            event(f"killed in {actual.mishap}")


def _check(site: Site, states: States, declared: Declared) -> None:
    """One state: foretold, done, and nothing left to do."""
    state = getattr(states, declared.function)
    with nothing_is_written(site):
        foretold = state(declared.name, test=True, **declared.arguments)
    real = state(declared.name, **declared.arguments)
    note(f"{declared}\n  foretold {foretold}\n  real     {real}")
    assert foretold["changes"] == real["changes"]
    assert foretold["result"] is (None if real["changes"] else real["result"])
    assert foretold.get("warnings") == real.get("warnings")
    assert real["comment"].endswith(".") and "\n" not in real["comment"]
    if real["result"] is False:
        assert real["changes"] == {} and foretold["comment"] == real["comment"]
    again = state(declared.name, **declared.arguments)
    assert (again["result"], again["changes"]) == (real["result"], {}), again
    event(f"{declared.function}: {'changes' if real['changes'] else real['result']}")


def _run(opts: dict[str, Any], modules: Any, loader: Any, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=int(os.environ.get("DSVOLUME_EXAMPLES", "60")),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(situations())
    def foretells(drawn: tuple[dict[str, Actual], list[Declared]]) -> None:
        situation, declarations = drawn
        with (
            tempfile.TemporaryDirectory(prefix="dsvolume-states-") as folder,
            Site(Path(folder, "site"), trash=KEEPS_TRASH) as site,
            working_on(opts, modules, site),
        ):
            states = States(loader, modules)
            assert states.qos_profile_present(PROFILE, write_bw=10**8)["result"] is True
            for name, actual in situation.items():
                _make(site, name, actual)
            for declared in declarations:
                _check(site, states, declared)
            for name in ("v", "w"):
                for id in IDS:
                    assert states.unmounted(name, id=id)["result"] is True
                if f"volumes/{name}" in site.values("volumes/"):
                    assert states.protected(name, protected=False)["result"] is not None
                    assert states.snapshot_absent(f"{name}@s")["result"] is True
                assert states.absent(name, purge=True)["result"] is True
            # What killed processes have registered, nobody else takes off the list.
            modules["dsvolume.doctor"](fix=True)
            assert_clean(site)

    foretells()


pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
    pytest.mark.timeout(2400),
]


def test_random_states_foretell_what_they_do(opts: Any, _modules: Any, _states: Any) -> None:
    _run(opts, _modules, _states, FIXED_SEED)


def test_random_states_foretell_what_they_do_from_a_fresh_seed(
    opts: Any, _modules: Any, _states: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    number = int(os.environ.get("DSVOLUME_SEED") or random.SystemRandom().randrange(10**9))
    with capsys.disabled():
        print(f"\nseed: DSVOLUME_SEED={number}")
    _run(opts, _modules, _states, number)
