"""Who answers at a socket in the bridge's place, and does it wrongly."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

Manners = Callable[[socket.socket], None]


class Peer:
    """
    Serves one connection after the other.

    manners
        What is done with a connection once its request has come; it is closed then.
    """

    def __init__(self, path: Path, manners: Manners) -> None:
        self._manners = manners
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Who waits in accept wakes up.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._listening.accept()
            except OSError:
                return
            with one:
                one.recv(1 << 16)
                self._manners(one)


def says(answer: bytes) -> Manners:
    """An answer, whatever was asked."""
    return lambda one: one.sendall(answer)


def says_nothing(one: socket.socket) -> None:
    """Holds the connection until the other end gives up."""
    one.recv(1)


def says_it_slowly(one: socket.socket) -> None:
    """A byte now and then, and no end."""
    one.settimeout(0.05)
    while True:
        try:
            one.sendall(b" ")
            if not one.recv(1):
                return
        except TimeoutError:
            continue
        except OSError:
            return
