"""The tables of all commands, in the order of what they are about."""

from . import DESCRIPTION, show
from .command import (
    NODES,
    PROFILES,
    REMOVED,
    SNAPSHOTS,
    VOLUMES,
    Command,
    by_first,
    by_nothing,
    by_snapshot,
    documents,
    joined,
    response,
    responses,
    sized,
    text,
)
from .words import BOOL, LIST, NUMBER, TEXT, Flag

POLICIES = ("distributed", "distributed-fs", "local", "ram", "secure")
FSTYPES = ("ext2", "ext3", "ext4", "xfs", "btrfs", "raw")

GROUPS = {
    "": DESCRIPTION,
    "qos": "Manage QoS: limits of volumes",
    "snapshot": "Manage snapshots of volumes",
    "trash": "Look at removed volumes that are kept",
}

OPTION = Flag("opt", LIST, "Option of the policy, as KEY=VALUE", short="o")
VOLUME_OF = Flag("volume", TEXT, "The snapshot's volume", short="v", completes=VOLUMES)
LIMITS = tuple(
    Flag(name, NUMBER, help, default=default)
    for name, help, default in (
        ("read-iops", "Reads per second; 0 is no limit", "100"),
        ("read-bw", "Bytes read per second", "10000"),
        ("write-iops", "Writes per second", "100"),
        ("write-bw", "Bytes written per second", "10000"),
        ("weight", "10 to 1000, against other users of the device", "500"),
    )
)
GLOBAL = Flag("global", BOOL, "Globally too; then volumes may be left out", short="g")

_VOLUMES = (
    Command(
        "create",
        "create",
        "VOLUME",
        "Create a volume",
        response("create acked"),
        Flag("size", NUMBER, "Size in MB", short="z", default="100"),
        Flag(
            "policy",
            TEXT,
            f"One of {', '.join(POLICIES)}",
            short="p",
            default="distributed",
            completes=POLICIES,
        ),
        Flag("shared", BOOL, "Whether containers may share it", short="s", default="true"),
        Flag("automigrate", BOOL, "Whether it may move to the archive by itself", short="m"),
        Flag(
            "fstype",
            TEXT,
            f"One of {', '.join(FSTYPES)}",
            short="f",
            default="xfs",
            older="filesys",
            completes=FSTYPES,
        ),
        OPTION,
        Flag("label", LIST, "Label, as KEY=VALUE", argument="labels"),
    ),
    Command(
        "rm",
        "rm",
        "VOLUME",
        "Remove a volume; its data are kept in the trash",
        response("rm"),
        Flag("force", BOOL, "Also where stopped containers refer to it"),
        Flag("purge", BOOL, "Destroy the data now"),
        completes=(VOLUMES,),
    ),
    Command(
        "undelete",
        "undelete",
        "VOLUME",
        "Bring a removed volume back from the trash",
        lambda about, answer: response("undelete")({**about, "Name": answer["Name"]}, answer),
        Flag("id", TEXT, "The one with this Id, not the newest of the name"),
        Flag("name", TEXT, "Bring it back under this name", argument="new"),
        completes=(REMOVED,),
    ),
    Command(
        "info",
        "info",
        "VOLUME [VOLUME...]",
        "Display all about volumes",
        documents(show.VOLUME, "volume info"),
        completes=(VOLUMES,),
    ),
    Command(
        "ls",
        "ls",
        "",
        "List volumes",
        text(show.volumes),
        Flag("filter", LIST, "Only those with KEY=PATTERN, such as policy=local"),
        ask=joined,
        about=by_nothing,
    ),
    Command(
        "usage",
        "usage",
        "VOLUME [VOLUME...]",
        "Display the room that files take",
        documents(show.USAGE, "volume usage"),
        Flag("summary", BOOL, "Directories only, not every file", short="s", default="true"),
        completes=(VOLUMES,),
    ),
    Command(
        "resize",
        "resize",
        "VOLUME",
        "Make a volume larger",
        response("resize", "MBSize"),
        Flag("size", NUMBER, "Size in MB, in all", short="z"),
        ask=sized,
        needs=("size",),
        completes=(VOLUMES,),
    ),
    Command(
        "adopt",
        "adopt",
        "VOLUME OBJECT",
        "Make a volume of what others have made, such as POOL/IMAGE",
        response("adopt"),
        Flag("policy", TEXT, "Whose storage it is in", short="p", default="distributed"),
        about=by_first,
    ),
    Command(
        "flatten",
        "flatten",
        "VOLUME",
        "Make a clone a volume of its own",
        response("flatten"),
        completes=(VOLUMES,),
    ),
    Command(
        "label",
        "label",
        "VOLUME KEY=VALUE [KEY=VALUE...]",
        "Set labels of a volume; KEY= removes one",
        response("label"),
        about=by_first,
        completes=(VOLUMES, ""),
    ),
    Command(
        "protect",
        "protect",
        "VOLUME",
        "Keep a volume from being removed",
        response("protect"),
        completes=(VOLUMES,),
    ),
    Command(
        "unprotect",
        "unprotect",
        "VOLUME",
        "Let a volume be removed again",
        response("unprotect"),
        completes=(VOLUMES,),
    ),
    Command(
        "mount",
        "mount",
        "VOLUME",
        "Mount a volume on this node, without a container",
        response("mount", "Mountpoint"),
        Flag("id", TEXT, "Who uses it", default="salt"),
        completes=(VOLUMES,),
    ),
    Command(
        "umount",
        "unmount",
        "VOLUME",
        "Unmount a volume that was mounted by mount",
        response("umount"),
        Flag("id", TEXT, "Who used it", default="salt"),
        completes=(VOLUMES,),
    ),
    Command(
        "trash ls",
        "trash_ls",
        "[VOLUME]",
        "List removed volumes that are kept",
        text(show.trash),
        completes=(REMOVED,),
    ),
)

