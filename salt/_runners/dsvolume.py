"""
The volumes of a cluster, seen from the master.

:depends: the package ``libstorage`` (``salt-run saltutil.sync_all`` brings it)
:configuration: the mapping ``dsvolume`` in the master's configuration; see
    ``docs/configuration.md``. The master needs to know the store alone:

.. code-block:: yaml

    # /etc/salt/master.d/dsvolume.conf
    dsvolume:
      store:
        kind: etcd
        endpoints: [https://10.0.0.1:2379]

All functions but ``doctor`` read the store, and ask no minion. On the command line the answers are
tables and lines; with ``--out=json``, and for orchestrations, they are mappings of lists.
"""

import contextlib
import functools

import salt.client
import salt.utils.sdb
from salt.exceptions import CommandExecutionError, SaltClientError

try:
    import libstorage
    from libstorage import config, overview
    from libstorage.errors import InvalidInput, LibstorageError
    from libstorage.managers import open_manager

    MISSING = ""
except ImportError as exc:
    MISSING = str(exc)

VERSION = "0.1.0"

__virtualname__ = "dsvolume"


def __virtual__():
    if MISSING:
        return False, f"dsvolume needs libstorage ({MISSING}); run salt-run saltutil.sync_all"
    if unfit := libstorage.unfit(VERSION):
        return False, f"The runner dsvolume {unfit}"
    return __virtualname__


def _door(verb):
    """
    libstorage's errors as Salt's; answers with what shows them on the command line.

    Wrong input too: with SaltInvocationError salt-run would end with status 0.
    """

    @functools.wraps(verb)
    def call(*args, **kwargs):
        try:
            answer = verb(*args, **kwargs)
        except LibstorageError as exc:
            raise CommandExecutionError(str(exc)) from None
        return {**answer, "outputter": "dsvolume_cluster"}

    return call


@contextlib.contextmanager
def _manager():
    """A manager of the master's own for one call; it changes nothing."""
    manager = open_manager(config.of_salt(__opts__, None, salt.utils.sdb.sdb_get))
    try:
        yield manager
    finally:
        manager.close()


def _list(value):
    """A list from what the command line gives: nothing, a word, several with commas, a list."""
    if value is None:
        return []
    return [word for word in value.split(",") if word] if isinstance(value, str) else list(value)


@_door
def ls(filter=None):
    """
    The volumes of the cluster.

    filter
        ``KEY=PATTERN``, several with commas or as a list, as in the module's ``ls``.

    Returns ``{"Volumes": [record]}``, by name.

    CLI Example:

    .. code-block:: bash

        salt-run dsvolume.ls
        salt-run dsvolume.ls filter=policy=local,inuse=true
    """
    with _manager() as manager:
        return {"Volumes": manager.ls(_list(filter))}


@_door
def nodes():
    """
    The nodes that have an agent, a volume in use, or data.

    Returns ``{"Nodes": [record]}``, as the module's ``nodes``.

    CLI Example:

    .. code-block:: bash

        salt-run dsvolume.nodes
    """
    with _manager() as manager:
        return {"Nodes": manager.nodes()}


@_door
def top(count=10, node=None):
    """
    What is used most: the nodes by their users, and the volumes by their users and last access.

    count : 10
        How many volumes.

    node
        What is in use on this node alone.

    Returns ``{"Nodes": [row], "Top": [row]}``.

    CLI Example:

    .. code-block:: bash

        salt-run dsvolume.top
        salt-run dsvolume.top count=3 node=host1
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidInput(f"count must be a whole number from 1, not {str(count)[:60]!r}")
    with _manager() as manager:
        return overview.top(manager, count, None if node is None else str(node))


@_door
def events(since=None, until=None, filter=None):
    """
    What happened in the cluster, in order of time.

    since, until
        RFC 3339 times, Unix seconds, or ages such as ``90s``, ``10m``, ``2h``, ``7d``.

    filter
        ``KEY=PATTERN``, several with commas or as a list: volume, verb, node, success.

    Returns ``{"Events": [event]}``.

    CLI Example:

    .. code-block:: bash

        salt-run dsvolume.events since=10m
        salt-run dsvolume.events filter=success=false,node=host1
    """
    with _manager() as manager:
        return {"Events": manager.events(since, until, _list(filter))}


@_door
def history(name):
    """
    All that is known of a volume, and of removed ones that had its name.

    name
        The volume; it may be gone.

    Returns ``{"Volume": record or None, "Operation": change in progress or None, "Trash": [row],
    "Events": [event]}``, the events in order of time.

    CLI Example:

    .. code-block:: bash

        salt-run dsvolume.history db
    """
    with _manager() as manager:
        return overview.history(manager, str(name) if type(name) is int else name)


@_door
def doctor(tgt="*", tgt_type="glob", fix=False, timeout=None):
    """
    What disagrees between the store and the hosts, as the doctors of all nodes find it.

    tgt : *
        The minions that are asked, by one job.

    tgt_type : glob
        How they are matched.

    fix : False
        Let them mend it; see the module's ``doctor``.

    timeout
        Seconds that a doctor waits for others' work; and for which minions are waited for, unless
        they say that they are still at it.

    Returns ``{"Findings": [{"Nodes", "Kind", "Name", "Says", "Fixed"}], "Asked": [node]}``. No
    findings are good news: a node that did not answer, or could not, is one.

    CLI Example:

    .. code-block:: bash

        salt-run dsvolume.doctor
        salt-run dsvolume.doctor 'web*' fix=True
    """
    kwarg = {"fix": fix} if timeout is None else {"fix": fix, "timeout": timeout}
    answers = _ask("dsvolume.doctor", kwarg, str(tgt), tgt_type, timeout)
    findings = {node: _told(answer) for node, answer in answers.items()}
    return {"Findings": overview.merged(findings), "Asked": sorted(findings)}


def _ask(function, kwarg, tgt, tgt_type, timeout):
    """One job on minions: what each of them returned, None of those that did not."""
    answers = {}
    try:
        with salt.client.get_local_client(mopts=__opts__) as client:
            for part in client.cmd_iter(
                tgt, function, kwarg=kwarg, timeout=timeout, tgt_type=tgt_type, expect_minions=True
            ):
                answers.update(part)
    except SaltClientError as exc:
        raise CommandExecutionError(f"No minion could be asked: {exc}") from None
    if not answers:
        raise CommandExecutionError(f"No minion matches {tgt} ({tgt_type})")
    return {node: None if answer.get("failed") else answer for node, answer in answers.items()}


def _told(answer):
    """A minion's findings; where it has none to give, that is the one."""
    if answer is not None and isinstance(answer.get("ret"), list):
        return answer["ret"]
    if answer is None:
        says = (
            "This node did not answer: see whether its minion runs, and whether it is overloaded."
        )
    else:
        says = f"The doctor of this node failed: {' '.join(str(answer.get('ret')).split())}"
    return [{"Kind": "node", "Name": "doctor", "Says": says, "Fixed": None}]
