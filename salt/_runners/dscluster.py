"""
Clusters that Terraform makes, from the master.

:depends: terraform on PATH, and python-terraform in Salt's Python
:configuration: the mapping ``dscluster`` in the master's configuration:

.. code-block:: yaml

    # /etc/salt/master.d/dscluster.conf
    dscluster:
      folder: /etc/salt/bundles      # bundles, each a folder with bundle.yaml
      project: /srv/libstorage       # the checkout that has terraform/

A bundle's ``bundle.yaml`` has the ``target`` (a folder of ``terraform/``) and its
``variables``; see ``docs/terraform.md``. Progress is shown while Terraform works.
"""

import functools
import sys

from salt.exceptions import CommandExecutionError

try:
    import libstorage
    from libstorage.bundles import LIMIT, Bundle
    from libstorage.errors import InvalidInput, LibstorageError

    MISSING = ""
except ImportError as exc:
    MISSING = str(exc)
    LIMIT = 0

VERSION = "0.1.0"

__virtualname__ = "dscluster"


def __virtual__():
    if MISSING:
        return False, f"dscluster needs libstorage ({MISSING}); run salt-run saltutil.sync_all"
    if unfit := libstorage.unfit(VERSION):
        return False, f"The runner dscluster {unfit}"
    return __virtualname__


def _door(verb):
    """libstorage's errors as Salt's: with others salt-run would end with status 0."""

    @functools.wraps(verb)
    def call(*args, **kwargs):
        try:
            return verb(*args, **kwargs)
        except LibstorageError as exc:
            raise CommandExecutionError(str(exc)) from None

    return call


def _bundle(name):
    return Bundle(__opts__.get("dscluster") or {}, name, _progress)


def _progress(line):
    """A line of Terraform's for whoever watches salt-run; the answer alone is standard output."""
    print(line, file=sys.stderr, flush=True)


def _seconds(timeout):
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0:
        raise InvalidInput(f"timeout must be a number of seconds, not {str(timeout)[:60]!r}")
    return float(timeout)


@_door
def plan(bundle, timeout=LIMIT):
    """
    What an apply would do; it is saved, and ``apply`` does exactly that.

    bundle
        The bundle's name.

    timeout : 3600
        Seconds.

    Returns ``{"Bundle", "Changes": {address: [action]}}``.

    CLI Example:

    .. code-block:: bash

        salt-run dscluster.plan lab
    """
    return {"Bundle": bundle, "Changes": _bundle(bundle).plan(_seconds(timeout))}


@_door
def apply(bundle, timeout=LIMIT):
    """
    Do what the saved plan says. It ends when every node's minion answers.

    bundle
        The bundle's name.

    timeout : 3600
        Seconds.

    Returns the inventory.

    CLI Example:

    .. code-block:: bash

        salt-run dscluster.apply lab
    """
    return _bundle(bundle).apply(_seconds(timeout))


@_door
def inventory(bundle):
    """
    The cluster as it was last applied: its master, its nodes with addresses and roles.

    bundle
        The bundle's name.

    CLI Example:

    .. code-block:: bash

        salt-run dscluster.inventory lab --out=json
    """
    return _bundle(bundle).inventory()


@_door
def status(bundle):
    """
    Whether a bundle is planned and applied, what failed, and its nodes' roles.

    bundle
        The bundle's name.

    CLI Example:

    .. code-block:: bash

        salt-run dscluster.status lab
    """
    return _bundle(bundle).status()


@_door
def destroy(bundle, confirm=None, timeout=LIMIT):
    """
    Take a cluster down: nodes are drained, minions stopped, keys deleted. A cloud's hosts go;
    its data disks and the archive's bucket stay, and the next ``apply`` takes them up again.

    bundle
        The bundle's name.

    confirm
        The name of its cluster, so that no other one is meant.

    timeout : 3600
        Seconds.

    Returns ``{"Bundle", "Destroyed": number of resources, "Kept": [addresses of data]}``.

    CLI Example:

    .. code-block:: bash

        salt-run dscluster.destroy lab confirm=lab
    """
    found = _bundle(bundle)
    destroyed = found.destroy(confirm, _seconds(timeout))
    return {"Bundle": bundle, "Destroyed": destroyed, "Kept": found.kept()}
