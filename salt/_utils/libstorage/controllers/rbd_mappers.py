"""
RBD images as block devices: three ways, of which a host uses one for what it maps anew.

========  =====================================  ==================================================
krbd      the kernel's own client                ``rbd_mapper_krbd.py``
rbd-nbd   a daemon behind the kernel's ``nbd``   ``rbd_mapper_nbd.py``
qemu      a daemon's file behind a loop device   ``rbd_mapper_qemu.py``: needs no module
========  =====================================  ==================================================

Which one has an image is told by the host, never by the configuration: each keeps a mark of its own
in ``<run_dir>`` from before it maps until it has unmapped. So whoever comes after a change of the
configuration, or after somebody who died halfway, finds the image and takes it away.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..errors import ToolMissing
from ..host.commands import Work
from .rbd_connection import Place
from .rbd_mapper_krbd import Krbd
from .rbd_mapper_nbd import RbdNbd
from .rbd_mapper_qemu import Qemu

AUTO = "auto"


class Mapper(Protocol):
    """One of the ways, for the images of one pool on one node."""

    @property
    def name(self) -> str:
        """As the configuration names it."""

    def need(self) -> None:
        """Raise ToolMissing where it cannot serve here."""

    def find(self, id: str) -> Path | None:
        """The device of an image, where this mapper has it and it works."""

    def begin(self, work: Work, id: str) -> None:
        """Do what of ``map`` needs nothing of the image, which has no device; it may be nothing."""

    def map(self, work: Work, id: str) -> Path:
        """
        Give an image a block device; one that it has is as good.

        Raises BackendError, ToolMissing, MountBusy (what is left of a dead daemon is in use).
        """

    def unmap(self, work: Work, id: str) -> None:
        """
        Take an image's device away; none is as good.

        Raises MountBusy, naming who holds the device.
        """

    def grow(self, work: Work, id: str, size: int) -> None:
        """Let an image's device show that it has become ``size`` bytes; unmapped is as good."""

    def client(self, id: str) -> str:
        """The address of the Ceph client that has the image; "" where only Ceph can tell."""

    def held(self) -> dict[str, str]:
        """What is mapped, or half mapped, on this host: Id -> what there is."""

    def lives(self, id: str) -> bool:
        """Is what maps an image still at work?"""

    def give_up(self, work: Work, id: str) -> None:
        """Where it has died: whoever waits for the image gets an error, at once."""


class Mappers:
    """
    All of them as one.

    node
        Its name: a host may be several nodes.
    wanted
        Which one maps anew: its name, or ``auto``, the first that works here.
    """

    name = "any"

    def __init__(self, place: Place, run_dir: Path, node: str, wanted: str = AUTO) -> None:
        self._all: tuple[Mapper, ...] = (
            Krbd(place, run_dir),
            RbdNbd(place, run_dir),
            Qemu(place, run_dir, node),
        )
        self._wanted = wanted

    def need(self) -> None:
        self.chosen()

    def chosen(self) -> Mapper:
        """The mapper that maps anew on this host. Raises ToolMissing, naming what each lacks."""
        lacking = []
        for mapper in self._all:
            if self._wanted not in (AUTO, mapper.name):
                continue
            try:
                mapper.need()
            except ToolMissing as exc:
                lacking.append(f"{mapper.name}: {exc}")
            else:
                return mapper
        raise ToolMissing(f"No image of Ceph can be mapped here; {'; '.join(lacking)}")

    def find(self, id: str) -> Path | None:
        return next((device for one in self._all if (device := one.find(id)) is not None), None)

    def map(self, work: Work, id: str) -> Path:
        if (device := self.find(id)) is not None:
            return device
        mapper = self.chosen()
        for other in self._all:
            if other is not mapper:
                other.unmap(work, id)
        return mapper.map(work, id)

    @contextmanager
    def beginning(self, work: Work, id: str) -> Iterator[None]:
        """Meanwhile what can be done is, of the map that follows, before it may open the image."""
        with ThreadPoolExecutor(1) as pool:
            begun = pool.submit(self._begin, work, id)
            try:
                yield
                begun.result()
            except BaseException:
                wait([begun])
                self.unmap(work, id)
                raise

    def _begin(self, work: Work, id: str) -> None:
        if self.find(id) is None:
            self.chosen().begin(work, id)

    def unmap(self, work: Work, id: str) -> None:
        for mapper in self._all:
            mapper.unmap(work, id)

    def grow(self, work: Work, id: str, size: int) -> None:
        for mapper in self._all:
            mapper.grow(work, id, size)

    def client(self, id: str) -> str:
        return next((address for one in self._all if (address := one.client(id))), "")

    def held(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for mapper in self._all:
            found |= mapper.held()
        return found

    def lives(self, id: str) -> bool:
        return any(mapper.lives(id) for mapper in self._all)

    def give_up(self, work: Work, id: str) -> None:
        for mapper in self._all:
            mapper.give_up(work, id)
