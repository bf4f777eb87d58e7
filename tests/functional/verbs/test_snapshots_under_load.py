"""
A snapshot of a busy volume is of one moment: a database that was being written to is whole.

``DSVOLUME_SNAPSHOTS`` says how many snapshots are taken (5); the soak asks for 100.
"""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from lab.site import Site, assert_clean
from libstorage.manager import Given

WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = " + sys.argv[2])
db.execute("CREATE TABLE IF NOT EXISTS pairs (n INTEGER PRIMARY KEY, a TEXT, b TEXT)")
print("ready", flush=True)
n = 0
while True:
    n += 1
    db.execute("BEGIN")
    db.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)", (n % 500, "x" * (n % 900), ""))
    db.execute("UPDATE pairs SET b = a WHERE n = ?", (n % 500,))
    db.execute("COMMIT")
"""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("fstype", "mb_size", "mode"),
    [("ext4", 48, "DELETE"), ("xfs", 64, "WAL"), ("btrfs", 128, "WAL")],
)
def test_every_clone_of_a_busy_database_is_whole(
    site: Site, fstype: str, mb_size: int, mode: str
) -> None:
    manager = site.manager()
    manager.create("v", Given(policy="local", fstype=fstype, mb_size=mb_size))
    database = Path(manager.mount("v")["Mountpoint"]) / "db"
    writer = site.ends(
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(database), mode], stdout=subprocess.PIPE, text=True
        )
    )
    assert writer.stdout and writer.stdout.readline() == "ready\n"
    for number in range(int(os.environ.get("DSVOLUME_SNAPSHOTS", "5"))):
        manager.snapshot_create(f"v@s{number}")
        manager.snapshot_clone(f"v@s{number}", "clone")
        held = Path(manager.mount("clone")["Mountpoint"]) / "db"
        with sqlite3.connect(held) as clone:
            assert clone.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert clone.execute("SELECT count(*) FROM pairs WHERE a <> b").fetchone() == (0,)
        clone.close()
        manager.unmount("clone")
        manager.rm("clone")
        manager.snapshot_rm(f"v@s{number}")
        assert writer.poll() is None
    writer.kill()
    writer.communicate()
    manager.unmount("v")
    manager.rm("v")
    assert_clean(site)
