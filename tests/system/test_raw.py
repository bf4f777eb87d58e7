"""Raw volumes in containers: the very device that is the container's, and no other."""

import re
from collections.abc import Iterator

import pytest

from lab.docker import IMAGE, Failed
from lab.wrapped import WRAPPED, Host, docker_host, until
from libstorage.host import throttling

REFUSED = "Operation not permitted"
WRITE = "echo hello | dd of=/dev/xvdb conv=notrunc"
READ = "dd if=/dev/xvdb bs=5 count=1"


@pytest.fixture(scope="module", params=[False, True], ids=["v1", "v2"])
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    with docker_host(tmp_path_factory.mktemp("raw"), unified=request.param) as host:
        version = host.engine("info", "--format={{.CgroupVersion}}")
        assert version == ("2" if request.param else "1")
        yield host


@pytest.fixture
def disk(host: Host) -> Iterator[str]:
    yield host.volume("disk", "fstype=raw", "size=16")
    host.tidy()


def shell(host: Host, script: str, *options: str) -> str:
    return host.engine.run(*options, IMAGE, "sh", "-c", script)


def test_a_container_writes_and_reads_its_device(host: Host, disk: str) -> None:
    use = (*WRAPPED, "-v", f"{disk}:/dev/xvdb")
    shell(host, WRITE, *use)
    assert shell(host, READ, *use) == "hello"
    assert shell(host, "busybox blockdev --getsize64 /dev/xvdb", *use) == str(16 * 2**20)
    assert host.site.image(host.info(disk)).read_bytes()[:5] == b"hello"


def test_a_read_only_mount_refuses_writes(host: Host, disk: str) -> None:
    shell(host, WRITE, *WRAPPED, "-v", f"{disk}:/dev/xvdb")
    use = (*WRAPPED, "-v", f"{disk}:/dev/xvdb:ro")
    assert shell(host, READ, *use) == "hello"
    with pytest.raises(Failed, match=REFUSED):
        shell(host, WRITE, *use)
    both = (*WRAPPED, "-v", f"{disk}:/dev/xvda:ro", "-v", f"{disk}:/dev/xvdb")
    shell(host, WRITE, *both)


def test_no_other_device_can_be_opened(host: Host, disk: str) -> None:
    other = host.volume("other", "fstype=raw", "size=16")
    host.start(*WRAPPED, "-v", f"{other}:/dev/xvdb")
    major, minor = throttling.number(host.device(other)).split(":")
    node = f"busybox mknod /dev/it b {major} {minor}"
    use = (*WRAPPED, "-v", f"{disk}:/dev/xvdb")
    assert shell(host, f"{READ} && {node}", *use) == "\0" * 5
    for script in (f"{node} && dd if=/dev/it count=1", f"{node} && echo x | dd of=/dev/it"):
        with pytest.raises(Failed, match=REFUSED):
            shell(host, script, *use)


def test_a_node_in_a_volume_is_no_device_of_it(host: Host, disk: str) -> None:
    """Whoever may make nodes in his volume could name any device of the host's."""
    files = host.volume("files", "fstype=ext4", "size=16", "dev=true")
    host.start(*WRAPPED, "-v", f"{disk}:/dev/xvdb")
    major, minor = throttling.number(host.device(disk)).split(":")
    keeper = host.start(*WRAPPED, "-v", f"{files}:/x")
    host.engine("exec", keeper, "busybox", "mknod", "/x/node", "b", major, minor)
    bound = f"{host.site.config.mount_root / files}/node:/dev/xvdb"
    with pytest.raises(Failed, match=REFUSED):
        shell(host, READ, *WRAPPED, "-v", bound)


def test_it_stays_right_over_restarts_and_a_killed_engine(host: Host, disk: str) -> None:
    one = host.start(*WRAPPED, "-v", f"{disk}:/dev/xvdb")
    host.engine("exec", one, "sh", "-c", WRITE)
    host.engine("stop", "--time=1", one)
    until(lambda: not host.site.loops())
    # Another volume is given its device meanwhile.
    other = host.volume("other", "fstype=raw", "size=16")
    two = host.start(*WRAPPED, "-v", f"{other}:/dev/xvdb:ro")
    host.engine("start", one)
    for again in (lambda: host.engine("restart", "--time=1", one), lambda: killed(host, one)):
        assert host.engine("exec", one, "sh", "-c", READ) == "hello"
        again()
    assert host.engine("exec", one, "sh", "-c", f"{WRITE} && {READ}") == "hello"
    host.engine("start", two)
    with pytest.raises(Failed, match=REFUSED):
        host.engine("exec", two, "sh", "-c", WRITE)


def killed(host: Host, container: str) -> None:
    """``kill -9`` of the engine, and its start."""
    host.engine.kill()
    host.engine.start()
    host.engine("start", container)


def test_without_the_wrapper_a_flag_allows_it(host: Host, disk: str) -> None:
    host.site.manager().mount(disk)
    number = host.info(disk)["Device"]
    assert re.fullmatch(r"\d+:\d+", number)
    use = ("-v", f"{disk}:/dev/xvdb")
    with pytest.raises(Failed, match=REFUSED):
        shell(host, READ, *use)
    shell(host, WRITE, f"--device-cgroup-rule=b {number} rwm", *use)
    assert shell(host, READ, f"--device-cgroup-rule=b {number} r", *use) == "hello"
    host.site.manager().unmount(disk)


def test_what_salt_has_mounted_is_served_or_refused_with_the_reason(host: Host, disk: str) -> None:
    manager = host.site.manager()
    use = (*WRAPPED, "-v", f"{manager.mount(disk)['Mountpoint']}:/dev/xvdb")
    shell(host, WRITE, *use)
    assert shell(host, READ, *use) == "hello"
    (host.site.config.run_dir / "attachments" / f"{disk}.json").write_text("{")
    with pytest.raises(Failed, match=r"dsvolume-runc: .* may do with volume disk; unmount"):
        shell(host, READ, *use)
    manager.unmount(disk)
    manager.close()


def test_containers_without_volumes_are_runcs_alone(host: Host) -> None:
    assert host.engine.run(*WRAPPED, IMAGE, "echo", "there") == "there"
    assert host.engine.client("run", "--rm", *WRAPPED, "--network=none", IMAGE, "nope").returncode
