"""HTTP over a Unix socket, as Docker and ``docker dsvolume`` speak it to the bridge."""

import socket
from http.client import HTTPConnection
from pathlib import Path


class Unix(HTTPConnection):
    """One connection."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def post(path: Path, call: str, body: bytes) -> tuple[int, bytes]:
    """Ask once; the answer's status and body."""
    connection = Unix(path)
    try:
        connection.request("POST", call, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
