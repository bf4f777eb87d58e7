"""
Random sequences of verbs against a model, with deaths and reboots in between.

``DSVOLUME_EXAMPLES`` says how many sequences (30); the soak asks for more. One run has a fixed seed
and one a fresh one, which is printed: ``DSVOLUME_SEED`` plays it again.
"""

import os
import random
import signal
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from lab.faults import Trap, fork_victim
from lab.scenarios import FAST, GROWN, KINDS
from lab.site import KEEPS_TRASH, NODE, Site, assert_clean
from libstorage.errors import (
    InvalidInput,
    LibstorageError,
    NoSuchSnapshot,
    NoSuchVolume,
    NotInTrash,
    Unsupported,
    VolumeExists,
    VolumeInUse,
)
from libstorage.manager import Given

NAMES = st.sampled_from(["a", "b", "c"])
SNAPSHOTS = st.sampled_from(["s", "t"])
USERS = st.sampled_from(["u1", "u2", "u3"])
KIND = st.sampled_from([kind for kind in KINDS if kind not in ("ext2", "ext3")])
DEADLY = (
    *("create", "rm", "mount", "unmount", "usage", "undelete", "snapshot_create", "snapshot_rm"),
    *("rollback", "resize", "protect", "qos_enable"),
)
"""The verbs that processes die in."""

TEXT = st.text("abcdefgh ", min_size=1, max_size=20)


@dataclass
class Model:
    """What a volume must be."""

    kind: str
    users: set[str] = field(default_factory=set)
    text: str = ""
    size: int | None = None
    protected: bool = False
    profile: str = ""
    limited: bool = False
    snapshots: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    children: dict[str, set[str]] = field(default_factory=dict)
    parent: tuple[str, str] | None = None
    parent_id: str | None = None

    def __post_init__(self):
        self.size = self.size or KINDS[self.kind].get("mb_size")

    @property
    def keeps(self):
        return self.kind not in ("raw", "secure")

    @property
    def is_image(self):
        return "fstype" in KINDS[self.kind]


