"""
Whether a container has processes, asked of the kernel: an engine that is stopping a container
answers no question about it before its unmounts are answered.
"""

import os
from contextlib import suppress


def run_in(container: str) -> bool:
    """
    Does a process of the container live?

    Every engine names a container's cgroup by its id, wherever it lies: ``/docker/<id>``,
    ``/system.slice/docker-<id>.scope``.
    """
    name = container.encode()
    for pid in os.listdir("/proc"):
        if pid.isdecimal():
            # One that has just ended is none.
            with suppress(OSError), open(f"/proc/{pid}/cgroup", "rb") as cgroups:
                if name in cgroups.read():
                    return True
    return False
