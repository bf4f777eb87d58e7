"""
Hosts in network namespaces of their own, on links that can be cut.

    with Network("node1", "node2") as network:
        site.enter = network.enter("node1")
        network.cut("node1")

While it is open, the calling thread, and every thread and process that it starts, is in a namespace
of the network's own, where the servers are. Each host is in another one; a pair of virtual
interfaces joins the two. With the last process in them the namespaces are gone, and their links.
"""

import ctypes
import os
import subprocess
from typing import Self

_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """
    The servers' namespace and the hosts'.

    hosts
        Their names, at most 200.
    """

    def __init__(self, *hosts: str) -> None:
        self._numbers = {host: number for number, host in enumerate(hosts, 1)}
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._home = -1

    def __enter__(self) -> Self:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _check(_libc.unshare(_NEWNET))
        try:
            _ip("link set lo up")
            for host, number in self._numbers.items():
                self._join(host, number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for holder in self._holders.values():
            holder.kill()
            holder.wait(20)
        _check(_libc.setns(self._home, _NEWNET))
        os.close(self._home)

    def server(self, host: str) -> str:
        """The servers' address as this host sees it."""
        return f"10.77.{self._numbers[host]}.1"

    def enter(self, host: str) -> tuple[str, ...]:
        """What a command on this host begins with."""
        return ("nsenter", f"--net=/proc/{self._holders[host].pid}/ns/net", "--")

    def cut(self, host: str) -> None:
        """What is sent from and to the host is lost, and nobody is told."""
        _ip(f"link set {_link(self._numbers[host])} down")

    def mend(self, host: str) -> None:
        """The link is whole again."""
        _ip(f"link set {_link(self._numbers[host])} up")

    def _join(self, host: str, number: int) -> None:
        holder = subprocess.Popen(
            # It says when it is in its namespace: before that it has none to give.
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._holders[host] = holder
        assert holder.stdout is not None and holder.stdout.readline() == b"\n"
        link, inside = _link(number), self.enter(host)
        _ip(f"link add {link} type veth peer name eth0 netns {holder.pid}")
        _ip(f"address add 10.77.{number}.1/24 dev {link}")
        _ip(f"link set {link} up")
        _ip("link set lo up", inside)
        _ip(f"address add 10.77.{number}.2/24 dev eth0", inside)
        _ip("link set eth0 up", inside)


def _link(number: int) -> str:
    return f"host{number}"


def _ip(words: str, inside: tuple[str, ...] = ()) -> None:
    subprocess.run([*inside, "ip", *words.split()], check=True, timeout=20)


def _check(failed: int) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
