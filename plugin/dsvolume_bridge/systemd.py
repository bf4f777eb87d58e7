"""What systemd hands to a service, and is told by it."""

import os
import socket

FIRST_FD = 3
"""SD_LISTEN_FDS_START (man 3 sd_listen_fds)."""


def held() -> dict[str, socket.socket]:
    """The sockets that systemd has passed to this process, by path."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(os.environ.get("LISTEN_FDS", "0"))
    passed = [socket.socket(fileno=fd) for fd in range(FIRST_FD, FIRST_FD + count)]
    for one in passed:
        one.set_inheritable(False)
    return {one.getsockname(): one for one in passed}


def tell(state: str) -> None:
    """Tell systemd of this service's state: ``READY=1`` (man 3 sd_notify); nobody else listens."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.connect(f"\0{path[1:]}" if path.startswith("@") else path)
        to.sendall(state.encode())
