"""
The story of the first five minutes, told by real salt-call processes and checked line by line.

`make demo` runs it. It has a configuration and a state of its own below build/ (the operator's
.state is never touched), shows every command as it would be typed, with its answer, and ends with
exit status 0 only if everything was as expected and nothing is left on the host.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stage import (
    BOLD,
    GREEN,
    LIMIT,
    RED,
    ROOT,
    SALT_CALL,
    Answer,
    Host,
    Unexpected,
    expect,
    paint,
    say,
)

PAIR = ("newvolume", "firstclone")


def look(host: Host) -> None:
    """Nothing is there yet. Reading makes nothing, so there is not even a store."""
    answer = host.salt("dsvolume.version", "--out=json")
    versions = answer.data()
    answer.has(store="embedded", libstorage=versions.get("dsvolume"))
    table(host.salt("dsvolume.ls"), {})
    expect(not host.state.exists(), "no state directory was made")


def create(host: Host) -> None:
    """One volume of each policy that a single host serves. Pillar says which controller has it."""
    host.salt("dsvolume.create", "demolocal1", "policy=local", "--out=json").has(
        Voltype="ds-local", Fstype="", MBSize=0, Shared=True
    )
    create_one(host, "demovol1", "policy=local", "fstype=ext4", "size=100")
    create_one(host, "newvolume", "policy=local", "fstype=xfs")
    create_one(host, "demoraw", "policy=local", "fstype=raw", "size=10")
    create_one(host, "demoram", "policy=ram")
    create_one(host, "demosecure", "policy=secure")
    table(
        host.salt("dsvolume.ls"),
        {
            "demolocal1": "ds-local/ local 0 true -",
            "demoram": "ds-ram/tmpfs ram 100 true -",
            "demoraw": "ds-local/raw local 10 true -",
            "demosecure": "ds-ram/tmpfs secure 100 false -",
            "demovol1": "ds-local/ext4 local 100 true -",
            "newvolume": "ds-local/xfs local 100 true -",
        },
    )
    host.salt("dsvolume.info", "demosecure", "--out=json").has(
        Name="demosecure",
        Voltype="ds-ram",
        Policy="secure",
        Fstype="tmpfs",
        MBSize=100,
        Shared=False,
        Mountpoint="",
        Inuse=None,
        Containers=None,
        QoSState=False,
    )


def create_one(host: Host, name: str, *options: str) -> None:
    """The record on one line: all six have the same fields."""
    wanted = dict(option.split("=") for option in options)
    fields: dict[str, Any] = {"Name": name, "Policy": wanted["policy"], "State": "ok"}
    fields["MBSize"] = int(wanted.get("size", 100))
    if "fstype" in wanted:
        fields["Fstype"] = wanted["fstype"]
    host.salt("dsvolume.create", name, *options, "--out=json", "--out-indent=-1").has(**fields)


def table(answer: Answer, rows: dict[str, str]) -> None:
    """The volumes' table: its header, and for each volume what follows name and creator."""
    lines = answer.text.splitlines()
    head = "NAME Created Type/Fs Policy Size(MB) Shared Inuse Path"
    expect(lines and lines[0].split() == head.split(), "the table has the known columns")
    found = {line.split()[0]: line.split()[2:] for line in lines[1:]}
    expect(sorted(found) == sorted(rows), f"it lists {', '.join(rows) or 'nothing'}")
    for name, row in rows.items():
        if found[name] != row.split():
            raise Unexpected(f"the row of {name} ends with {row!r}, not {' '.join(found[name])!r}")


