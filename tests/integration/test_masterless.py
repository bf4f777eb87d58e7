"""In the checkout, `salt-call --local` works without a master, a sync or further flags."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkout import HEADER, ROOT, TIME, Answer, cells, configure, salt_call

from lab.site import Site

NODE = "dolphinhost3"
SEED = {
    "Name": "example-secure",
    "Voltype": "ds-ram",
    "CreatedBy": NODE,
    "CreatedAt": "",
    "Policy": "secure",
    "Fstype": "tmpfs",
    "MBSize": 16,
    "AutoMigrate": False,
    "Shared": False,
    "Mountpoint": "",
    "Inuse": None,
    "Containers": None,
    "LastAccessTimestamp": "0001-01-01T00:00:00Z",
    "IsClone": False,
    "ParentSnapshot": "",
    "QoSState": False,
    "QoSProfile": "",
}
"""The fields of a record that operators have always seen, of a new volume."""
OUTSIDE = [Path("/var/lib/dsvolume"), Path("/run/dsvolume"), Path("/etc/dsvolume")]


def test_the_checkout_alone_is_all_that_salt_call_needs(tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    for part in ("salt", "etc", "pillar"):
        shutil.copytree(ROOT / part, copy / part)
    shutil.copy(ROOT / "Saltfile", copy)
    before = _files(copy)
    answer = salt_call("dsvolume.ls", cwd=copy)
    assert (answer.status, answer.err) == (0, "")
    assert [cells(line) for line in answer.lines()] == [HEADER]
    added = _files(copy) - before
    assert added and {path.parts[0] for path in added} == {".state"}


def _files(folder: Path) -> set[Path]:
    """All files; Python's compiled ones are left out."""
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


class Host:
    """A site where salt-call works; it remembers what each step of the story said."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        dsvolume = {"root": str(site.root), "capacity": {"near_full": 100}}
        self.config = configure(folder, NODE, dsvolume)
        self.said: dict[str, Answer] = {}
        self.files_of_the_test_run: list[Path] = []
        self.mounted: list[Path] = []
        self.left: list[str] = []

    def tell(self, step: str, *arguments: str) -> Answer:
        answer = self.said[step] = salt_call(*arguments, config=self.config)
        return answer

    def states(self, step: str) -> dict[str, dict[str, Any]]:
        """The answers of a state run, by volume and function."""
        assert self.said[step].status == 0, self.said[step]
        return {
            f"{tag.rpartition('_|-')[2]} {answer['name']}": answer
            for tag, answer in self.said[step].data().items()
        }


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The examples foretold, applied, applied again, looked at, and taken away."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path_factory.mktemp("masterless")
    outside = [path.exists() for path in OUTSIDE]
    with Site(folder / "site") as site:
        host = Host(site, folder / "minion")
        apply = ("state.apply", "examples.volumes", "--out=json")
        host.tell("empty", "dsvolume.ls")
        host.tell("foretold", *apply, "test=True")
        host.files_of_the_test_run = sorted(site.root.rglob("*"))
        host.tell("made", *apply)
        host.mounted = site.mounted()
        host.tell("again", *apply)
        host.tell("table", "dsvolume.ls")
        host.tell("info", "dsvolume.info", "example-secure", "example-ext4", "--out=json")
        host.tell("events", "dsvolume.events")
        host.tell("refused", "dsvolume.create", "example-ext4", "size=101")
        away = ("state.apply", "examples.no_volumes", "--out=json")
        host.tell("away foretold", *away, "test=True")
        host.tell("away", *away)
        host.tell("no more", "dsvolume.ls")
        host.left = [path for path in site.listing() if path.count("/")]
        host.left += map(str, site.mounted())
        yield host
    assert [path.exists() for path in OUTSIDE] == outside


def test_the_empty_table_has_its_header(host: Host) -> None:
    assert [cells(line) for line in host.said["empty"].lines()] == [HEADER]


def test_a_test_run_of_the_examples_writes_nothing(host: Host) -> None:
    assert host.files_of_the_test_run == []


def test_the_examples_are_made_as_foretold(host: Host) -> None:
    foretold, made = host.states("foretold"), host.states("made")
    assert [answer["result"] for answer in foretold.values()] == [None] * 5
    assert [answer["result"] for answer in made.values()] == [True] * 5
    changes = {step: answer["changes"] for step, answer in made.items()}
    assert changes == {step: answer["changes"] for step, answer in foretold.items()}
    assert changes["present example-ram"]["MBSize"] == {"old": None, "new": 16}
    assert changes["mounted example-ext4"]["Containers"]["new"] == [f"salt:salt@{NODE}"]


def test_applied_again_the_examples_change_nothing(host: Host) -> None:
    again = host.states("again").values()
    assert [(answer["result"], answer["changes"]) for answer in again] == [(True, {})] * 5


def test_mounts_are_all_that_shows_outside_the_root(host: Host) -> None:
    assert host.mounted == [host.site.root / "mounts" / "example-ext4"]


def test_the_table_of_volumes_is_as_operators_know_it(host: Host) -> None:
    path = str(host.site.root / "mounts" / "example-ext4")
    assert [cells(line) for line in host.said["table"].lines()] == [
        HEADER,
        ["example-ext4", NODE, "ds-local/ext4", "local", "100", "true", NODE, path],
        ["example-local", NODE, "ds-local/", "local", "0", "true", "-"],
        ["example-ram", NODE, "ds-ram/tmpfs", "ram", "16", "true", "-"],
        ["example-secure", NODE, "ds-ram/tmpfs", "secure", "16", "false", "-"],
    ]
    header, *rows = host.said["table"].lines()
    for column in HEADER[1:6]:
        at = header.index(column)
        assert all(row[at - 3 : at] == "   " and row[at] != " " for row in rows)


def test_info_has_the_fields_that_operators_know(host: Host) -> None:
    secure, ext4 = host.said["info"].data()
    known = {field: secure[field] for field in secure if field in SEED}
    assert known | {"CreatedAt": ""} == SEED
    assert re.fullmatch(TIME, secure["CreatedAt"])
    assert (ext4["Inuse"], ext4["Containers"]) == ([NODE], [f"salt:salt@{NODE}"])
    assert ext4["Mountpoint"] == str(host.site.root / "mounts" / "example-ext4")


def test_events_are_lines_in_order_of_time(host: Host) -> None:
    lines = host.said["events"].lines()
    assert all(re.match(TIME, line) for line in lines) and lines == sorted(lines)
    assert [line.partition(" ")[2] for line in lines] == [
        "example-local: (from libstorage) Volume create success",
        "example-ext4: (from libstorage) Volume create success",
        "example-ram: (from libstorage) Volume create success",
        "example-secure: (from libstorage) Volume create success",
        "example-ext4: (from libstorage) Mount success",
    ]


def test_a_refusal_is_one_sentence_and_a_failure(host: Host) -> None:
    answer = host.said["refused"]
    assert answer.status == 1 and answer.out == ""
    [line] = answer.err.splitlines()
    assert line.endswith("Volume exists with other options: size 100, asked 101")


def test_the_examples_go_as_foretold_and_leave_nothing(host: Host) -> None:
    foretold, away = host.states("away foretold"), host.states("away")
    assert [answer["result"] for answer in foretold.values()] == [None] * 5
    assert [answer["result"] for answer in away.values()] == [True] * 5
    for step, answer in away.items():
        assert foretold[step]["changes"] == answer["changes"] != {}
    assert [cells(line) for line in host.said["no more"].lines()] == [HEADER]
    assert host.left == []
