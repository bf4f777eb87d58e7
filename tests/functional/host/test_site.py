"""The place that other tests are made in takes everything from the host at its end."""

import subprocess
import time
import uuid
from pathlib import Path

import pytest

from lab.site import Site, assert_clean
from libstorage.host import loops, mounts, processes
from libstorage.host.commands import Work
from libstorage.manager import Given


def test_whatever_a_test_leaves_is_gone_with_the_site(tmp_path: Path) -> None:
    with Site(tmp_path / "site") as site:
        manager = site.manager()
        for name, given in {
            "d": Given(policy="local"),
            "x": Given(policy="local", fstype="xfs"),
            "w": Given(policy="local", fstype="raw", mb_size=1),
            "r": Given(policy="ram", mb_size=1),
            "s": Given(policy="secure", mb_size=1),
        }.items():
            manager.create(name, given)
            manager.mount(name)
        mounts.make_point(site.root / "mounts" / "left")
        child = site.python("import subprocess; subprocess.Popen(['sleep', '99']); input()")
        inside = site.ends(subprocess.Popen(["sleep", "99"], cwd=site.root / "mounts/x", text=True))
        assert len(site.mounted()) == 6
        assert len(site.loops()) == 2
    assert not site.root.exists()
    assert site.mounted() == []
    assert site.loops() == {}
    assert (child.returncode, inside.returncode) == (-9, -9)


def test_a_command_that_a_killed_process_has_started_ends_with_the_site(tmp_path: Path) -> None:
    token = uuid.uuid4().hex
    with Site(tmp_path / "site") as site:
        code = "from libstorage.host.commands import Work; Work(arguments[0]).run('sleep', '99')"
        child = site.python(code, token)
        until = time.monotonic() + 10
        while not processes.carrying(token):
            assert time.monotonic() < until
            time.sleep(0.01)
        child.kill()
        child.wait(timeout=5)
        assert processes.carrying(token)
    until = time.monotonic() + 10
    while processes.carrying(token):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("left", ["mount", "loop", "file", "point", "maintenance", "attachment"])
def test_what_is_left_over_is_not_clean(site: Site, left: str) -> None:
    manager = site.manager()
    record = manager.create("v", Given(policy="local", fstype="ext4", mb_size=8))["Volume"]
    assert_clean(site)
    if left == "mount":
        (site.root / "elsewhere").mkdir()
        mounts.mount(Work(), "tmpfs", site.root / "elsewhere", "tmpfs", "size=1m")
    elif left == "loop":
        loops.attach(site.image(record))
    elif left == "file":
        site.image({"Id": "other"}).write_text("")
    elif left == "point":
        mounts.make_point(site.root / "mounts" / "x")
    elif left == "maintenance":
        (site.root / "maintenance" / "x").mkdir(parents=True)
    else:
        manager.mount("v")
    with pytest.raises(AssertionError):
        assert_clean(site)
