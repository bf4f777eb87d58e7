"""
``docker dsvolume``: the command line of volumes, a door to the functions of the bridge.

It starts anew for every command, so only the standard library is used, and of that little: what
costs time to import (``typing``, ``dataclasses``, ``argparse``, ``http``) is not imported at all,
and what few commands need (help, completion) when they need it.

``run`` reads the command line with the words of ``words``, finds the command in the tables of
``commands``, asks the bridge (``bridge``), and shows the answer (``show``).
"""

__version__ = "0.1.0"

DESCRIPTION = "Volumes for containers: distributed, local or in memory"
