"""
Hosts that Terraform finds ready: with systemd and an SSH server, on one network.

    with Hosts(folder, "a", "b") as hosts:
        hosts.start("c")
        hosts["a"].machine("systemctl", "is-active", "ssh")

While it is open the calling thread, and what it starts, is in a network namespace of its own, where
it has the first address of the hosts' network. Hosts have no way out: pip finds the packages that
``wheels()`` has built. ``baked()`` is a layer with Salt in it, made by the project's own script.
"""

import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from lab.machine import ROOT, Machine

BUILD = ROOT / "build/terraform"
SSHD = ROOT / "build/openssh"
CLOUD = ROOT / "build/cloud-init"
WHEELS = BUILD / "wheels"
LOCK = ROOT / "requirements.lock"
INSTALL = ROOT / "terraform/modules/bootstrap/files/install.sh"
RELEASE = ROOT / "tests/lab/release.sh"
NETWORK = "10.78.0"
_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
PREPARE = """
grep -q ^sshd: etc/passwd || echo 'sshd:x:98:65534::/run/sshd:/usr/sbin/nologin' >> etc/passwd
mount -t tmpfs -o mode=700 root root
rm -rf etc/ssh/ssh_host_* etc/resolv.conf etc/pip.conf etc/xdg/pip
mkdir -p etc/systemd/system/multi-user.target.wants root/.ssh etc/ssh
ln -s /usr/lib/systemd/system/ssh.service etc/systemd/system/multi-user.target.wants/
: > etc/resolv.conf
cp {folder}/host_key etc/ssh/ssh_host_ed25519_key
cp {folder}/host_key.pub etc/ssh/ssh_host_ed25519_key.pub
cat {folder}/../id.pub > root/.ssh/authorized_keys
chown -R 0:0 root/.ssh && chmod 700 root root/.ssh && chmod 600 root/.ssh/*
printf 'UsePAM no\\nUseDNS no\\nPasswordAuthentication no\\n' > etc/ssh/sshd_config
# the checkout may be in /root, which hosts have to themselves
mkdir -p opt/wheels && mount --bind {wheels} opt/wheels
printf '[global]\\nno-index = true\\nfind-links = /opt/wheels\\n' > etc/pip.conf
printf '127.0.0.1 localhost\\n{address} {name}\\n' > etc/hosts
# what cloud-init and Salt of this host would bring along
rm -rf usr/local/bin/salt* opt/libstorage
"""
FIRST_BOOT = """
cp -a {cloud}/. .
mkdir -p var/lib/cloud/seed/nocloud etc/cloud/cloud.cfg.d etc/sudoers.d
cp {folder}/user-data {folder}/meta-data var/lib/cloud/seed/nocloud/
# the images' own: what is not to be had here, and nothing to be fetched
cat > etc/cloud/cloud.cfg.d/99_lab.cfg <<'EOF'
datasource_list: [NoCloud]
network: {{config: disabled}}
apt: {{preserve_sources_list: true}}
locale: false
EOF
rm -rf root/.ssh etc/ssh/ssh_host_*
# logins as on a cloud's image; what has no audit of its own can note no login there
printf 'UsePAM yes\\nUseDNS no\\nPermitRootLogin prohibit-password\\n' > etc/ssh/sshd_config
sed -i /pam_loginuid/d etc/pam.d/sshd
cd etc/systemd/system
ln -s /usr/lib/systemd/system/ssh.service sshd.service  # cloud-init knows it by this name
mkdir cloud-init.target.wants
ln -s /usr/lib/systemd/system/cloud-init.target multi-user.target.wants/
for unit in ../../../usr/lib/systemd/system/cloud-*.service; do
    ln -s /usr/lib/systemd/system/${{unit##*/}} cloud-init.target.wants/
done
rm -f cloud-init.target.wants/*hotplug*
cd ../../..
"""
SALTED = """
mkdir -p opt/libstorage {folder}/layers/opt {folder}/layers/opt-work
upper={folder}/layers/opt
lower={layer}/opt/libstorage
mount -t overlay -o lowerdir=$lower,upperdir=$upper,workdir=$upper-work o opt/libstorage
"""
SUDOER = """
set -e
useradd --create-home --shell /bin/sh --password '*' {user}
install -d -m 700 -o {user} /home/{user}/.ssh
install -m 600 -o {user} /root/.ssh/authorized_keys /home/{user}/.ssh/
echo 'PermitRootLogin no' >> /etc/ssh/sshd_config
systemctl restart ssh
"""


