"""
The contract that every controller keeps.

One more controller, or one more kind of volume of it, is one more line of KINDS with the
capabilities that it declares; the tests below are the same for all.
"""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lab.site import Site
from libstorage.controllers import Controllers, options
from libstorage.controllers.contract import Controller, Found, Shape, Source, Volatile, Wipes, Wish
from libstorage.controllers.rbd_images import COPY
from libstorage.errors import BackendError, Damaged, InvalidInput
from libstorage.host import files, mounts
from libstorage.host.commands import Work
from libstorage.manager import presence
from libstorage.records import Volume, now

FOREIGN = "99999999-0000-0000-0000-000000000000"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """
    One kind of volume, and what its controller declares of it.

    image
        A block volume in a file.
    once
        A block volume: nothing is ever made over one that is there.
    ceph
        It needs a Ceph.
    keeps
        Data outlive the last user.
    listed
        The backend object appears in the inventory.
    """

    policy: str
    size: int | None = None
    fstype: str | None = None
    image: bool = False
    once: bool = False
    ceph: bool = False
    keeps: bool = True
    listed: bool = True
    tied: bool = False
    node_local: bool = True
    volatile: bool = False
    wipes: bool = False
    shared: bool = True


def image_of(fstype: str) -> Kind:
    return Kind(
        policy="local",
        size=100,
        fstype=fstype,
        image=True,
        once=True,
        tied=True,
        node_local=False,
    )


def rbd_of(fstype: str) -> Kind:
    return Kind(
        policy="distributed", size=100, fstype=fstype, once=True, ceph=True, node_local=False
    )


KINDS = {
    "ds-local directory": Kind(policy="local"),
    "ds-local ext2": image_of("ext2"),
    "ds-local ext3": image_of("ext3"),
    "ds-local ext4": image_of("ext4"),
    "ds-local xfs": image_of("xfs"),
    "ds-local btrfs": image_of("btrfs"),
    "ds-local raw": image_of("raw"),
    "ds-ceph ext4": rbd_of("ext4"),
    "ds-ceph xfs": rbd_of("xfs"),
    "ds-ceph btrfs": rbd_of("btrfs"),
    "ds-ceph raw": rbd_of("raw"),
    "ds-ram ram": Kind(policy="ram", size=8, volatile=True),
    "ds-ram secure": Kind(
        policy="secure", size=8, keeps=False, listed=False, volatile=True, wipes=True, shared=False
    ),
}


