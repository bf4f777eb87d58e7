"""
A volume plugin as one writes it first: directories, with a switch for each trap of Docker's.

    with Naive(socket, folder, engine.socket) as naive:
        naive.traps.add(SET)

Without a switch it does right by the traps, and by nothing else: what it knows is gone with it.
"""

import json
import select
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any, Self

from libstorage.host import mounts

SET = "takes the mount IDs for a set"
COUNTER = "counts mounts whatever their IDs, over the engine's death"
DENIES = "denies what it cannot look up"
FOR_NOBODY = "finishes a mount that nobody waits for"
EMPTY_IS_ABSENT = "denies the volume of a request without a name"
ACTS_ON_EMPTY = "acts upon a request without a name"
RAISES = "lets a handler's error drop the connection"
ONE_AT_A_TIME = "does one thing at a time"
REMOVES_USED = "removes what is in use, trusting the engine to look"
MAKES_UP = "makes what it is asked for, whatever was there before"
ASKS_ENGINE = "asks the engine in a handler, and waits"

Answer = dict[str, Any]
LOST = "_lost"


class Naive:
    """
    The plugin.

    traps
        What it does wrong.
    slow
        Seconds that a mount takes.
    away
        It cannot look anything up.
    """

    def __init__(self, path: Path, folder: Path, engine: Path) -> None:
        self.traps: set[str] = set()
        self.slow = 0.0
        self.away = False
        self._path = path
        self._data = folder / "data"
        self._mounts = folder / "mounts"
        self._engine = engine
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._lock = threading.RLock()
        self._alone = threading.RLock()
        self._server: ThreadingUnixStreamServer | None = None

    def __enter__(self) -> Self:
        self._data.mkdir(parents=True)
        self._mounts.mkdir()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for name in self.names():
            self._unmount_all(name)

    def open(self) -> None:
        """Begin to serve."""
        plugin = self

        class Handler(_Handler):
            def answer(self, call: str, body: Answer) -> Answer:
                return plugin._answer(call, body, self.connection)

        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._server = _Server(str(self._path), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Serve no more; its socket goes."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            self._path.unlink(missing_ok=True)

    # -- what there is

    def names(self) -> list[str]:
        return sorted(path.name for path in self._data.iterdir())

    def add(self, name: str) -> Path:
        """A volume that Docker has not asked for."""
        (self._data / name).mkdir(exist_ok=True)
        return self._data / name

    def drop(self, name: str) -> None:
        """Take a volume away, without Docker."""
        self._unmount_all(name)
        shutil.rmtree(self._data / name, ignore_errors=True)
        self._counts.pop(name, None)

    def point(self, name: str) -> Path:
        return self._mounts / name

    def mounted(self, name: str) -> bool:
        return mounts.at(self.point(name)) is not None

    # -- the calls

    def _answer(self, call: str, body: Answer, connection: socket.socket) -> Answer:
        if ONE_AT_A_TIME in self.traps:
            with self._alone:
                return self._called(call, body, connection)
        return self._called(call, body, connection)

    def _called(self, call: str, body: Answer, connection: socket.socket) -> Answer:
        name = body.get("Name", "")
        if call == "Activate":
            self._activated()
            return {"Implements": ["VolumeDriver"]}
        if call == "Capabilities":
            return {"Capabilities": {"Scope": "global"}}
        if call == "List":
            return {"Volumes": [self._volume(name) for name in self.names()]}
        if call == "Create" and not body.get("Opts") and RAISES in self.traps:
            raise KeyError("Opts")
        if not name and call != "Get" and ACTS_ON_EMPTY not in self.traps:
            return {"Err": "the request has lost its volume's name"}
        answers = {
            "Get": self._get,
            "Create": self._create,
            "Mount": self._mount,
            "Unmount": self._unmount,
            "Remove": self._remove,
        }
        if call == "Mount":
            return self._mount(name, body, connection)
        return answers[call](name, body)  # type: ignore[operator,no-any-return]

    def _activated(self) -> None:
        """Another engine: what the former has mounted is used by nobody."""
        if COUNTER in self.traps:
            return
        for name in self.names():
            self._unmount_all(name)
        self._counts.clear()

    def _volume(self, name: str) -> Answer:
        return {"Name": name, "Mountpoint": str(self.point(name))}

    def _get(self, name: str, _: Answer) -> Answer:
        if not name and EMPTY_IS_ABSENT not in self.traps:
            return {"Volume": self._volume(LOST)}
        if self.away:
            unknown = {"Err": "the store does not answer"}
            return unknown if DENIES in self.traps else {"Volume": self._volume(name)}
        there = bool(name) and (self._data / name).is_dir()
        return {"Volume": self._volume(name)} if there else {"Err": "no such volume"}

    def _create(self, name: str, body: Answer) -> Answer:
        options = body.get("Opts")
        if not options and MAKES_UP not in self.traps:
            return {"Err": "say with an option what the volume is to be"}
        self.add(name)
        return {}

    def _mount(self, name: str, body: Answer, connection: socket.socket) -> Answer:
        if self.away or name == LOST or not (self._data / name).is_dir():
            return {"Err": f"{name} cannot be looked up"}
        if not name:
            return {"Mountpoint": str(self._mounts)}
        while ASKS_ENGINE in self.traps and not self._engine_answers():
            time.sleep(0.05)
        time.sleep(self.slow)
        if _gone(connection) and FOR_NOBODY not in self.traps:
            return {"Err": "nobody waits for it any more"}
        with self._lock:
            counts = self._counts[name]
            if not counts:
                self.point(name).mkdir(exist_ok=True)
                _run("mount", "--bind", str(self._data / name), str(self.point(name)))
            counts["" if COUNTER in self.traps else body["ID"]] += 1
        return {"Mountpoint": str(self.point(name))}

    def _unmount(self, name: str, body: Answer) -> Answer:
        id = "" if COUNTER in self.traps else body.get("ID", "")
        with self._lock:
            counts = self._counts[name]
            counts[id] -= 1
            if counts[id] <= 0 or SET in self.traps:
                del counts[id]
            if not counts:
                self._unmount_all(name)
        return {}

    def _remove(self, name: str, _: Answer) -> Answer:
        if self._counts[name] and REMOVES_USED not in self.traps:
            return {"Err": f"{name} is in use"}
        self.drop(name)
        return {}

    def _unmount_all(self, name: str) -> None:
        while self.mounted(name):
            _run("umount", "--lazy", str(self.point(name)))

    def _engine_answers(self) -> bool:
        connection = HTTPConnection("docker", timeout=1)
        with suppress(OSError), socket.socket(socket.AF_UNIX) as one:
            one.settimeout(1)
            one.connect(str(self._engine))
            connection.sock = one
            connection.request("GET", "/containers/json")
            return connection.getresponse().status == 200
        return False


class _Server(ThreadingUnixStreamServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """The connection is dropped, which is the trap."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, call: str, body: Answer) -> Answer:
        raise NotImplementedError

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        call = self.path.rpartition(".")[2]
        said = json.dumps({"Err": "", **self.answer(call, json.loads(text or b"{}"))}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _gone(connection: socket.socket) -> bool:
    ready, _, _ = select.select([connection], [], [], 0)
    return bool(ready) and not connection.recv(1, socket.MSG_PEEK)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)