def use(host: Host) -> None:
    """A volume is mounted for a user (in the end a container); its files are plain files."""
    point = host.mounts / "demovol1"
    host.salt("dsvolume.mount", "demovol1", "--out=json").has(Mountpoint=str(point), Changed=True)
    shown = point.relative_to(ROOT)
    host.shell(f"cp /etc/hosts /etc/hostname {shown}/")
    host.shell(f"dd if=/dev/urandom of={shown}/data bs=1M count=8 conv=fsync status=none")
    host.shell(f"cmp /etc/hosts {shown}/hosts")
    usage(host.salt("dsvolume.usage", "demovol1", "--out=json"), files=False)
    usage(host.salt("dsvolume.usage", "demovol1", "summary=False", "--out=json"), files=True)
    say("A raw volume is the block device itself:")
    raw = host.mounts / "demoraw"
    host.salt("dsvolume.mount", "demoraw", "--out=json").has(Mountpoint=str(raw))
    shown = raw.relative_to(ROOT)
    host.shell(f"test -b {shown} && blockdev --getsize64 {shown}").says(str(10 * 2**20))
    host.salt("dsvolume.unmount", "demoraw", "--out=json").has(Mountpoint="", Containers=[])


def usage(answer: Answer, *, files: bool) -> None:
    """Directories always, files where asked, the whole last; 8 MB were written."""
    answer.has(Name="demovol1", Size="100M", Err="")
    entries = answer.data()[0]["Usage"]
    names = [Path(entry["file"]).name for entry in entries]
    expect("lost+found" in names and ("data" in names) == files, "it lists what was asked")
    total = entries[-1]
    megabytes = re.fullmatch(r"(8|8\.\d|9)M", total["size"])
    expect(total["file"] == "total" and megabytes, f"the total is about 8 MB: {total['size']}")


def share(host: Host) -> None:
    """Each user has an id. A volume in use is not removed; the last one out unmounts it."""
    node = host.salt("dsvolume.mount", "demovol1", "id=backup", "--out=json").has(Changed=True)
    users = node.data()["Containers"]
    expect(
        [user.split("@")[0] for user in users] == ["salt:salt", "salt:backup"], "two users have it"
    )
    host.salt("dsvolume.rm", "demovol1", status=1).says(f"Volume in use by {', '.join(users)}")
    host.salt("dsvolume.unmount", "demovol1", "--out=json").has(
        Containers=users[1:], Mountpoint=str(host.mounts / "demovol1")
    )
    host.salt("dsvolume.unmount", "demovol1", "id=backup", "--out=json").has(
        Containers=[], Mountpoint=""
    )
    expect(not host.mounted() and not host.loops(), "no mount and no loop device is left")
    say("Its usage can still be asked; the image is looked at read-only:")
    usage(host.salt("dsvolume.usage", "demovol1", "--out=json"), files=False)


def ask_again(host: Host) -> None:
    """The same request finds the same volume; another one is refused, and says why."""
    was = host.salt("dsvolume.info", "demovol1", "--out=json").has(Revision=1).data()[0]
    same = ("demovol1", "policy=local", "fstype=ext4", "size=100")
    again = host.salt("dsvolume.create", *same, "--out=json", "--out-indent=-1").data()
    expect(again == {key: was[key] for key in again}, "the answer is the record that was there")
    host.salt(
        "dsvolume.create", "demovol1", "policy=local", "fstype=ext4", "size=200", status=1
    ).says("Volume exists with other options: size 100, asked 200")
    host.salt("dsvolume.create", "../demo", "policy=local", status=1).says(
        "Not a volume name: '../demo'"
    )
    host.salt("dsvolume.create", "demobig", "policy=local", "fstype=xfs", "size=8", status=1).says(
        "xfs needs at least 16 MB, asked 8"
    )
    host.salt("dsvolume.create", "demofar", "policy=distributed", status=1).says(
        "Policy distributed is served by no controller on this node"
    )


