"""
The pillar of an engine's own minion, which engines start before the minion has.

Not in libstorage, which knows nothing of Salt.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import salt.minion
from salt.exceptions import SaltException

from libstorage.errors import LibstorageError


def fetch(opts, who):
    """
    Ask the master for the pillar, as salt-call does; without a master it is made here.

    who
        The engine, as an error's sentence names it.

    Waits until the minion has met its master once. Raises LibstorageError where there is none to
    be had: another store than the one that the module uses would be worse.
    """
    opts = dict(opts)
    known = os.path.join(opts["pki_dir"], "minion_master.pub")
    masterless = opts.get("file_client") == "local" or opts.get("master_type") == "disable"
    # At its very first start the minion makes its keys; two that do so reject each other.
    while not masterless and not os.path.exists(known):
        time.sleep(1)
    try:
        # In a thread: this process was forked from within a running event loop.
        with ThreadPoolExecutor(1) as pool:
            minion = pool.submit(salt.minion.SMinion, opts).result()
    except SaltException as exc:
        raise LibstorageError(f"This node's pillar cannot be had: {exc}; {who} waits") from None
    pillar = minion.opts["pillar"]
    if "_errors" in pillar:
        raise LibstorageError(f"This node's pillar has errors: see pillar.items; {who} waits")
    return pillar
