"""The outputters: a table of volumes and lines of events, for one minion and for many."""

import copy
from typing import Any

import pytest
import salt.output
from checkout import HEADER, cells

from lab.site import NODE

OUTPUTTERS = ["dsvolume_ls", "dsvolume_events"]


@pytest.fixture
def show(opts: dict[str, Any]) -> Any:
    """Shows an answer as salt and salt-call would, without colours."""

    def show(data: Any, outputter: str) -> str:
        plain = {**opts, "color": False}
        return str(salt.output.out_format(copy.deepcopy(data), outputter, plain))

    return show


@pytest.fixture
def volumes(modules: Any) -> list[dict[str, Any]]:
    modules["dsvolume.create"]("a-volume-with-a-long-name", policy="ram", size=8)
    modules["dsvolume.create"]("b", policy="local")
    answer: list[dict[str, Any]] = modules["dsvolume.ls"]()
    return answer


A = ["a-volume-with-a-long-name", NODE, "ds-ram/tmpfs", "ram", "8", "true", "-"]
B = ["b", NODE, "ds-local/", "local", "0", "true", "-"]


def test_ls_and_events_choose_their_outputters(modules: Any) -> None:
    chosen = modules["dsvolume.ls"].__globals__["__outputter__"]
    assert chosen == {
        "ls": "dsvolume_ls",
        "events": "dsvolume_events",
        "snapshot_ls": "dsvolume_snapshots",
        "qos_ls": "dsvolume_qos",
        "trash_ls": "dsvolume_trash",
    }


def test_one_minion_has_the_table_alone(show: Any, volumes: list[Any]) -> None:
    lines = show({"local": volumes}, "dsvolume_ls").splitlines()
    assert [cells(line) for line in lines] == [HEADER, A, B]
    assert all(line == line.rstrip() for line in lines)


def test_no_volumes_are_a_header(show: Any) -> None:
    assert cells(show({"local": []}, "dsvolume_ls")) == HEADER


def test_several_minions_have_a_table_each_under_their_name(show: Any, volumes: list[Any]) -> None:
    lines = show({"host1": volumes, "host2": []}, "dsvolume_ls").splitlines()
    assert lines[0] == "host1:" and lines[4] == "host2:"
    assert [cells(line) for line in lines[1:4]] == [HEADER, A, B]
    assert [cells(line) for line in lines[5:]] == [HEADER]


def test_an_event_is_a_line(show: Any, modules: Any, volumes: list[Any]) -> None:
    events = modules["dsvolume.events"](filter="volume=b")
    text = f"{events[0]['Time']} b: (from libstorage) Volume create success"
    assert show({"local": events}, "dsvolume_events") == text
    assert show({"host1": events, "host2": []}, "dsvolume_events").splitlines() == [
        "host1:",
        text,
        "host2:",
    ]
    assert show({"local": []}, "dsvolume_events") == ""


@pytest.mark.parametrize("outputter", OUTPUTTERS)
@pytest.mark.parametrize(
    "said",
    [
        "The store cannot be read",
        "'dsvolume.ls' is not available.",
        "Minion did not return. [No response]",
        False,
        None,
        ["some", "words"],
    ],
)
def test_what_is_no_answer_is_shown_as_salt_does(show: Any, outputter: str, said: Any) -> None:
    assert show({"host1": said}, outputter) == show({"host1": said}, "nested")
    lines = show({"host1": said, "host2": []}, outputter)
    assert lines.startswith(show({"host1": said}, "nested")) and "host2:" in lines


def test_snapshots_are_a_table(show: Any) -> None:
    row = {"Name": "s", "Volume": "v", "CreatedBy": "h", "Size": 8 * 2**20, "Children": ["c"]}
    lines = show({"local": [row]}, "dsvolume_snapshots").splitlines()
    assert cells(lines[0]) == ["Volume@Snapshot", "CreatedBy", "Size", "NumChildren"]
    assert cells(lines[1]) == ["v@s", "h", "8388608", "[1]"]


def test_profiles_are_a_table_below_the_switch(show: Any, modules: Any) -> None:
    modules["dsvolume.qos_create"]("newprofile", read_bw=2000, write_bw=1000, weight=777)
    switch = modules["dsvolume.qos_ls"]()
    lines = show({"local": switch}, "dsvolume_qos").splitlines()
    assert lines[0] == "Global QoS Enabled"
    assert [cells(line) for line in lines[1:]] == [
        ["Name", "ReadIOPS", "ReadBW", "WriteIOPS", "WriteBW", "Weight"],
        ["default", "200", "20000", "100", "10000", "600"],
        ["newprofile", "100", "2000", "100", "1000", "777"],
    ]
    assert "host2:" in show({"host1": switch, "host2": switch}, "dsvolume_qos")
    assert show({"host1": "No"}, "dsvolume_qos") == show({"host1": "No"}, "nested")
    off = {**switch, "Global": False}
    assert show({"local": off}, "dsvolume_qos").startswith("Global QoS Disabled\n")


def test_the_trash_is_a_table(show: Any) -> None:
    row = {
        "Name": "v",
        "Id": "72405321-61e0-4877-b95e-7aa2cc8046b5",
        "Policy": "local",
        "Fstype": "",
        "MBSize": 0,
        "TrashedAt": "2026-11-24T06:45:11.206230Z",
        "Until": "2026-12-01T06:45:11.206230Z",
        "By": {"door": "salt"},
    }
    lines = show({"local": [row]}, "dsvolume_trash").splitlines()
    assert cells(lines[0]) == ["NAME", "Policy", "Fs", "Size(MB)", "Removed", "Until", "Id"]
    times = ["2026-11-24T06:45:11Z", "2026-12-01T06:45:11Z"]
    assert cells(lines[1]) == ["v", "local", "-", "0", *times, row["Id"]]


def test_an_answer_of_the_runner_is_shown_part_by_part(show: Any, volumes: list[Any]) -> None:
    data = {"Volumes": volumes, "Trash": [], "Operation": None, "outputter": "dsvolume_cluster"}
    lines = show(data, "dsvolume_cluster").splitlines()
    assert [cells(line) for line in lines] == [HEADER, A, B]
    assert "Exception occurred" in show("Exception occurred in runner", "dsvolume_cluster")
    assert "db" in show({"Volume": {"Name": "db"}, "outputter": "x"}, "dsvolume_cluster")