_SNAPSHOTS = (
    Command(
        "snapshot create",
        "snapshot_create",
        "SNAPSHOT",
        "Keep what a volume holds now, as SNAPSHOT of -v VOLUME",
        response("snapshot create"),
        VOLUME_OF,
        about=by_snapshot,
    ),
    Command(
        "snapshot rm",
        "snapshot_rm",
        "VOLUME@SNAPSHOT",
        "Remove a snapshot (also: -v VOLUME SNAPSHOT)",
        response("snapshot rm"),
        VOLUME_OF,
        about=by_snapshot,
        completes=(SNAPSHOTS,),
    ),
    Command(
        "snapshot ls",
        "snapshot_ls",
        "",
        "List snapshots",
        text(show.snapshots),
        Flag("volume", TEXT, "Only those of this volume", short="v", completes=VOLUMES),
        about=by_nothing,
    ),
    Command(
        "snapshot info",
        "snapshot_info",
        "VOLUME@SNAPSHOT [VOLUME@SNAPSHOT...]",
        "Display all about snapshots",
        documents(show.SNAPSHOT),
        completes=(SNAPSHOTS,),
    ),
    Command(
        "snapshot clone",
        "snapshot_clone",
        "VOLUME@SNAPSHOT NEWVOLUME",
        "Make a new volume from a snapshot",
        response("snapshot clone"),
        OPTION,
        about=by_snapshot,
        completes=(SNAPSHOTS, ""),
    ),
    *(
        Command(
            name,
            "rollback",
            "VOLUME@SNAPSHOT",
            "Bring a volume back to a snapshot",
            response(name),
            about=by_snapshot,
            completes=(SNAPSHOTS,),
        )
        for name in ("rollback", "snapshot rollback")
    ),
)

