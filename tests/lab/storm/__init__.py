"""
Random faults on three nodes that work on the same volumes, and a check of all that happened.

    result = storm(folder, seed=1, seconds=40)
    assert not result.violations, result.report()

Three nodes, each with a root, a network and an agent of its own, share an etcd cluster of three
members. Workers on each (``worker``) do random verbs on few shared names and write down what they
were told. Meanwhile ``faults`` kills, stops, cuts off and reboots. A watch of the store checks each
transaction (``ledger``); in the end the workers' calls are checked against the store's history
(``calls``), and what the dead have left must be in order within half a minute.
"""

from .storm import Result, storm

__all__ = ["Result", "storm"]