class Bench:
    """A controller with one volume of a kind, and a place to mount it."""

    def __init__(self, site: Site, kind: Kind) -> None:
        self.site = site
        self.kind = kind
        self.controllers = Controllers(site.config)
        self.work = Work()
        self.point = site.root / "point"
        self.volume = self.record("11111111-0000-0000-0000-000000000000")

    @property
    def controller(self) -> Controller:
        return self.controllers.of_policy(self.kind.policy)

    @property
    def wish(self) -> Wish:
        return Wish(policy=self.kind.policy, mb_size=self.kind.size, fstype=self.kind.fstype)

    def record(self, id: str) -> Volume:
        shape = self.controller.normalise(self.wish)
        return Volume(
            name="v",
            created_by="node1",
            created_at=now(),
            policy=self.kind.policy,
            id=id,
            voltype=shape.voltype,
            fstype=shape.fstype,
            mb_size=shape.mb_size,
            auto_migrate=shape.auto_migrate,
            shared=shape.shared,
            options=shape.options,
        )

    def create(self) -> None:
        self.controller.create(self.work, self.volume)

    def mount(self) -> Path:
        presence.present(self.work, self.controller, self.volume, self.point)
        return self.point

    def unmount(self) -> None:
        presence.take_away(self.work, self.controller, self.volume, self.point)

    def write(self, text: str) -> None:
        if self.point.is_dir():
            (self.point / "file").write_text(text)
        else:
            with open(self.point, "r+b") as device:
                device.write(text.encode())

    def read(self) -> str | None:
        """What was written; None where nothing is."""
        if self.point.is_dir():
            file = self.point / "file"
            return file.read_text() if file.exists() else None
        with open(self.point, "rb") as device:
            return device.read(4).rstrip(b"\0").decode() or None

    def image(self) -> Path:
        return self.site.image({"Id": self.volume.id})

    def bits(self) -> str:
        if self.kind.ceph:
            return self._exported()
        with open(self.image(), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def spoil_copy(self) -> None:
        if self.kind.ceph:
            self._rbd("image-meta", "set", self._path(), COPY, "{")
        for copy in self.site.root.rglob(f"{self.volume.id}.json"):
            copy.write_bytes(b"\xff{")

    def _path(self) -> str:
        place = self.site.config.ceph
        return f"{place['pool']}/{place['namespace']}/{self.volume.id}"

    def _rbd(self, *words: str) -> None:
        conf = self.site.config.ceph["conf"]
        subprocess.run(["rbd", "--conf", conf, *words], capture_output=True, check=True)

    def _exported(self) -> str:
        exported = self.site.root / "exported"
        self._rbd("export", "--no-progress", self._path(), str(exported))
        with open(exported, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        exported.unlink()
        return digest

    def found(self) -> list[Found]:
        return [found for found in self.controller.inventory() if found.id == self.volume.id]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, kind: Kind) -> Iterator[Bench]:
    yield from benches(request, tmp_path, kind)


def benches(request: pytest.FixtureRequest, folder: Path, kind: Kind) -> Iterator[Bench]:
    settings = request.getfixturevalue("ceph").settings() if kind.ceph else {}
    with Site(folder / "site", **settings) as site:
        yield Bench(site, kind)


def kinds(has: Callable[[Kind], object]) -> Any:
    """A fixture like ``bench``, of those kinds only that have something."""

    @pytest.fixture(params=[name for name, kind in KINDS.items() if has(kind)])
    def some(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
        yield from benches(request, tmp_path, KINDS[request.param])

    return some


images = kinds(lambda kind: kind.image)
checked = kinds(lambda kind: kind.image and kind.fstype != "raw")
in_backend = kinds(lambda kind: kind.listed)
# Ceph is told by its manager how full it is; the one of the tests has none.
counted = kinds(lambda kind: not kind.ceph)
sized = kinds(lambda kind: kind.size and not kind.ceph)
with_files = kinds(lambda kind: kind.fstype != "raw")


# -- what a wish comes to


def wishes(kind: Kind) -> list[Wish]:
    asked = Wish(policy=kind.policy, mb_size=kind.size, fstype=kind.fstype)
    return [
        asked,
        replace(asked, mb_size=300),
        replace(asked, shared=False),
        replace(asked, auto_migrate=True),
        replace(asked, auto_migrate=False),
    ]


def again(wish: Wish, shape: Shape) -> Wish:
    """The wish for exactly what came out."""
    return Wish(
        policy=wish.policy,
        mb_size=shape.mb_size or None,
        fstype=shape.fstype or None,
        shared=shape.shared,
        auto_migrate=shape.auto_migrate,
        options=shape.options,
    )


def test_normalise_touches_nothing_and_says_the_same_each_time(bench: Bench) -> None:
    before = bench.site.listing()
    for wish in wishes(bench.kind):
        assert bench.controller.normalise(wish) == bench.controller.normalise(wish)
    assert bench.site.listing() == before


def test_normalise_of_its_own_answer_is_the_answer(bench: Bench) -> None:
    for wish in wishes(bench.kind):
        shape = bench.controller.normalise(wish)
        assert bench.controller.normalise(again(wish, shape)) == replace(shape, warnings=())


def test_the_declared_capabilities_are_what_the_controller_says(bench: Bench) -> None:
    kind, controller, volume = bench.kind, bench.controller, bench.volume
    assert kind.policy in controller.policies
    assert controller.node_local(volume) is kind.node_local
    assert controller.normalise(bench.wish).tied is kind.tied
    assert controller.normalise(bench.wish).shared is kind.shared
    volatile = isinstance(controller, Volatile) and controller.volatile(volume)
    assert volatile is kind.volatile
    if kind.wipes:
        assert isinstance(controller, Wipes)


def test_what_cannot_be_had_is_warned_of_or_refused_in_one_sentence(bench: Bench) -> None:
    for change in ({"fstype": "zfs"}, {"options": {"colour": "red"}}, {"options": {"exec": "?"}}):
        try:
            says = list(bench.controller.normalise(replace(bench.wish, **change)).warnings)
        except InvalidInput as exc:
            says = [str(exc)]
        assert says
        assert all(text and "\n" not in text for text in says)


# -- made and removed


def test_a_new_volume_is_made_once_and_goes_once(bench: Bench) -> None:
    bench.controller.check(bench.volume)
    assert bench.controller.exists(bench.volume) is not bench.kind.listed
    bench.create()
    assert bench.controller.exists(bench.volume)
    assert len(bench.found()) == bench.kind.listed
    for _ in range(2):
        bench.controller.destroy(bench.work, bench.volume.id)
        assert bench.controller.exists(bench.volume) is not bench.kind.listed
    assert bench.found() == []
    assert bench.site.mounted() == []
    left = [name for name, (mode, _) in bench.site.listing().items() if "0000-0000" in name]
    assert left == []


def test_making_it_again_never_loses_what_it_holds(bench: Bench) -> None:
    bench.create()
    bench.mount()
    bench.write("data")
    if bench.kind.once:
        with pytest.raises(BackendError):
            bench.create()
        bench.unmount()
        before = bench.bits()
        with pytest.raises(BackendError, match="left alone"):
            bench.create()
        assert bench.bits() == before
    else:
        bench.create()
        assert bench.read() == "data"
        bench.unmount()


def test_removing_what_never_was_is_as_good(bench: Bench) -> None:
    bench.controller.destroy(bench.work, bench.volume.id)
    bench.controller.detach(bench.work, bench.volume.id)
    bench.controller.end_inspection(bench.work, bench.volume.id)
    bench.controller.drop_copy(bench.volume.id)
    assert bench.controller.inventory() == []
    assert bench.controller.in_use() == {}


def test_one_s_removal_leaves_the_other(bench: Bench) -> None:
    other = bench.record("22222222-0000-0000-0000-000000000000")
    bench.create()
    bench.controller.create(bench.work, other)
    bench.controller.destroy(bench.work, other.id)
    bench.mount()
    bench.write("data")
    assert bench.read() == "data"
    bench.unmount()


def copy_only(bench: Bench) -> None:
    bench.create()
    bench.controller.put_copy(bench.volume, "c")
    bench.image().unlink(missing_ok=True)


def unfinished_copy(bench: Bench) -> None:
    bench.create()
    bench.controller.put_copy(bench.volume, "c")
    for copy in bench.site.root.rglob("*.json"):
        copy.rename(files.unfinished(copy)[0])


def inspected(bench: Bench) -> None:
    bench.create()
    bench.controller.inspect(bench.work, bench.volume)


def attached_only(bench: Bench) -> None:
    bench.create()
    bench.controller.attach(bench.work, bench.volume)


@pytest.mark.parametrize("half", [copy_only, unfinished_copy, inspected, attached_only])
def test_what_is_half_made_is_removed_whole(bench: Bench, half: Callable[[Bench], None]) -> None:
    half(bench)
    bench.controller.destroy(bench.work, bench.volume.id)
    assert bench.site.mounted() == []
    assert bench.site.loops() == {}
    left = [name for name in bench.site.listing() if bench.volume.id in name]
    assert left == []


def test_an_image_without_a_filesystem_is_removed_whole(images: Bench) -> None:
    images.image().parent.mkdir()
    images.image().write_bytes(bytes(2**20))
    images.controller.destroy(images.work, images.volume.id)
    assert images.found() == []


# -- attached and detached


def test_data_outlive_the_user_exactly_where_declared(bench: Bench) -> None:
    bench.create()
    bench.mount()
    bench.write("data")
    assert bench.read() == "data"
    bench.unmount()
    assert not bench.point.exists()
    bench.mount()
    assert bench.read() == ("data" if bench.kind.keeps else None)
    bench.unmount()
    assert bench.controller.in_use() == {}
    assert bench.site.loops() == {}


def test_a_source_is_what_the_contract_knows(bench: Bench) -> None:
    bench.create()
    source = bench.controller.attach(bench.work, bench.volume)
    assert isinstance(source, Source)
    assert source.kind in ("image", "filesystem", "device", "directory", "tmpfs")
    bench.controller.detach(bench.work, bench.volume.id)
    bench.controller.detach(bench.work, bench.volume.id)
    assert bench.controller.in_use() == {}


def test_a_second_attach_without_a_detach_works_too(bench: Bench) -> None:
    """What a process that was killed in between leaves to the next one."""
    bench.create()
    for _ in range(2):
        bench.controller.attach(bench.work, bench.volume)
    bench.mount()
    bench.write("data")
    bench.unmount()
    assert bench.site.loops() == {}


def test_set_user_id_and_devices_do_not_work_unless_asked(with_files: Bench) -> None:
    with_files.create()
    with_files.mount()
    mounted = mounts.at(with_files.point)
    assert mounted is not None
    assert {"nosuid", "nodev"} <= mounted.options
    with_files.unmount()


def test_options_reach_the_mount(with_files: Bench) -> None:
    asked = {"suid": "true", "dev": "true", "exec": "false", "atime": "false"}
    shape = with_files.controller.normalise(replace(with_files.wish, options=asked))
    with_files.volume = replace(with_files.volume, options=shape.options)
    with_files.create()
    with_files.mount()
    mounted = mounts.at(with_files.point)
    assert mounted is not None
    assert {"noexec", "noatime"} <= mounted.options
    assert not {"nosuid", "nodev"} & mounted.options
    assert options.mount_flags(shape.options) == ["noexec", "noatime"]
    with_files.unmount()


def test_a_missing_image_is_named_not_made_anew(images: Bench) -> None:
    images.create()
    images.image().unlink()
    with pytest.raises(BackendError, match=f"The image of v is missing: {images.image()}"):
        images.mount()
    assert not images.image().exists()


# -- copies and the inventory


def test_a_copy_is_put_read_replaced_and_dropped(in_backend: Bench) -> None:
    in_backend.create()
    assert in_backend.found()[0].copy is None
    assert in_backend.found()[0].age < 60
    in_backend.controller.put_copy(in_backend.volume, "cluster")
    in_backend.controller.put_copy(replace(in_backend.volume, revision=2), "cluster")
    found = in_backend.found()[0]
    assert found.cluster == "cluster"
    assert found.copy is not None
    assert Volume.from_json(found.copy) == replace(in_backend.volume, revision=2)
    assert in_backend.controller.copy_of(in_backend.volume.id) == {
        "cluster": "cluster",
        "record": found.copy,
    }
    assert "\n" not in found.what
    for _ in range(2):
        in_backend.controller.drop_copy(in_backend.volume.id)
    assert in_backend.found()[0].copy is None
    assert in_backend.controller.copy_of(in_backend.volume.id) is None


def test_a_copy_says_what_the_trash_knows(in_backend: Bench) -> None:
    in_backend.create()
    state = {"Until": "2026-12-01T00:00:00.000000Z", "By": {"user": "root"}}
    in_backend.controller.put_copy(in_backend.volume, "cluster", state)
    assert in_backend.found()[0].trashed == state
    [copy] = in_backend.controller.copies()
    assert copy == {
        "cluster": "cluster",
        "record": in_backend.volume.to_json(),
        "trashed": state,
    }
    in_backend.controller.put_copy(in_backend.volume, "cluster")
    assert in_backend.found()[0].trashed is None
    assert "trashed" not in in_backend.controller.copies()[0]


def test_a_copy_that_cannot_be_read_counts_as_none(in_backend: Bench) -> None:
    in_backend.create()
    in_backend.controller.put_copy(in_backend.volume, "cluster")
    in_backend.spoil_copy()
    assert in_backend.found()[0].copy is None


def test_what_attach_or_inspect_holds_is_told_by_id(images: Bench) -> None:
    images.create()
    assert images.controller.in_use() == {}
    images.mount()
    held = images.controller.in_use()
    assert list(held) == [images.volume.id]
    assert "loop device /dev/loop" in held[images.volume.id]
    images.unmount()
    assert images.controller.in_use() == {}


# -- looking at what is not mounted


def test_a_look_at_an_unmounted_volume_shows_its_files(bench: Bench) -> None:
    bench.create()
    bench.mount()
    bench.write("data")
    bench.unmount()
    for _ in range(2):
        path = bench.controller.inspect(bench.work, bench.volume)
        if not bench.kind.keeps:
            assert path is None
        elif bench.kind.fstype == "raw":
            assert path == (None if bench.kind.ceph else bench.image())
        else:
            assert path is not None
            assert (path / "file").read_text() == "data"
    for _ in range(2):
        bench.controller.end_inspection(bench.work, bench.volume.id)
    assert bench.controller.in_use() == {}
    assert bench.site.loops() == {}


def test_nothing_to_look_at_is_none_or_an_error_never_a_new_volume(bench: Bench) -> None:
    before = bench.site.listing()
    try:
        path = bench.controller.inspect(bench.work, bench.volume)
    except BackendError:
        path = None
    assert path is None or not path.exists()
    bench.controller.end_inspection(bench.work, bench.volume.id)
    made = set(bench.site.listing()) - set(before)
    assert not [name for name in made if bench.volume.id in name]


@pytest.mark.parametrize("clean", [True, False])
def test_a_look_changes_no_bit(images: Bench, clean: bool) -> None:
    images.create()
    images.mount()
    images.write("data")
    if not clean:
        unclean_image(images)
    images.unmount()
    if not clean:
        images.image().with_suffix(".snap").rename(images.image())
    before = images.bits()
    path = images.controller.inspect(images.work, images.volume)
    assert path is not None
    if path.is_dir():
        list(path.rglob("*"))
    images.controller.end_inspection(images.work, images.volume.id)
    assert images.bits() == before


def unclean_image(bench: Bench) -> None:
    """The image as a crash of the host would leave it: taken while it is mounted."""
    bench.work.run("sync", "-f", str(bench.point if bench.point.is_dir() else bench.image()))
    snap = bench.image().with_suffix(".snap")
    bench.work.run("cp", "--sparse=always", str(bench.image()), str(snap))


def test_an_image_left_by_a_crash_is_mended_at_the_next_attach(images: Bench) -> None:
    images.create()
    images.mount()
    images.write("data")
    unclean_image(images)
    images.unmount()
    images.image().with_suffix(".snap").rename(images.image())
    images.image().with_suffix(".attached").touch()
    images.mount()
    assert images.read() == "data"
    images.unmount()
    assert not images.image().with_suffix(".attached").exists()
    assert images.controller.in_use() == {}


def test_a_check_that_was_ended_half_way_is_begun_anew(checked: Bench) -> None:
    checked.create()
    checked.image().with_suffix(".attached").touch()
    point = checked.site.root / "maintenance" / checked.volume.id
    point.mkdir(parents=True)
    mounts.mount(checked.work, str(checked.image()), point, checked.volume.fstype, "loop")
    checked.controller.detach(checked.work, checked.volume.id)
    assert checked.controller.in_use() == {}
    point.mkdir()
    mounts.mount(checked.work, str(checked.image()), point, checked.volume.fstype, "loop")
    checked.mount()
    checked.unmount()
    assert checked.controller.in_use() == {}


def test_what_no_check_has_passed_is_checked_whoever_detached_it(checked: Bench) -> None:
    """A recovery detaches what it finds; that must not make an unclean filesystem a clean one."""
    checked.create()
    attached = checked.image().with_suffix(".attached")
    attached.touch()
    spoil(checked.image())
    for _ in range(2):
        with pytest.raises(Damaged, match=f"repair it with: .* {checked.image()}"):
            checked.mount()
        checked.controller.detach(checked.work, checked.volume.id)
    assert not attached.exists()
    checked.controller.destroy(checked.work, checked.volume.id)
    assert [name for name in checked.site.listing() if checked.volume.id in name] == []


def spoil(image: Path) -> None:
    """Overwrite every filesystem's (first) superblock."""
    with open(image, "r+b") as file:
        file.write(b"\xaa" * 128 * 1024)


# -- room


def test_capacity_is_plausible(counted: Bench) -> None:
    total, available = counted.controller.capacity()
    assert 0 < available <= total < 2**60


def test_more_than_there_is_is_refused_by_name(sized: Bench) -> None:
    with pytest.raises(BackendError, match="asked 1000000000000;"):
        sized.controller.check(replace(sized.volume, mb_size=10**12))


def test_a_foreign_object_is_listed_and_never_taken_for_ours(bench: Bench) -> None:
    other = bench.record(FOREIGN)
    bench.create()
    bench.controller.create(bench.work, other)
    bench.controller.put_copy(other, "another cluster")
    listed = {found.id: found.cluster for found in bench.controller.inventory()}
    if bench.kind.listed:
        assert listed == {bench.volume.id: "", FOREIGN: "another cluster"}
    else:
        assert listed == {}