class Host:
    """
    One of them: its name, address, public host key and machine.

    It has this machine's files, or those of ``other()``. With ``seed``, the files of a cloud's
    metadata by name, cloud-init makes of a bare image what they say, host key and users included,
    as at a first boot.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        number: int,
        layer: Path | None,
        seed: dict[str, str] | None = None,
        release: Path | None = None,
    ) -> None:
        self.name, self.number = name, number
        self.address = f"{NETWORK}.{10 + number}"
        folder.mkdir(parents=True)
        keygen(folder / "host_key")
        words = (folder / "host_key.pub").read_text().split()
        self.host_key = " ".join(words[:2])
        machine = folder / f"{name}-{number}"
        packages = release / "wheels" if release else WHEELS
        more = PREPARE.format(folder=folder, wheels=packages, address=self.address, name=name)
        if not release:
            more = f"cp -a {SSHD}/. .\n{more}"
        for file, text in (seed or {}).items():
            (folder / file).write_text(text)
        if seed:
            more += FIRST_BOOT.format(folder=folder, cloud=CLOUD)
        if layer:
            more += SALTED.format(folder=machine, layer=layer)
        self.machine = Machine(machine, name, more, release / "root" if release else Path("/"))

    def start(self) -> None:
        """Up, and on the network; returns when its SSH server listens."""
        self.machine.__enter__()
        try:
            link = f"host{self.number}"
            _ip(f"link add {link} type veth peer name eth0 netns {self.machine.pid}")
            _ip(f"link set {link} master hosts up")
            self.machine("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
            self.machine("ip", "link", "set", "eth0", "up")
            self.machine("systemctl", "start", "ssh")
        except BaseException:
            self.stop()
            raise

    def close(self, user: str) -> None:
        """From now on this user alone comes in, who may not use sudo yet: see ``trust``."""
        self.machine("sh", "-c", SUDOER.format(user=user))

    def trust(self, user: str) -> None:
        """This user may use sudo without a password."""
        self.machine.path(f"/etc/sudoers.d/{user}").write_text(f"{user} ALL=(ALL) NOPASSWD: ALL\n")

    def stop(self) -> None:
        """Gone at once, as with a power cut."""
        self.machine.__exit__()


class Hosts:
    """
    The network and its hosts by name.

    folder
        A directory of its own; the private key that all hosts accept is its file ``id``.
    names
        Those that are started at once, all with Salt installed.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self._names = names
        self._hosts: dict[str, Host] = {}
        self._made = 0
        self._lock = threading.Lock()
        self._home = -1

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        keygen(self.folder / "id")
        layer = baked() if self._names else None
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _check(_libc.unshare(_NEWNET))
        try:
            _ip("link set lo up")
            _ip("link add hosts type bridge")
            _ip(f"address add {NETWORK}.1/24 dev hosts")
            _ip("link set hosts up")
            for name in self._names:
                self.start(name, layer)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._hosts.values():
            host.stop()
        _check(_libc.setns(self._home, _NEWNET))
        os.close(self._home)

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def start(
        self,
        name: str,
        layer: Path | None = None,
        seed: dict[str, str] | None = None,
        release: Path | None = None,
    ) -> Host:
        """One more host; without a layer a plain one, which has no Salt."""
        with self._lock:
            self._made += 1
            number = self._made
        host = Host(self.folder / f"{name}-{number}", name, number, layer, seed, release)
        host.start()
        self._hosts[name] = host
        return host

    def stop(self, name: str) -> None:
        """A host is gone at once, as with a power cut."""
        self._hosts.pop(name).stop()


def keygen(path: Path) -> None:
    """A pair of SSH keys."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True, timeout=20, stdin=subprocess.DEVNULL)


def wheels() -> Path:
    """The packages that hosts install, built once for each lock."""
    done = WHEELS / ".done"
    with _locked():
        if not done.exists() or done.read_text() != _hash(LOCK):
            shutil.rmtree(WHEELS, ignore_errors=True)
            WHEELS.mkdir(parents=True)
            pip = [str(ROOT / ".venv/bin/pip"), "wheel", "--quiet", "--constraint", str(LOCK)]
            what = ["salt", "psutil", "PyYAML", "--wheel-dir", str(WHEELS)]
            subprocess.run([*pip, *what], check=True, timeout=600)
            done.write_text(_hash(LOCK))
    return WHEELS


def baked() -> Path:
    """A layer in which the project's script has installed Salt, made once for each lock."""
    layer = BUILD / "baked"
    stamp = BUILD / "baked.done"
    wanted = _hash(LOCK) + _hash(INSTALL)
    wheels()
    with _locked():
        if stamp.exists() and stamp.read_text() == wanted:
            return layer
        stamp.unlink(missing_ok=True)
        shutil.rmtree(layer, ignore_errors=True)
        folder = BUILD / "baking"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "host").mkdir(parents=True)
        keygen(folder / "host/id")
        host = Host(folder / "host/one", "baking", 0, None)
        with host.machine as machine:
            clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]  # not as pip is set here
            script = [*clean, "bash", "-euo", "pipefail", "-c", INSTALL.read_text(), "install"]
            machine(*script, "minion", seconds=400, given=LOCK.read_text())
            (layer / "opt").mkdir(parents=True)
            source = machine.path("/opt/libstorage")
            subprocess.run(["cp", "-a", str(source), str(layer / "opt")], check=True, timeout=120)
        shutil.rmtree(folder)
        stamp.write_text(wanted)
    return layer


def other() -> tuple[str, Path]:
    """The other Debian release: its name, and where its system and packages are, made once."""
    release = "bookworm" if platform.freedesktop_os_release()["VERSION_ID"] == "13" else "trixie"
    folder = BUILD / release
    stamp = BUILD / f"{release}.done"
    wanted = _hash(LOCK) + _hash(RELEASE)
    with _locked():
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            subprocess.run(["bash", str(RELEASE), release, str(folder)], check=True, timeout=1200)
            stamp.write_text(wanted)
    return release, folder


@contextmanager
def _locked() -> Iterator[None]:
    """Two runs beside each other build once."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, timeout=20)


def _check(failed: int) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
