"""The mount table's lines, as the kernel writes them."""

from pathlib import Path

import pytest

from libstorage.host.mounts import _parse


def test_a_loop_mount_is_read_in_full() -> None:
    line = (
        "36 35 7:3 / /srv/mounts/db rw,nosuid,nodev,relatime shared:7 "
        "- ext4 /dev/loop3 rw,errors=continue\n"
    )
    mount = _parse(line)
    assert (mount.id, mount.major, mount.minor) == (36, 7, 3)
    assert (mount.root, mount.path) == ("/", Path("/srv/mounts/db"))
    assert mount.options == {"rw", "nosuid", "nodev", "relatime"}
    assert (mount.fstype, mount.source) == ("ext4", "/dev/loop3")
    assert mount.super_options == {"rw", "errors=continue"}


def test_a_bind_mount_tells_which_directory_it_shows() -> None:
    mount = _parse("40 35 254:0 /srv/local/1-2 /srv/mounts/d rw - ext4 /dev/vda rw")
    assert mount.root == "/srv/local/1-2"
    assert mount.source == "/dev/vda"


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (r"/a\040b", "/a b"),
        (r"/a\011b", "/a\tb"),
        (r"/a\012b", "/a\nb"),
        (r"/a\134b", "/a\\b"),
        (r"/a\134040b", r"/a\040b"),
        ("/plain", "/plain"),
        ("/ünï", "/ünï"),
    ],
)
def test_what_the_kernel_escapes_is_read_as_it_was(written: str, path: str) -> None:
    mount = _parse(f"1 2 3:4 {written} {written} rw - tmpfs {written} rw,size=1024k")
    assert (mount.root, mount.path, mount.source) == (path, Path(path), path)


@pytest.mark.parametrize(
    "optional", ["", "shared:1 ", "shared:1 master:2 ", "master:2 unbindable "]
)
def test_any_number_of_optional_fields_is_passed_over(optional: str) -> None:
    mount = _parse(f"1 2 3:4 / /x rw {optional}- xfs /dev/loop0 rw")
    assert (mount.path, mount.fstype) == (Path("/x"), "xfs")


def test_a_source_that_is_empty_is_no_error() -> None:
    assert _parse("1 2 0:4 / /x rw - tmpfs  rw").source == ""
