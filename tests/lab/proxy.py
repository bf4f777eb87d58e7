"""
Between Docker and the bridge: holds a call before it arrives, or its answer.

    with Proxy(engine.plugins / "dsvolume.sock", bridge.driver) as proxy:
        with proxy.holding("Mount", AFTER) as held:
            running = engine.begin("run", ...)
            held.wait()         # the bridge has answered, and Docker does not know it
            bridge.kill()
        # it goes on

Each connection of Docker's is one to the bridge, and ends with it.
"""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

BEFORE, AFTER, LOST, NEVER = "before", "after", "lost", "never"
"""
Before the bridge hears of it; when it has answered; the same, and the answer gets lost; it never
hears of it, and the connection breaks.
"""
SECONDS = 60.0


class Held:
    """One call that is to be held, the next of its kind."""

    def __init__(self, call: str, side: str) -> None:
        self.call = call
        self.side = side
        self._there = threading.Event()
        self._goes_on = threading.Event()

    def wait(self, seconds: float = SECONDS) -> None:
        """Until it is there. Raises AssertionError where it does not come."""
        assert self._there.wait(seconds), f"no {self.call} came"

    def go_on(self) -> None:
        self._goes_on.set()

    def stand(self) -> None:
        """What the connection's thread does here."""
        self._there.set()
        self._goes_on.wait(SECONDS)


class Proxy:
    """
    One socket in front of another.

    front
        Where Docker looks for the driver.
    back
        Where the bridge answers.
    """

    def __init__(self, front: Path, back: Path) -> None:
        self._front = front
        self._back = back
        self._lock = threading.Lock()
        self._held: list[Held] = []
        self._closed = False
        self._listening = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        self._listening.bind(str(self._front))
        self._listening.listen(128)
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._front.unlink(missing_ok=True)

    @contextmanager
    def holding(self, call: str, side: str) -> Iterator[Held]:
        """Hold the next such call until the end; then it goes on, taken or not."""
        held = Held(call, side)
        with self._lock:
            self._held.append(held)
        try:
            yield held
        finally:
            with self._lock:
                if held in self._held:
                    self._held.remove(held)
            held.go_on()

    def _accept(self) -> None:
        while not self._closed:
            with suppress(OSError):
                docker, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(docker,), daemon=True).start()

    def _serve(self, docker: socket.socket) -> None:
        with docker, socket.socket(socket.AF_UNIX) as bridge, suppress(OSError):
            bridge.connect(str(self._back))
            while request := self._request(docker, bridge):
                held = self._match(request)
                if held is not None and held.side in (BEFORE, NEVER):
                    held.stand()
                if held is not None and held.side == NEVER:
                    return
                bridge.sendall(request)
                answer = _message(bridge)
                if held is not None and held.side in (AFTER, LOST):
                    held.stand()
                if not answer or (held is not None and held.side == LOST):
                    return
                docker.sendall(answer)

    def _request(self, docker: socket.socket, bridge: socket.socket) -> bytes:
        """The next one; none where either has closed the connection."""
        ready, _, _ = select.select([docker, bridge], [], [])
        return b"" if bridge in ready else _message(docker)

    def _match(self, request: bytes) -> Held | None:
        call = request.split(b" ", 2)[1].decode().rpartition(".")[2]
        with self._lock:
            for held in self._held:
                if held.call == call:
                    self._held.remove(held)
                    return held
        return None


def _message(one: socket.socket) -> bytes:
    """A whole request or answer; none where the connection ends."""
    text = b""
    while b"\r\n\r\n" not in text:
        if not (more := one.recv(65536)):
            return b""
        text += more
    head, _, body = text.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        if not (more := one.recv(65536)):
            return b""
        body += more
    return head + b"\r\n\r\n" + body
