"""``docker dsvolume`` on a real bridge: every command, every refusal."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.bridge import Bridge
from lab.cli import ROOT, Cli, Said, plugin_of_docker
from lab.site import KEEPS_TRASH, NODE, Site

EXT4 = ("-p=local", "-f=ext4", "-z=8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def shared_site(place: Path) -> Iterator[Site]:
    assert os.geteuid() == 0, "mounting needs root"
    with Site(place / "site", trash=KEEPS_TRASH) as site:
        yield site


@pytest.fixture(scope="module")
def bridge(place: Path, shared_site: Site) -> Iterator[Bridge]:
    sockets = place / "driver.sock", place / "no-engine.sock"
    with Bridge(place / "bridge", shared_site, *sockets) as bridge:
        yield bridge


@pytest.fixture(scope="module")
def config(place: Path) -> Path:
    return plugin_of_docker(place / "docker")


@pytest.fixture
def cli(bridge: Bridge) -> Iterator[Cli]:
    """The command by its own name."""
    cli = Cli(bridge.admin)
    yield cli
    cli.tidy()


@pytest.fixture
def docker(cli: Cli, bridge: Bridge, config: Path) -> Cli:
    """The command by docker."""
    return Cli(bridge.admin, config)


def responses(said: Said) -> list[Any]:
    """The JSON of response lines."""
    assert said.status == 0 and said.err == "", said
    return [json.loads(line.partition(" response ")[2]) for line in said.lines]


def refusal(said: Said) -> Any:
    """The JSON of a refusal."""
    assert said.status == 1 and said.out == "", said
    front, _, rest = said.err.partition(": ")
    assert front == "Error response from daemon", said
    return json.loads(rest)


# -- answers -------------------------------------------------------------------------------------


def test_responses_name_what_was_done(docker: Cli) -> None:
    done = {"Name": "vol", "Err": ""}
    assert responses(docker("create", *EXT4, "vol")) == [done]
    assert responses(docker("label", "vol", "team=web")) == [done]
    assert responses(docker("protect", "vol")) == [done]
    assert responses(docker("unprotect", "vol")) == [done]
    assert responses(docker("resize", "-z", "12", "vol")) == [{**done, "MBSize": 12}]
    assert responses(docker("flatten", "vol")) == [done]
    [mounted] = responses(docker("mount", "vol"))
    assert mounted["Mountpoint"].endswith("/mounts/vol")
    detached = {"Name": "vol", "Node": NODE, "Users": ["salt:salt"], "Err": ""}
    assert responses(docker("force-detach", "vol", NODE)) == [detached]
    assert responses(docker("umount", "vol")) == [done]
    snap = {"Name": "snap", "Volume": "vol", "Err": ""}
    for create in (("-v=vol", "snap"), ("vol@snap",)):
        for remove in (("vol@snap",), ("-v", "vol", "snap"), ("--volume=vol", "snap")):
            assert responses(docker("snapshot", "create", *create)) == [snap]
            assert responses(docker("snapshot", "rm", *remove)) == [snap]
    docker("snapshot", "create", "vol@snap")
    for rollback in (("rollback",), ("snapshot", "rollback")):
        said = docker(*rollback, "vol@snap")
        assert said.out.startswith(f"dsvolume {' '.join(rollback)} response ")
        assert responses(said) == [snap]
    clone = docker("snapshot", "clone", "-o", "exec=false", "--opt=atime=false", "vol@snap", "new")
    assert responses(clone) == [snap]
    [row] = docker("info", "new", "--format=json").data()
    assert row["Options"] == {"exec": "false", "atime": "false"}
    assert responses(docker("rm", "new")) == [{"Name": "new", "Err": ""}]
    assert responses(docker("undelete", "--name=back", "new")) == [{"Name": "back", "Err": ""}]
    assert responses(docker("rm", "--purge", "back")) == [{"Name": "back", "Err": ""}]


def test_only_what_is_given_is_compared(cli: Cli) -> None:
    assert cli("create", *EXT4, "vol").status == 0
    for again in (["vol"], ["-p=local", "vol"], ["--filesys=ext4", "vol"], ["-m=false", "vol"]):
        assert responses(cli("create", *again)) == [{"Name": "vol", "Err": ""}]
    other = "Volume exists with other options: size 8, asked 9, automigrate false, asked true"
    assert refusal(cli("create", "-m", "-z=9", "vol")) == {"Name": "vol", "Err": other}


def test_create_takes_options_and_labels(cli: Cli) -> None:
    words = ["-o", "exec=false", "-o=mode=0700", "--label", "team=web", "--label=tier=1"]
    assert cli("create", "-p=ram", "-z=8", "-s=false", *words, "memory").status == 0
    [row] = cli("info", "memory", "--format=json").data()
    assert row["Options"] == {"exec": "false", "mode": "0700"}
    assert row["Labels"] == {"team": "web", "tier": "1"}
    assert row["Shared"] is False


def test_file_names_are_shown_as_they_are(cli: Cli) -> None:
    cli("create", "-p=local", "names")
    [mounted] = responses(cli("mount", "names"))
    Path(mounted["Mountpoint"], "grüße").touch()
    for locale in ("C", "C.UTF-8"):
        said = subprocess.run(
            [*cli.front, "usage", "-s=false", "names"],
            env=cli.env | {"LC_ALL": locale},
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert '/names/grüße"' in said.stdout.decode()


def test_tables_have_the_seed_s_columns(cli: Cli) -> None:
    cli("create", *EXT4, "vol")
    cli("create", "-p=local", "directory")
    cli("snapshot", "create", "-v", "vol", "snap")
    cli("mount", "vol")
    [row] = [row for row in cli("ls", "--format=json").data() if row["Name"] == "vol"]
    path = row["Mountpoint"]
    assert cli("ls").lines == [
        "NAME        Created   Type/Fs         Policy   Size(MB)   Shared   Inuse   Path",
        "directory   node1     ds-local/       local    0          true     -",
        f"vol         node1     ds-local/ext4   local    8          true     node1   {path}",
    ]
    for filters in (["fstype=ext4,name=v*"], ["fstype=ext4", "name=v*"]):
        flags = [f"--filter={one}" for one in filters]
        assert [line.split()[0] for line in cli("ls", *flags).lines] == ["NAME", "vol"]
    table = ["Volume@Snapshot   CreatedBy   Size      NumChildren", "vol@snap          node1"]
    for words in ((), ("-v=vol",)):
        assert cli("snapshot", "ls", *words).lines == [
            table[0],
            f"{table[1]}       8388608   [0]",
        ]
    assert cli("snapshot", "ls", "-v", "directory").lines == [
        "Volume@Snapshot   CreatedBy   Size   NumChildren"
    ]


def test_qos_is_told_as_by_the_seed(cli: Cli) -> None:
    cli("create", *EXT4, "one")
    cli("create", *EXT4, "two")
    limits = ["--read-iops=200", "--read-bw", "2000", "--write-bw=1000", "--weight", "777"]
    assert cli("qos", "create", *limits, "fast").lines == [
        'dsvolume QoS create response {"Name":"fast","Err":""}'
    ]
    assert cli("qos", "ls").lines == [
        "Global QoS Enabled",
        "Name      ReadIOPS   ReadBW   WriteIOPS   WriteBW   Weight",
        "default   200        20000    100         10000     600",
        "fast      200        2000     100         1000      777",
    ]
    assert responses(cli("qos", "edit", "--write-iops=50", "fast")) == [{"Name": "fast", "Err": ""}]
    both = [{"Name": name, "Err": ""} for name in ("one", "two")]
    assert responses(cli("qos", "apply", "-p=fast", "one", "two")) == both
    assert responses(cli("qos", "enable", "--global", "one", "two")) == both
    assert responses(cli("qos", "disable", "two")) == both[1:]
    assert responses(cli("qos", "disable", "-g")) == [{"Name": "", "Err": ""}]
    assert cli("qos", "ls").lines[0] == "Global QoS Disabled"
    info = json.loads(cli("qos", "info", "fast").out)
    limits_now = {"ReadIOPS": 200, "ReadBW": 2000, "WriteIOPS": 50, "WriteBW": 1000, "Weight": 777}
    assert info == [{"Name": "fast", **limits_now, "Volumes": ["one", "two"]}]
    states = {row["Name"]: row["QoSState"] for row in cli("ls", "--format=json").data()}
    assert states == {"one": True, "two": False}


def test_the_trash_is_listed(cli: Cli) -> None:
    cli("create", *EXT4, "old")
    [row] = cli("info", "old", "--format=json").data()
    cli("rm", "old")
    header, line = cli("trash", "ls", "old").lines
    assert re.split(" {3,}", header) == [
        *("NAME", "Policy", "Fs", "Size(MB)", "Removed", "Until", "Id")
    ]
    cells = re.split(" {3,}", line)
    assert [*cells[:4], cells[-1]] == ["old", "local", "ext4", "8", row["Id"]]
    assert responses(cli("undelete", "--id", row["Id"], "old")) == [{"Name": "old", "Err": ""}]


def test_events_are_lines_in_order_of_time(cli: Cli) -> None:
    cli("create", "-p=ram", "-z=8", "lines")
    cli("rm", "--purge", "nothing")
    cli("rm", "lines")
    time = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
    lines = cli("events", "--since=1h", "--until=0s", "--filter=volume=lines").lines
    texts = ["Volume create success", "Volume destroy success"]
    assert [re.sub(time, "TIME", line) for line in lines] == [
        f"TIME lines: (from libstorage) {text}" for text in texts
    ]
    assert lines == sorted(lines)
    first = lines[0].split()[0]
    words = ["--until=0s", "--filter", "verb=create", "--filter", "volume=lines"]
    assert cli("events", *words).lines == lines[:1]
    assert cli("events", "--until", first[:19] + "Z", *words[3:]).lines == []
    assert cli("events", "--until=2h").lines == []
    event = cli("events", *words, "--format=json").data()
    assert event["By"] == {"door": "cli", "user": "root"}


def test_the_cluster_is_seen_and_served(cli: Cli) -> None:
    cli("create", *EXT4, "vol")
    header, line = cli("nodes").lines
    assert header.split() == ["NODE", "Agent", "Attached", "Data", "State", "Version", "Policies"]
    assert line.split()[0] == NODE
    assert responses(cli("drain", NODE)) == [{"Name": NODE, "Err": ""}]
    assert cli("nodes").lines[1].split()[4] == "drained"
    assert refusal(cli("mount", "vol"))["Err"].startswith(f"{NODE} is drained since ")
    assert responses(cli("undrain", NODE)) == [{"Name": NODE, "Err": ""}]
    assert cli("nodes").lines[1].split()[4] == "open"
    assert responses(cli("mount", "vol", "--id=backup"))[0]["Name"] == "vol"
    said = refusal(cli("rm", "vol"))
    assert said == {"Name": "vol", "Err": f"Volume in use by salt:backup@{NODE}"}
    assert responses(cli("umount", "vol", "--id", "backup")) == [{"Name": "vol", "Err": ""}]
    assert cli("operations").lines == ["Volume   Verb   Step   Node   Age(s)   Alive"]
    assert cli("doctor").lines == ["Nothing disagrees."]
    version = dict(line.split(": ") for line in cli("version").lines)
    assert (version["libstorage"], version["store"]) == ("0.1.0", "embedded")


def test_the_doctor_says_what_it_found_and_mended(cli: Cli, shared_site: Site) -> None:
    stray = shared_site.root / "local" / "00000000-0000-4000-8000-000000000000"
    stray.mkdir(parents=True)
    os.utime(stray, (0, 0))
    [found] = cli("doctor").lines
    assert "00000000-0000-4000-8000-000000000000" in found and "mended" not in found
    [mended] = cli("doctor", "--fix").lines
    assert mended.endswith(" (mended)")
    assert not stray.exists()


def test_a_dead_node_is_fenced_and_forgotten(cli: Cli, shared_site: Site) -> None:
    cli("create", "-p=local", "vol")
    other = shared_site.manager("node2")
    other.mount("vol", engine="salt", id="web")
    shared_site.reboot("node2")
    other.close()
    said = refusal(cli("fence", "node2"))
    assert said["Name"] == "node2" and "confirmed=True" in said["Err"]
    fenced = {"Name": "node2", "Released": ["vol"], "Err": ""}
    assert responses(cli("fence", "node2", "--confirmed")) == [fenced]
    assert cli("nodes").lines[2].split()[4] == "fenced"
    forgotten = {"Name": "node2", "Lost": [], "Err": ""}
    assert responses(cli("forget-node", "node2", "--force")) == [forgotten]


ANSWERS = [
    (["ls"], list),
    (["ls", "--filter", "name=vol"], list),
    (["info", "vol"], list),
    (["usage", "vol"], list),
    (["snapshot", "ls"], list),
    (["snapshot", "info", "vol@snap"], list),
    (["qos", "ls"], dict),
    (["qos", "info", "default"], list),
    (["qos", "apply", "-p=default", "vol"], list),
    (["qos", "enable", "vol"], list),
    (["qos", "disable", "vol"], list),
    (["qos", "create", "--weight=10", "new"], dict),
    (["qos", "edit", "--weight=20", "new"], dict),
    (["qos", "rm", "new"], dict),
    (["operations"], list),
    (["doctor"], list),
    (["nodes"], list),
    (["capacity"], list),
    (["version"], dict),
    (["label", "vol", "a=b"], dict),
    (["protect", "vol"], dict),
    (["unprotect", "vol"], dict),
    (["resize", "-z=9", "vol"], dict),
    (["flatten", "vol"], dict),
    (["mount", "vol"], dict),
    (["force-detach", "vol", NODE], dict),
    (["umount", "vol"], dict),
    (["snapshot", "create", "vol@two"], dict),
    (["snapshot", "rm", "vol@two"], dict),
    (["rollback", "vol@snap"], dict),
    (["snapshot", "rollback", "vol@snap"], dict),
    (["snapshot", "clone", "vol@snap", "clone"], dict),
    (["rm", "clone"], dict),
    (["trash", "ls"], list),
    (["undelete", "clone"], dict),
    (["drain", NODE], dict),
    (["undrain", NODE], dict),
    (["create", "vol"], dict),
]


def test_format_json_is_the_function_s_answer(cli: Cli, shared_site: Site) -> None:
    cli("create", *EXT4, "vol")
    cli("snapshot", "create", "vol@snap")
    for words, kind in ANSWERS:
        said = cli(*words, "--format=json")
        assert isinstance(said.data(), kind), (words, said)
        assert len(said.lines) == 1 and said.err == "", words
    manager = shared_site.manager()
    assert cli("info", "vol", "--format", "json").data() == manager.info("vol")
    assert cli("ls", "--format", "json").data() == manager.ls([])
    assert cli("snapshot", "ls", "--format", "json").data() == manager.snapshot_ls()
    assert cli("qos", "ls", "--format", "json").data() == manager.qos.ls()


# -- refusals ------------------------------------------------------------------------------------

REFUSALS: list[tuple[list[str], dict[str, str]]] = [
    (["rm", "nobody"], {"Name": "nobody"}),
    (["info", "nobody"], {"Name": "nobody"}),
    (["info", "vol", "nobody"], {"Name": "vol,nobody"}),
    (["usage", "nobody"], {"Name": "nobody"}),
    (["resize", "-z", "9", "nobody"], {"Name": "nobody"}),
    (["flatten", "nobody"], {"Name": "nobody"}),
    (["label", "nobody", "a=b"], {"Name": "nobody"}),
    (["protect", "nobody"], {"Name": "nobody"}),
    (["unprotect", "nobody"], {"Name": "nobody"}),
    (["mount", "nobody"], {"Name": "nobody"}),
    (["force-detach", "nobody", NODE], {"Name": "nobody"}),
    (["snapshot", "create", "nobody@snap"], {"Name": "snap", "Volume": "nobody"}),
    (["snapshot", "create", "-v=nobody", "snap"], {"Name": "snap", "Volume": "nobody"}),
    (["snapshot", "ls", "-v", "nobody"], {}),
    (["qos", "apply", "-p=default", "vol", "nobody"], {"Name": "vol,nobody"}),
    (["qos", "enable", "nobody"], {"Name": "nobody"}),
    (["qos", "disable", "nobody"], {"Name": "nobody"}),
]


def test_an_unknown_volume_is_refused_by_every_command(docker: Cli) -> None:
    docker("create", *EXT4, "vol")
    for words, about in REFUSALS:
        said = refusal(docker(*words))
        assert said == {**about, "Err": "No such volume: nobody"}, words


@pytest.mark.parametrize(
    ("words", "name", "says"),
    [
        (["create", "-p=local", "../x"], "../x", "Not a volume name"),
        (["create", "-p=fast", "x"], "x", "fast"),
        (["create", "-z=0", "x"], "x", "size must be a number of MB from 1 up"),
        (["create", "-z", "-5", "x"], "x", "size must be a number of MB from 1 up"),
        (["create", "-p=local", "-f=ntfs", "x"], "x", "ntfs"),
        (["create", "-p=secure", "-s", "-z=8", "x"], "x", "shared"),
        (["create", "-o", "nothing", "x"], "x", "opt must be KEY=VALUE"),
        (["create", "-o=colour=red", "-p=ram", "x"], "x", "colour"),
        (["create", b"\xff\xfe"], "\\udcff\\udcfe", "Not a volume name"),
        (["create", "x" * 200], "x" * 200, "Not a volume name"),
        (["label", "x", "="], "x", "label"),
        (["undelete", "x"], "x", "No removed volume: x"),
        (["qos", "info", "none"], "none", "none"),
        (["qos", "rm", "default"], "default", "default"),
        (["qos", "create", "--weight=5", "p"], "p", "weight"),
        (["qos", "enable"], "", "needs a volume"),
        (["fence", "nohost", "--confirmed"], "nohost", "No such node: nohost"),
        (["forget-node", "nohost"], "nohost", "No such node: nohost"),
        (["drain", "nohost"], "nohost", "No such node: nohost"),
    ],
)
def test_a_refusal_is_one_sentence_with_the_name(
    cli: Cli, words: list[str | bytes], name: str, says: str
) -> None:
    said = cli(*words)
    error = refusal(said)
    assert error["Name"].encode(errors="backslashreplace").decode() == name
    assert says in error["Err"] and "\n" not in error["Err"]
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "about", "says"),
    [
        (["rollback", "vol"], {"Name": "vol", "Volume": ""}, "Not a snapshot: 'vol'"),
        (["snapshot", "info", "vol"], {"Name": "vol"}, "Not a snapshot: 'vol'"),
        (["snapshot", "rm", "a@b"], {"Name": "b", "Volume": "a"}, "No such"),
        (["snapshot", "clone", "a@b", "c"], {"Name": "b", "Volume": "a"}, "No such"),
        (["ls", "--filter=colour=red"], {}, "colour"),
    ],
)
def test_a_refusal_names_snapshots_by_their_parts(
    cli: Cli, words: list[str], about: dict[str, str], says: str
) -> None:
    error = refusal(cli(*words))
    assert says in error.pop("Err")
    assert error == about


def test_what_holds_a_volume_is_named(cli: Cli) -> None:
    cli("create", *EXT4, "vol")
    cli("snapshot", "create", "-v=vol", "snap")
    assert refusal(cli("rm", "vol")) == {"Name": "vol", "Err": "Volume has snapshots: snap"}
    cli("snapshot", "clone", "vol@snap", "clone")
    for words in (["vol@snap"], ["-v=vol", "snap"]):
        error = {"Name": "snap", "Volume": "vol", "Err": "Volume snapshot inuse"}
        assert refusal(cli("snapshot", "rm", *words)) == error
    cli("protect", "clone")
    assert "protected" in refusal(cli("rm", "clone"))["Err"]


def test_who_has_read_enough_is_no_failure_that_shows(cli: Cli) -> None:
    for number in range(3):
        cli("create", "-p=local", f"v{number}")
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        done = subprocess.run(
            [*cli.front, "ls"],
            env=cli.env,
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_user_who_is_not_root_is_told_so(bridge: Bridge) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(ROOT / "plugin", Path(folder, "plugin"))
        program = f"{folder}/plugin/bin/docker-dsvolume"
        said = Cli(bridge.admin).run(["setpriv", "--reuid=65534", "--clear-groups", program, "ls"])
    sentence = f"only root may speak to the bridge at {bridge.admin}; use sudo"
    assert (said.status, said.err) == (1, f"docker dsvolume: {sentence}\n")
