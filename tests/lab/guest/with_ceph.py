"""
Runs a guest beside a Ceph: only the clients are emulated, which are what is tested.

    unshare --net python with_ceph.py FOLDER SECONDS

As run.sh, which see. Ceph is in FOLDER/ceph; it and the guest are in a network of their own, which
ends when they do.
"""

import os
import subprocess
import sys
from pathlib import Path

from lab.ceph import Ceph

TAP = "tap0"
ADDRESS, GUEST = "10.0.0.1", "10.0.0.2"
"""Ceph's and the guest's; a network of 30 bits."""
WATCH = 12
"""An emulated processor may be late."""


def main(folder: Path, seconds: str) -> int:
    """Returns the exit status of the guest's job."""
    for words in (
        ("link", "set", "lo", "up"),
        ("tuntap", "add", TAP, "mode", "tap"),
        ("address", "add", f"{ADDRESS}/30", "dev", TAP),
        ("link", "set", TAP, "up"),
    ):
        subprocess.run(["ip", *words], check=True)
    with Ceph(folder / "ceph", watch=WATCH, address=ADDRESS):
        run = Path(__file__).with_name("run.sh")
        command = ["setpriv", "--pdeathsig", "TERM", str(run), str(folder), seconds]
        return subprocess.run(command, env=os.environ | {"LAB_TAP": TAP}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