def snapshots(host: Host) -> None:
    """The seed's story: keep, change, clone the old, roll back. What is needed is not removed."""
    point = host.mounts / "newvolume"
    shown = point.relative_to(ROOT)
    host.salt("dsvolume.mount", "newvolume", "--out=json").has(Changed=True)
    host.shell(f"cp /etc/hosts /etc/hostname {shown}/ && echo 1 > {shown}/1")
    host.salt("dsvolume.snapshot_create", "newvolume@newsnap", "--out=json").has(
        Name="newsnap", Volume="newvolume", Size=100 * 2**20
    )
    host.salt("dsvolume.snapshot_ls").says("Volume@Snapshot", "newvolume@newsnap", "[0]")
    host.shell(f"rm {shown}/* && echo 2 > {shown}/2")
    clone = ("dsvolume.snapshot_clone", "newvolume@newsnap", "firstclone")
    host.salt(*clone, "--out=json", "--out-indent=-1").has(
        IsClone=True, ParentSnapshot="newvolume@newsnap"
    )
    say("Parent and clone are mounted together; each shows its own files:")
    host.salt("dsvolume.mount", "firstclone", "--out=json").has(Changed=True)
    names = {name: sorted(p.name for p in (host.mounts / name).iterdir()) for name in PAIR}
    expect(names["firstclone"] == ["1", "hostname", "hosts"], "the clone shows the old files")
    expect(names["newvolume"] == ["2"], "the parent shows the new one")
    host.salt("dsvolume.snapshot_info", "newvolume@newsnap", "--out=json").has(
        Children=["firstclone"]
    )
    host.salt("dsvolume.snapshot_rm", "newvolume@newsnap", status=1).says("Volume snapshot inuse")
    host.salt("dsvolume.rollback", "newvolume@newsnap", status=1).says("Volume in use by")
    for name in PAIR:
        host.salt("dsvolume.unmount", name, "--out=json").has(Mountpoint="")
    host.salt("dsvolume.rm", "newvolume", status=1).says("Volume has snapshots: newsnap")
    host.salt("dsvolume.rollback", "newvolume@newsnap", "--out=json").has(Name="newsnap")
    host.salt("dsvolume.mount", "newvolume", "--out=json").has(Changed=True)
    names = {"newvolume": sorted(p.name for p in point.iterdir())}
    expect(names["newvolume"] == ["1", "hostname", "hosts"], "the old files are back")
    say("It grows while it is mounted:")
    host.salt("dsvolume.resize", "newvolume", "200", "--out=json", "--out-indent=-1").has(
        MBSize=200
    )
    host.salt("dsvolume.unmount", "newvolume", "--out=json").has(Mountpoint="")
    destroy(host, "firstclone")
    host.salt("dsvolume.snapshot_rm", "newvolume@newsnap", "--out=json").has(Children=[])


def limits(host: Host) -> None:
    """A profile limits a volume at once, also while it is in use; here for a cgroup of our own."""
    host.salt(
        "dsvolume.qos_create", "newprofile", "read_bw=100000", "weight=777", "--out=json"
    ).has(Name="newprofile", ReadBW=100000, WriteBW=10000, Weight=777)
    lines = host.salt("dsvolume.qos_ls").text.splitlines()
    expect(lines[0] == "Global QoS Enabled", "the switch stands above")
    head = "Name ReadIOPS ReadBW WriteIOPS WriteBW Weight"
    rows = ["default 200 20000 100 10000 600", "newprofile 100 100000 100 10000 777"]
    expect(
        [line.split() for line in lines[1:]] == [row.split() for row in (head, *rows)], "a table"
    )
    group = _cgroup_root() / "dsvolume-demo"
    host.shell(f"mkdir -p {group}")
    try:
        mount = ("demovol1", f"cgroup=/{group.name}")
        host.salt("dsvolume.mount", *mount, "--out=json").has(Changed=True)
        free = _read(host, group)
        host.salt(*_quiet("dsvolume.qos_apply", "demovol1", "profile=newprofile")).has(
            QoSProfile="newprofile", QoSState=False
        )
        host.salt(*_quiet("dsvolume.qos_enable", "demovol1", "global=True")).has(QoSState=True)
        limited = _read(host, group)
        expect(90_000 < limited < 110_000, "it reads 100,000 bytes a second")
        expect(free > 10 * limited, f"before it was faster: {free:,.0f}")
        host.salt(*_quiet("dsvolume.qos_disable", "demovol1")).has(QoSState=False)
        expect(_read(host, group) > 10 * limited, "it is as fast as before")
        host.salt("dsvolume.unmount", "demovol1", "--out=json").has(Mountpoint="")
    finally:
        host.shell(f"rmdir {group}")
    host.salt(*_quiet("dsvolume.qos_apply", "demoram", "profile=newprofile"), status=1).says(
        "ds-ram cannot limit I/O: demoram is on no device"
    )
    host.salt(*_quiet("dsvolume.qos_apply", "demovol1", "profile=default")).has(
        QoSProfile="default"
    )
    host.salt("dsvolume.qos_rm", "newprofile", "--out=json", "--out-indent=-1").has(Weight=777)


