"""The disk below everything, which on a shared machine may stand still for half a minute."""

import os
import threading
import time
from pathlib import Path

STILL = 1.0
"""Seconds that a small write to the disk takes when the disk counts as standing still."""


class Disk:
    """Writes a little all the time, and knows when that took long; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "disk"
        self._over = threading.Event()
        self._writing = threading.Thread(target=self._write, daemon=True)
        self._began = time.monotonic()
        self._windows: list[tuple[float, float]] = []

    def __enter__(self) -> "Disk":
        self._writing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._writing.join()

    def windows(self) -> list[tuple[float, float]]:
        """From when to when it stood still, and does now."""
        now = time.monotonic()
        return [*self._windows, *([(self._began, now)] if now - self._began > STILL else [])]

    def _write(self) -> None:
        with open(self._path, "wb", buffering=0) as file:
            while not self._over.is_set():
                self._began = time.monotonic()
                os.pwrite(file.fileno(), b"." * 4096, 0)
                os.fsync(file.fileno())
                ended = time.monotonic()
                if ended - self._began > STILL:
                    self._windows.append((self._began, ended))
                self._began = ended
                self._over.wait(0.2)