class Verbs(RuleBasedStateMachine):
    """One node; every verb does what the model says, or refuses as the model says."""

    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="dsvolume-model-")
        self.site = Site(Path(self._folder.name, "site"), lease=0.5, trash=KEEPS_TRASH)
        self.site.__enter__()
        self.manager = self.site.manager()
        self.model: dict[str, Model] = {}
        self.trash: list[tuple[str, Model]] = []
        self.switched_on = True
        self.rates = {"default": 400_000_000, "p": 300_000_000}
        for profile, rate in self.rates.items():
            (self.manager.qos.edit if profile == "default" else self.manager.qos.create)(
                profile, {**FAST, "write_bw": rate}
            )

    def teardown(self):
        for name, volume in self.model.items():
            for user in volume.users:
                self.manager.unmount(name, id=user)
        while self.model:
            # Clones before their parents' snapshots, these before their volumes.
            name = next(n for n, v in self.model.items() if not any(v.children.values()))
            for snapshot in list(self.model[name].snapshots):
                self.manager.snapshot_rm(f"{name}@{snapshot}")
            self.manager.unprotect(name)
            self.manager.rm(name, purge=True)
            self._forget(name)
        for name in {name for name, _ in self.trash}:
            self.manager.rm(name, purge=True)
        assert self.manager.trash_ls() == []
        self.manager.doctor(fix=True)
        assert_clean(self.site)
        assert self.manager.ls() == []
        self.site.close()
        self._folder.cleanup()

    # -- verbs

    @initialize(kind=KIND)
    def begin_with_one(self, kind):
        self.create("a", kind)

    @rule(name=NAMES, kind=KIND)
    def create(self, name, kind):
        existing = self.model.get(name)
        given = Given(**KINDS[kind])
        try:
            answer = self.manager.create(name, given)
        except VolumeExists:
            mine = Model(kind)
            assert existing and (existing.kind, existing.size) != (mine.kind, mine.size)
        else:
            assert answer["Created"] == (existing is None)
            assert existing is None or existing.kind == kind or _says_less(kind, existing.kind)
            self.model.setdefault(name, Model(kind))

    @rule(name=NAMES, purge=st.booleans())
    def rm(self, name, purge):
        volume = self.model.get(name)
        in_trash = any(name == other for other, _ in self.trash)
        try:
            self.manager.rm(name, purge=purge)
        except NoSuchVolume:
            assert volume is None and not (purge and in_trash)
        except VolumeInUse:
            assert volume.users or volume.snapshots or volume.protected
        else:
            if volume is None:
                assert purge and in_trash
                self.trash = [(other, kept) for other, kept in self.trash if other != name]
                return
            assert not volume.users and not volume.snapshots and not volume.protected
            self._forget(name)
            if not purge:
                self.trash.append((name, volume))

    def _forget(self, name):
        volume = self.model.pop(name)
        if volume.parent:
            parent, snapshot = volume.parent
            self.model[parent].children[snapshot].discard(name)
        if volume.kind == "secure":
            volume.text = ""

    @rule(name=NAMES, new=NAMES)
    def undelete(self, name, new):
        there = [kept for other, kept in self.trash if other == name]
        try:
            self.manager.undelete(name, new=new)
        except NotInTrash:
            assert not there
        except VolumeExists:
            assert new in self.model
        else:
            assert there and new not in self.model
            self._bring_back(name, new, there[-1])

    def _bring_back(self, name, new, volume):
        self.trash.remove((name, volume))
        self.model[new] = volume
        if volume.parent:
            parent, snapshot = volume.parent
            # Not another snapshot of that name, nor one of another volume.
            if self._snapshot_id(parent, snapshot) == volume.parent_id:
                self.model[parent].children[snapshot].add(new)
            else:
                volume.parent = None

    def _snapshot_id(self, name, snapshot):
        found = self.manager.snapshot_ls(name) if name in self.model else []
        return next((s["Id"] for s in found if s["Name"] == snapshot), None)

    @rule(name=NAMES, snapshot=SNAPSHOTS)
    def snapshot_create(self, name, snapshot):
        volume = self.model.get(name)
        try:
            self.manager.snapshot_create(f"{name}@{snapshot}")
        except NoSuchVolume:
            assert volume is None
        except Unsupported:
            assert not volume.is_image
        except VolumeExists:
            assert snapshot in volume.snapshots
        else:
            assert volume.is_image and snapshot not in volume.snapshots
            volume.snapshots[snapshot] = (volume.text, volume.size)
            volume.children[snapshot] = set()

    @rule(name=NAMES, snapshot=SNAPSHOTS)
    def snapshot_rm(self, name, snapshot):
        volume = self.model.get(name)
        try:
            self.manager.snapshot_rm(f"{name}@{snapshot}")
        except (NoSuchVolume, NoSuchSnapshot):
            assert volume is None or snapshot not in volume.snapshots
        except VolumeInUse:
            assert volume.children[snapshot]
        else:
            assert not volume.children.pop(snapshot)
            del volume.snapshots[snapshot]

    @rule(name=NAMES, snapshot=SNAPSHOTS)
    def rollback(self, name, snapshot):
        volume = self.model.get(name)
        try:
            self.manager.rollback(f"{name}@{snapshot}")
        except (NoSuchVolume, NoSuchSnapshot):
            assert volume is None or snapshot not in volume.snapshots
        except VolumeInUse:
            assert volume.users
        else:
            assert not volume.users
            volume.text = volume.snapshots[snapshot][0]

    @rule(name=NAMES, snapshot=SNAPSHOTS, new=NAMES)
    def clone(self, name, snapshot, new):
        source, existing = self.model.get(name), self.model.get(new)
        try:
            answer = self.manager.snapshot_clone(f"{name}@{snapshot}", new)
        except (NoSuchVolume, NoSuchSnapshot):
            assert source is None or snapshot not in source.snapshots
        except VolumeExists:
            assert existing and existing.parent != (name, snapshot)
        else:
            assert answer["Created"] == (existing is None)
            if existing is None:
                text, size = source.snapshots[snapshot]
                parent = (name, snapshot)
                self.model[new] = Model(source.kind, text=text, size=size, parent=parent)
                self.model[new].parent_id = self._snapshot_id(name, snapshot)
                source.children[snapshot].add(new)

    @rule(name=NAMES)
    def resize(self, name):
        volume = self.model.get(name)
        larger = GROWN.get(volume.kind, 64) if volume else 64
        try:
            answer = self.manager.resize(name, larger)
        except NoSuchVolume:
            assert volume is None
        except Unsupported:
            # A kernel need not let a mounted ext4 grow.
            assert volume.kind not in GROWN or (volume.kind == "ext4" and volume.users)
        else:
            assert answer["Changed"] == (volume.size != larger)
            volume.size = larger

    @rule(name=NAMES, protected=st.booleans())
    def protect(self, name, protected):
        verb = self.manager.protect if protected else self.manager.unprotect
        if name not in self.model:
            with pytest.raises(NoSuchVolume):
                verb(name)
        else:
            verb(name)
            self.model[name].protected = protected

    @rule(name=NAMES, profile=st.sampled_from(["default", "p"]))
    def qos_apply(self, name, profile):
        volume = self.model.get(name)
        try:
            self.manager.qos.apply(profile, [name])
        except NoSuchVolume:
            assert volume is None
        except Unsupported:
            assert not volume.is_image
        else:
            volume.profile = profile

    @rule(name=NAMES, limited=st.booleans())
    def qos_enable(self, name, limited):
        volume = self.model.get(name)
        try:
            (self.manager.qos.enable if limited else self.manager.qos.disable)([name])
        except NoSuchVolume:
            assert volume is None
        except Unsupported:
            assert not volume.is_image
        else:
            volume.limited = limited

    @rule(profile=st.sampled_from(["default", "p"]), rate=st.integers(1, 9))
    def qos_edit(self, profile, rate):
        self.manager.qos.edit(profile, {"write_bw": rate * 100_000_000})
        self.rates[profile] = rate * 100_000_000

    @rule(on=st.booleans())
    def qos_switch(self, on):
        (self.manager.qos.enable if on else self.manager.qos.disable)([], everywhere=True)
        self.switched_on = on

    @rule(name=NAMES, user=USERS)
    def mount(self, name, user):
        volume = self.model.get(name)
        try:
            answer = self.manager.mount(name, id=user)
        except NoSuchVolume:
            assert volume is None
        except VolumeInUse:
            assert volume.kind == "secure" and volume.users and user not in volume.users
        else:
            assert answer["Changed"] == (user not in volume.users)
            volume.users.add(user)

    @rule(name=NAMES, user=USERS)
    def unmount(self, name, user):
        volume = self.model.get(name)
        try:
            answer = self.manager.unmount(name, id=user)
        except NoSuchVolume:
            assert volume is None
        else:
            assert answer["Changed"] == (user in volume.users)
            volume.users.discard(user)

    @rule(name=NAMES, text=TEXT)
    def write(self, name, text):
        volume = self.model.get(name)
        if volume and volume.users and volume.keeps:
            (self._point(name) / "file").write_text(text)
            volume.text = text

    @rule(name=NAMES)
    def usage(self, name):
        if name not in self.model:
            with pytest.raises(NoSuchVolume):
                self.manager.usage(name)
        else:
            [answer] = self.manager.usage(name, summary=False)
            assert answer["Err"] == ""
            files = [entry["file"] for entry in answer["Usage"]]
            if self.model[name].text:
                assert str(self._point(name) / "file") in files
            assert files[-1] == "total"

    @rule()
    def bad_input(self):
        with pytest.raises(InvalidInput):
            self.manager.create("../x", Given())

    @rule()
    def doctor_finds_nothing(self):
        # But for what deaths and reboots leave until somebody comes by.
        found = [
            finding
            for finding in self.manager.doctor()
            if finding["Kind"] != "owners" and "older boot" not in finding["Says"]
        ]
        assert found == []

    @rule()
    def another_process(self):
        self.manager.close()
        self.manager = self.site.manager()

    @rule()
    def reboot(self):
        self.manager.close()
        self.site.reboot()
        self.manager = self.site.manager()
        for volume in self.model.values():
            volume.users = set()
            if volume.kind == "ram":
                volume.text = ""
        for _, volume in self.trash:
            if volume.kind == "ram":
                volume.text = ""

    @rule(
        name=NAMES,
        user=USERS,
        kind=KIND,
        verb=st.sampled_from(DEADLY),
        point=st.integers(1, 40),
        stop=st.booleans(),
        doctor=st.booleans(),
    )
    def die(self, name, user, kind, verb, point, stop, doctor):
        """Another process dies in the middle of a verb; what it began is done or undone."""
        acts = {
            "create": lambda m: m.create(name, Given(**KINDS[kind])),
            "rm": lambda m: m.rm(name),
            "mount": lambda m: m.mount(name, id=user),
            "unmount": lambda m: m.unmount(name, id=user),
            "usage": lambda m: m.usage(name),
            "undelete": lambda m: m.undelete(name),
            "snapshot_create": lambda m: m.snapshot_create(f"{name}@s"),
            "snapshot_rm": lambda m: m.snapshot_rm(f"{name}@s"),
            "rollback": lambda m: m.rollback(f"{name}@s"),
            "resize": lambda m: m.resize(name, GROWN[self.model[name].kind]),
            "protect": lambda m: m.protect(name),
            "qos_enable": lambda m: m.qos.enable([name]),
        }
        if verb == "resize" and (name not in self.model or self.model[name].kind not in GROWN):
            return

        def act(manager):
            with suppress(LibstorageError):
                acts[verb](manager)

        pid, pipe = fork_victim(self.site.config, act, Trap(point, "stop" if stop else "kill"))
        os.close(pipe)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        if doctor:
            assert [f for f in self.manager.doctor(fix=True) if f["Fixed"] is False] == []
        else:
            act(self.manager)
        # Stopped where it owned nothing, nobody had to end it.
        os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        self._accept(name, user, kind, verb)

    def _accept(self, name, user, kind, verb):
        """Take what is there now for the model, if it is as before the verb or as asked."""
        there = {record["Name"] for record in self.manager.ls()}
        volume = self.model.get(name)
        if verb == "create" and volume is None:
            if name in there:
                self.model[name] = Model(kind)
        elif verb == "rm" and volume and not volume.users and not volume.snapshots:
            if name not in there:
                assert not volume.protected
                self._forget(name)
                self.trash.append((name, volume))
        elif verb == "undelete" and volume is None:
            there_was = [kept for other, kept in self.trash if other == name]
            if name in there:
                self._bring_back(name, name, there_was[-1])
        elif verb in ("snapshot_create", "snapshot_rm") and volume:
            self._accept_snapshot(name, volume)
        elif verb == "rollback" and volume and not volume.users and "s" in volume.snapshots:
            self._accept_text(name, volume, volume.snapshots["s"][0])
        elif verb in ("resize", "protect", "qos_enable") and volume:
            [record] = self.manager.info(name)
            assert record["MBSize"] in (volume.size or 0, GROWN.get(volume.kind))
            volume.size = record["MBSize"] or None
            volume.protected |= record["Protected"]
            volume.limited |= record["QoSState"]
        elif verb in ("mount", "unmount") and volume:
            users = self._users(name)
            before = volume.users
            after = before | {user} if verb == "mount" else before - {user}
            assert users in (before, after)
            volume.users = users

    def _accept_snapshot(self, name, volume):
        there = {snapshot["Name"] for snapshot in self.manager.snapshot_ls(name)}
        if "s" in there:
            volume.snapshots.setdefault("s", (volume.text, volume.size))
            volume.children.setdefault("s", set())
        elif not volume.children.get("s"):
            volume.snapshots.pop("s", None)
            volume.children.pop("s", None)

    def _accept_text(self, name, volume, other):
        if volume.keeps:
            self.manager.mount(name, id="u1")
            file = self._point(name) / "file"
            text = file.read_text() if file.exists() else ""
            assert text in (volume.text, other)
            volume.text = text
            self.manager.unmount(name, id="u1")

    # -- what is always so

    @invariant()
    def records_are_as_modelled(self):
        records = {record["Name"]: record for record in self.manager.ls()}
        assert set(records) == set(self.model)
        for name, volume in self.model.items():
            assert self._users(name) == volume.users
            assert bool(records[name]["Mountpoint"]) == bool(volume.users)
            assert records[name]["MBSize"] == (volume.size or 0)
            assert records[name]["Protected"] == volume.protected

    @invariant()
    def the_trash_is_as_modelled(self):
        assert [row["Name"] for row in self.manager.trash_ls()] == [name for name, _ in self.trash]

    @invariant()
    def limits_are_as_modelled(self):
        for name, volume in self.model.items():
            [record] = self.manager.info(name)
            assert (record["QoSProfile"], record["QoSState"]) == (volume.profile, volume.limited)
            on = self.switched_on and volume.limited and volume.users
            rates = {self.rates[volume.profile or "default"]} if on else set()
            assert {row["WriteBW"] for row in record["QoSLimits"] or ()} == rates

    @invariant()
    def snapshots_are_as_modelled(self):
        there = {
            f"{s['Volume']}@{s['Name']}": set(s["Children"]) for s in self.manager.snapshot_ls()
        }
        assert there == {
            f"{name}@{snapshot}": children
            for name, volume in self.model.items()
            for snapshot, children in volume.children.items()
        }

    @invariant()
    def the_mount_table_agrees(self):
        mounted = {p.name for p in self.site.mounted() if p.parent.name == "mounts"}
        assert mounted == {name for name, volume in self.model.items() if volume.users}

    @invariant()
    def what_was_written_is_there(self):
        for name, volume in self.model.items():
            if volume.users and volume.keeps and volume.text:
                assert (self._point(name) / "file").read_text() == volume.text

    def _users(self, name):
        [record] = self.manager.info(name)
        users = record["Containers"] or ()
        return {user.removeprefix("salt:").removesuffix(f"@{NODE}") for user in users}

    def _point(self, name):
        return self.site.config.mount_root / name


def _says_less(asked, actual):
    """Asking for a plain directory says only the policy, which an image has too."""
    return asked == "directory" and KINDS[actual]["policy"] == "local"


def _run(number):
    seed(number)(Verbs)
    run_state_machine_as_test(
        Verbs,
        settings=settings(
            max_examples=int(os.environ.get("DSVOLUME_EXAMPLES", "30")),
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(2400)
def test_random_verbs_agree_with_the_model():
    _run(2015)


@pytest.mark.timeout(2400)
def test_random_verbs_agree_with_the_model_from_a_fresh_seed(capsys):
    number = int(os.environ.get("DSVOLUME_SEED") or random.SystemRandom().randrange(10**9))
    with capsys.disabled():
        print(f"\nseed: DSVOLUME_SEED={number}")
    _run(number)
