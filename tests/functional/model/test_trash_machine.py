"""
Random removals, returns and deaths against a model of the trash.

Whatever happens: each volume that was made is there exactly once, alive or in the trash, with what
was written into it, until it is purged; and snapshots know just the clones that live.

``DSVOLUME_EXAMPLES`` and ``DSVOLUME_SEED`` as for the other machine.
"""

import copy
import os
import random
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lab.faults import Trap, fork_victim
from lab.scenarios import read_marker, write_marker
from lab.site import KEEPS_TRASH, Site, assert_clean
from libstorage.errors import NoSuchSnapshot, NoSuchVolume, NotInTrash, VolumeExists, VolumeInUse
from libstorage.manager import Given

NAMES = st.sampled_from(["a", "b", "c"])
GIVEN = {
    "directory": Given(policy="local"),
    "raw": Given(policy="local", fstype="raw", mb_size=1),
}
REFUSED = (NoSuchSnapshot, NoSuchVolume, NotInTrash, VolumeExists, VolumeInUse)


@dataclass
class Volume:
    """One that was made; ``parent`` is the Id of its snapshot's volume, while that is there."""

    id: str
    text: str
    raw: bool
    parent: str = ""
    snapshot: bool = False


@dataclass
class Model:
    """What is alive, and what was removed: (name, volume), the oldest first."""

    alive: dict[str, Volume] = field(default_factory=dict)
    trash: list[tuple[str, Volume]] = field(default_factory=list)

    def children(self, id):
        return {name for name, volume in self.alive.items() if volume.parent == id}

    def rm(self, name, purge=False):
        volume = self.alive.get(name)
        if volume is None:
            gone = [entry for entry in self.trash if entry[0] == name] if purge else []
            if not gone:
                raise NoSuchVolume(name)
            self.trash = [entry for entry in self.trash if entry[0] != name]
        elif volume.snapshot:
            raise VolumeInUse
        else:
            del self.alive[name]
            self.trash += [] if purge else [(name, volume)]

    def undelete(self, name, new):
        found = [entry for entry in self.trash if entry[0] == name]
        if not found:
            raise NotInTrash
        if new in self.alive:
            raise VolumeExists
        self.trash.remove(found[-1])
        self.alive[new] = found[-1][1]

    def snapshot_rm(self, name):
        volume = self.alive.get(name)
        if volume is None:
            raise NoSuchVolume(name)
        if not volume.snapshot:
            raise NoSuchSnapshot
        if self.children(volume.id):
            raise VolumeInUse
        volume.snapshot = False
        for _, child in self.trash:
            if child.parent == volume.id:
                child.parent = ""

    def shape(self):
        """As :func:`seen` sees it."""
        alive = {name: (v.id, bool(v.parent)) for name, v in self.alive.items()}
        children = {name: self.children(v.id) for name, v in self.alive.items() if v.snapshot}
        return alive, [(name, v.id) for name, v in self.trash], children


def seen(manager):
    """What there is: the living, whether they have a parent, the trash, the snapshots' clones."""
    alive = {row["Name"]: (row["Id"], bool(row["ParentSnapshot"])) for row in manager.ls()}
    trash = [(row["Name"], row["Id"]) for row in manager.trash_ls()]
    return alive, trash, {s["Volume"]: set(s["Children"]) for s in manager.snapshot_ls()}