def _quiet(*words: str) -> tuple[str, ...]:
    return (*words, "--out=json", "--out-indent=-1")


def _read(host: Host, group: Path) -> float:
    """The rate in bytes a second at which a process of the cgroup reads the volume's file."""
    data = (host.mounts / "demovol1" / "data").relative_to(ROOT)
    dd = f"dd if={data} of=/dev/null bs=4k count=100 iflag=direct"
    said = host.shell(f"sh -c 'echo 0 > {group}/cgroup.procs; exec {dd} 2>&1'").text
    seconds = re.search(r"409600 bytes.* ([\d.e-]+) s,", said)
    expect(seconds, "dd tells its rate")
    assert seconds
    return 409_600 / float(seconds[1])


def _cgroup_root() -> Path:
    """Where the host's cgroups for block I/O are: cgroup v1's blkio, else v2."""
    table = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for _, path, fstype, options, *_ in table:
        if fstype == "cgroup" and "blkio" in options.split(","):
            return Path(path)
    return next(Path(path) for _, path, fstype, *_ in table if fstype == "cgroup2")


def secret(host: Host) -> None:
    """A secure volume is memory for one user, and gone with him."""
    marker = f"marker-{os.urandom(8).hex()}"
    point = (host.mounts / "demosecure").relative_to(ROOT)
    host.salt("dsvolume.mount", "demosecure", "--out=json").has(Changed=True)
    host.salt("dsvolume.mount", "demosecure", "id=second", status=1).says(
        "Volume in use by salt:salt@"
    )
    host.shell(f"echo {marker} > {point}/secret")
    mounted = host.shell(f"findmnt -n -o FSTYPE,OPTIONS {point}")
    mounted.says("tmpfs", "nosuid,nodev,noexec", "mode=700")
    if _kernel() >= (6, 4):
        mounted.says("noswap")
    host.salt("dsvolume.unmount", "demosecure", "--out=json").has(Mountpoint="")
    found = subprocess.run(
        ["grep", "-r", "-l", marker, str(host.root)], capture_output=True, text=True, check=False
    )
    expect(not found.stdout, "what was written is in no file below the state directory")
    host.salt("dsvolume.mount", "demosecure", "--out=json").has(Changed=True)
    expect(not list((ROOT / point).iterdir()), "mounted again, it is empty")
    host.salt("dsvolume.unmount", "demosecure", "--out=json").has(Mountpoint="")


def _kernel() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def kill(host: Host) -> None:
    """A salt-call is killed (kill -9) while mkfs runs. What it began is undone by the doctor."""
    left: list[dict[str, Any]] = []
    for _ in range(10):
        _kill_a_create(host)
        left = host.salt("dsvolume.operations", "--out=json").data()
        if left:
            break
        say("The create was faster than the kill; once more:")
        destroy(host, "demokilled")
    expect(left and left[0]["Volume"] == "demokilled", "the operation is left")
    expect(left[0]["Verb"] == "create" and left[0]["Alive"] is False, "nobody works on it")
    table(host.salt("dsvolume.ls", "filter=name=demokilled"), {})
    doctor(host, None)
    doctor(host, True, "fix=True")
    expect(host.salt("dsvolume.doctor", "--out=json").data() == [], "nothing disagrees any more")
    expect(not any(host.processes()), "the killed one's mkfs is gone too")
    host.salt("dsvolume.info", "demokilled", status=1).says("No such volume: demokilled")