_QOS = (
    Command(
        "qos create", "qos_create", "PROFILE", "Make a profile", response("QoS create"), *LIMITS
    ),
    Command(
        "qos edit",
        "qos_edit",
        "PROFILE",
        "Change limits of a profile",
        response("QoS edit"),
        *(Flag(flag.name, NUMBER, flag.help) for flag in LIMITS),
        completes=(PROFILES, ""),
    ),
    Command(
        "qos rm",
        "qos_rm",
        "PROFILE",
        "Remove a profile",
        response("QoS rm"),
        completes=(PROFILES, ""),
    ),
    Command(
        "qos ls",
        "qos_ls",
        "",
        "List the global switch and the profiles",
        text(show.profiles),
        about=by_nothing,
    ),
    Command(
        "qos info",
        "qos_info",
        "PROFILE [PROFILE...]",
        "Display profiles, and which volumes have them",
        documents(show.PROFILE),
        completes=(PROFILES,),
    ),
    Command(
        "qos apply",
        "qos_apply",
        "VOLUME [VOLUME...]",
        "Give volumes a profile",
        responses("QoS apply"),
        Flag("profile", TEXT, "The profile", short="p", completes=PROFILES),
        needs=("profile",),
        completes=(VOLUMES,),
    ),
    *(
        Command(
            f"qos {verb}",
            f"qos_{verb}",
            "[VOLUME...]",
            help,
            responses(f"QoS {verb}"),
            GLOBAL,
            completes=(VOLUMES,),
        )
        for verb, help in (
            ("enable", "Let volumes be limited by their profile"),
            ("disable", "Let volumes be limited no more"),
        )
    ),
)

_CLUSTER = (
    Command(
        "events",
        "events",
        "",
        "Show what happens to volumes, among docker's own events",
        text(str),
        Flag("since", TEXT, "Show what happened since this time, or age (10m, 1h30m, 7d)"),
        Flag("until", TEXT, "Go on up to this time, or age"),
        Flag(
            "filter",
            LIST,
            "Only with KEY=VALUE: docker's keys (type, event, volume, container, ...), or verb, "
            "node, success",
            short="f",
        ),
        about=by_nothing,
    ),
    Command(
        "operations",
        "operations",
        "",
        "List the changes in progress",
        text(show.operations),
        about=by_nothing,
    ),
    Command(
        "doctor",
        "doctor",
        "",
        "Find what disagrees between records and this host",
        text(show.findings),
        Flag("fix", BOOL, "Mend it"),
        Flag("rebuild", BOOL, "Make a lost store anew from the copies beside the data"),
        about=by_nothing,
    ),
    Command(
        "version", "version", "", "Show versions and places", text(show.fields), about=by_nothing
    ),
    Command("nodes", "nodes", "", "List nodes", text(show.nodes), about=by_nothing),
    Command(
        "capacity",
        "capacity",
        "",
        "Display how full this node's storage is",
        text(show.capacity),
        about=by_nothing,
    ),
    Command(
        "drain",
        "drain",
        "NODE",
        "Let a node take no new mounts, and wait until it is empty",
        response("drain"),
        Flag("force", BOOL, "Take the volumes from their users"),
        completes=(NODES, ""),
    ),
    Command(
        "undrain",
        "undrain",
        "NODE",
        "Let a drained node take mounts again",
        response("undrain"),
        completes=(NODES, ""),
    ),
    Command(
        "force-detach",
        "force_detach",
        "VOLUME NODE",
        "Take a volume from a node and all who use it there",
        response("force-detach", "Node", "Users"),
        about=by_first,
        completes=(VOLUMES, NODES, ""),
    ),
    Command(
        "fence",
        "fence",
        "NODE",
        "Release what a dead node has attached",
        response("fence", "Released"),
        Flag("confirmed", BOOL, "Your word that the node is switched off"),
        completes=(NODES, ""),
    ),
    Command(
        "forget-node",
        "forget_node",
        "NODE",
        "Delete all that is known of a node that never comes back",
        response("forget-node", "Lost"),
        Flag("force", BOOL, "Also give up volumes whose only data were there"),
        completes=(NODES, ""),
    ),
)

COMMANDS = {command.name: command for command in (*_VOLUMES, *_SNAPSHOTS, *_QOS, *_CLUSTER)}


def members(group: str) -> "dict[str, str]":
    """The commands of a group, by the word for each, and what they do."""
    found = {}
    for name, command in COMMANDS.items():
        first, _, last = name.rpartition(" ")
        if first == group:
            found[last] = command.help
    return found


def find(words: "list[str]") -> "tuple[str, Command | None, list[str]]":
    """
    The command that words begin with, and the words behind it.

    Returns the name, also where it is a group's (with no command) or ``""``.
    """
    group = words[0] if words and words[0] in GROUPS else ""
    name = " ".join(words[: 2 if group else 1])
    if name in COMMANDS:
        return name, COMMANDS[name], words[2 if group else 1 :]
    return group, None, words[1 if group else 0 :]