class Trash(RuleBasedStateMachine):
    """One node; every verb does what the model does, or refuses as it refuses."""

    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="dsvolume-model-")
        root = Path(self._folder.name, "site")
        self.site = Site(root, lease=0.5, trash=KEEPS_TRASH)
        self.site.__enter__()
        self.manager = self.site.manager()
        self.model = Model()
        self._made = 0

    def teardown(self):
        try:
            for number, (name, _) in enumerate(reversed(list(self.model.trash))):
                self.manager.undelete(name, new=f"back{number}")
                self.model.undelete(name, f"back{number}")
            for name, volume in self.model.alive.items():
                assert read_marker(self.manager, name=name).startswith(volume.text)
            self.manager.doctor(fix=True)
            assert_clean(self.site)
        finally:
            self.site.close()
            self._folder.cleanup()

    def _both(self, verb, *names, **options):
        """The verb on the model and really: both do it, or both refuse for the same reason."""
        expected, actual = None, None
        try:
            getattr(self.model, verb)(*names, **options)
        except REFUSED as exc:
            expected = type(exc)
        try:
            _really(verb, *names, **options)(self.manager)
        except REFUSED as exc:
            actual = type(exc)
        assert actual is expected

    # -- verbs

    @rule(name=NAMES, kind=st.sampled_from(list(GIVEN)))
    def create(self, name, kind):
        if name not in self.model.alive:
            self._made += 1
            text = f"what was written first, {self._made}\n"
            record = self.manager.create(name, GIVEN[kind])["Volume"]
            write_marker(self.manager, text=text, name=name)
            self.model.alive[name] = Volume(record["Id"], text, kind == "raw")

    @rule(name=NAMES)
    def keep(self, name):
        volume = self.model.alive.get(name)
        if volume and volume.raw and not volume.snapshot:
            self.manager.snapshot_create(f"{name}@s")
            volume.snapshot = True

    @rule(name=NAMES, new=NAMES)
    def clone(self, name, new):
        source = self.model.alive.get(name)
        if source and source.snapshot and new not in self.model.alive:
            record = self.manager.snapshot_clone(f"{name}@s", new)["Volume"]
            self.model.alive[new] = Volume(record["Id"], source.text, True, source.id)

    @rule(name=NAMES)
    def forget(self, name):
        self._both("snapshot_rm", name)

    @rule(name=NAMES, purge=st.sampled_from([False, False, True]))
    def rm(self, name, purge):
        self._both("rm", name, purge=purge)

    @rule(name=NAMES, new=NAMES)
    def undelete(self, name, new):
        self._both("undelete", name, new=new)

    @rule(
        name=NAMES,
        act=st.sampled_from(["rm", "purge", "undelete"]),
        new=NAMES,
        point=st.integers(1, 24),
        doctor=st.booleans(),
    )
    def die(self, name, act, new, point, doctor):
        """Somebody dies of a verb; what the next one finds is as before or as asked."""
        verb = "undelete" if act == "undelete" else "rm"
        options = {"undelete": {"new": new}, "purge": {"purge": True}, "rm": {}}[act]
        pid, pipe = fork_victim(
            self.site.config, _quietly(_really(verb, name, **options)), Trap(point, "kill")
        )
        os.waitpid(pid, 0)
        os.close(pipe)
        if doctor:
            self.manager.doctor(fix=True)
        else:
            for other in ("a", "b", "c"):
                with suppress(*REFUSED):
                    self.manager.undelete("nothing", new=other)
        after = copy.deepcopy(self.model)
        with suppress(*REFUSED):
            getattr(after, verb)(name, **options)
        found = seen(self.manager)
        if found != self.model.shape():
            self._whole_or_in_part(found, after, name)

    def _whole_or_in_part(self, found, after, name):
        """A purge of several is one operation for each: it may have come half the way."""
        if found != after.shape():
            left = [id for _, id in found[1]]
            gone = {v.id for n, v in self.model.trash if n == name and v.id not in left}
            after = copy.deepcopy(self.model)
            after.trash = [entry for entry in after.trash if entry[1].id not in gone]
            assert name not in after.alive
        assert found == after.shape()
        self.model = after

    @invariant()
    def as_the_model_says(self):
        assert seen(self.manager) == self.model.shape()
        assert self.manager.operations() == []


def _really(verb, *names, **options):
    if verb == "snapshot_rm":
        return lambda manager: manager.snapshot_rm(f"{names[0]}@s")
    return lambda manager: getattr(manager, verb)(*names, **options)


def _quietly(act):
    def call(manager):
        with suppress(*REFUSED):
            act(manager)

    return call


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "fresh"])
def test_nothing_that_was_removed_is_lost_or_doubled(fixed):
    chosen = int(os.environ.get("DSVOLUME_SEED", "0")) or (
        20261124 if fixed else random.SystemRandom().randrange(1, 2**32)
    )
    print(f"DSVOLUME_SEED={chosen}")
    machine = seed(chosen)(Trash)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("DSVOLUME_EXAMPLES", "30")),
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