def _kill_a_create(host: Host) -> None:
    # A large one, so that mkfs takes a moment; the file is sparse.
    size = min(20000, shutil.disk_usage(host.root).free // 2**21)
    process = host.start(
        "dsvolume.create", "demokilled", "policy=local", "fstype=ext4", f"size={size}"
    )
    until = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < until:
        if any(name.startswith("mkfs.") for _, name in host.processes()):
            say(paint(f"$ kill -9 {process.pid}", BOLD))
            process.kill()
            break
    _, err = process.communicate(timeout=LIMIT)
    if process.returncode not in (0, -signal.SIGKILL):
        raise Unexpected(f"a create that can be killed: {err.strip()}")


def doctor(host: Host, fixed: bool | None, *arguments: str) -> None:
    """The doctor's finding on the killed create, mended or not."""
    findings = host.salt("dsvolume.doctor", *arguments, "--out=json").data()
    says = [f["Says"] for f in findings if (f["Kind"], f["Name"]) == ("operation", "demokilled")]
    begin = "The create of demokilled was left at step "
    expect(len(says) == 1 and says[0].startswith(begin), "the doctor names the create")
    expect(all(f["Fixed"] is fixed for f in findings), f"Fixed is {json.dumps(fixed)}")


def states(host: Host) -> None:
    """The same as states: foretold by test=True, made, and then nothing more to do."""
    apply = ("state.apply", "examples.volumes", "--state-output=terse")
    host.salt(*apply, "test=True").says("unchanged=5, changed=5", "Failed:    0")
    host.salt("dsvolume.ls", "filter=name=example-*")
    expect(not list(host.mounts.glob("example-*")), "the test has written nothing")
    host.salt(*apply).says("Succeeded: 5 (changed=5)", "Failed:    0")
    table(
        host.salt("dsvolume.ls", "filter=label=purpose=example"),
        {"example-ext4": f"ds-local/ext4 local 100 true {_node(host)} {host.mounts}/example-ext4"},
    )
    again = host.salt(*apply).says("Succeeded: 5\n", "Failed:    0")
    expect("changed=" not in again.text, "a second run changes nothing")
    host.salt("state.apply", "examples.no_volumes", "--state-output=terse").says(
        "Succeeded: 5 (changed=5)", "Failed:    0"
    )


def _node(host: Host) -> str:
    """This minion's id, as every record tells it."""
    process = subprocess.run(
        [str(SALT_CALL), "--local", "config.get", "id", "--out=json"],
        cwd=ROOT,
        env=host.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    return str(json.loads(process.stdout)["local"])


def tell(host: Host) -> None:
    """What happened is kept for a week: who, what, and why not."""
    answer = host.salt("dsvolume.events", "filter=volume=demo*").says(
        "demovol1: (from libstorage) Volume create success",
        "demovol1: (from libstorage) Mount success",
        "demovol1: (from libstorage) Unmount[demovol1] success",
        "demovol1: (from libstorage) Volume create failed Volume exists with other options",
        "demokilled: (from libstorage) Volume create failed its process ended",
        "demovol1: (from libstorage) Volume destroy success",
        "demovol1: (from libstorage) Volume undelete success",
    )
    line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z \S+: \(from libstorage\) .*"
    lines = answer.text.splitlines()
    expect(all(re.fullmatch(line, text) for text in lines), "each is one line, the time first")
    expect(lines == sorted(lines), "in order of time")


def trash(host: Host) -> None:
    """What is removed is kept for a week, unless pillar says otherwise, and comes back whole."""
    host.salt("dsvolume.rm", "demovol1", "--out=json", "--out-indent=-1").has(Name="demovol1")
    host.salt("dsvolume.info", "demovol1", status=1).says("No such volume: demovol1")
    kept = host.salt("dsvolume.trash_ls").says("demovol1   local    ext4   100")
    expect(len(kept.text.splitlines()) == 2, "the trash holds nothing else")
    host.salt("dsvolume.undelete", "demovol1", "--out=json", "--out-indent=-1").has(Name="demovol1")
    shown = (host.mounts / "demovol1").relative_to(ROOT)
    host.salt("dsvolume.mount", "demovol1", "--out=json").has(Changed=True)
    host.shell(f"cmp /etc/hosts {shown}/hosts")
    host.salt("dsvolume.unmount", "demovol1", "--out=json").has(Mountpoint="")


def destroy(host: Host, name: str) -> None:
    """Past the trash."""
    answer = host.salt("dsvolume.rm", name, "purge=True", "--out=json", "--out-indent=-1")
    answer.has(Name=name)


def remove(host: Host) -> None:
    """Everything goes, with its data, past the trash or out of it; this host is as it was."""
    host.salt("dsvolume.rm", "demoram", "--out=json", "--out-indent=-1").has(Name="demoram")
    for name in ("demolocal1", "demovol1", "newvolume", "demoraw", "demoram", "demosecure"):
        destroy(host, name)
    table(host.salt("dsvolume.ls"), {})
    expect(host.salt("dsvolume.trash_ls", "--out=json").data() == [], "the trash is empty")
    expect(host.salt("dsvolume.doctor", "--out=json").data() == [], "the doctor has nothing to say")
    expect(not host.mounted() and not host.loops(), "no mount and no loop device is left")
    left = host.files()
    expect(not left, f"no file of a volume is left{': ' + ', '.join(left) if left else ''}")


STORY: tuple[tuple[str, Callable[[Host], None]], ...] = (
    ("An empty host", look),
    ("Volumes of every policy", create),
    ("Files", use),
    ("Several users", share),
    ("The same again, and another", ask_again),
    ("Snapshots", snapshots),
    ("Limits", limits),
    ("Secure", secret),
    ("Killed in the middle", kill),
    ("States", states),
    ("Removed, and back", trash),
    ("Events", tell),
    ("Clean up", remove),
)


def tell_story(host: Host) -> None:
    host.configure()
    own = host.root.relative_to(ROOT)
    say(f"State of this demo: {own}, a directory of its own; the checkout's .state is not touched.")
    say(
        f"Its configuration: {own}/etc/minion (SALT_SALTFILE={own}/Saltfile), made from etc/minion."
    )
    for number, (title, chapter) in enumerate(STORY, 1):
        say()
        say(paint(f"{number}. {title}", BOLD))
        say(f"   {chapter.__doc__}")
        chapter(host)


def interrupted(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    if os.geteuid() != 0:
        print("The demo mounts filesystems: run it as root.", file=sys.stderr)
        return 1
    if not SALT_CALL.exists():
        print("There is no .venv yet: run make demo, which makes it.", file=sys.stderr)
        return 1
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"  # some logins leave these out
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    begun = time.monotonic()
    failure = ""
    host = Host()
    try:
        tell_story(host)
    except Unexpected as exc:
        failure = f"expected: {exc}"
    except KeyboardInterrupt:
        failure = "interrupted"
    except Exception as exc:
        failure = f"{type(exc).__name__}: {exc}"
        if isinstance(exc, BrokenPipeError):  # make demo | head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        left = host.clear()
    say()
    if left:
        failure = "; ".join([*filter(None, [failure]), f"left behind: {', '.join(left)}"])
    took = f"{time.monotonic() - begun:.0f} s"
    if failure:
        say(paint(f"The demo failed after {took}: {failure}", RED))
        return 1
    say(paint(f"All as expected, nothing left behind. {took}.", GREEN))
    return 0


if __name__ == "__main__":
    sys.exit(main())
