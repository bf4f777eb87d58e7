#!/usr/bin/env bash
# Brings a Debian 12 or 13 machine to where everything in this repository runs: the system packages that are
# missing, and .venv with the locked requirements. A second run finds nothing to do and needs no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# Salt and one of its dependencies come as source: they are built with python3-dev and gcc
PACKAGES=(python3-venv python3-dev gcc e2fsprogs xfsprogs btrfs-progs util-linux mount procps)
PACKAGES+=(podman docker-compose) # other ways to containers
PACKAGES+=(iproute2 libfaketime) # for nodes with networks and clocks of their own
PACKAGES+=(openssh-client) # Terraform's way to hosts
PACKAGES+=(systemd) # for the host that has the bridge installed; here it starts nothing
PACKAGES+=(qemu-system-x86 seabios busybox-static kmod cpio) # for the guest: see tests/lab/guest
# a Ceph, and what maps its images without the kernel's module rbd; installing starts nothing
PACKAGES+=(ceph-mon ceph-osd ceph-common python3-rados python3-rbd rbd-nbd)
PACKAGES+=(qemu-system-common qemu-utils qemu-block-extra fuse3)
PACKAGES+=(ceph-mgr) # tells how full it is
PACKAGES+=(fio) # for make bench
# an engine for tests, unless another one is there; its client is a package of its own since Debian 13
command -v dockerd >/dev/null || PACKAGES+=(docker.io containerd runc)
command -v docker >/dev/null || [[ $(. /etc/os-release && echo "${VERSION_ID:-0}") -lt 13 ]] || PACKAGES+=(docker-cli)
PYTHON=/usr/bin/python3 # the system's, which can use what Debian packages for it
ETCD=build/etcd/usr/bin/etcd # unpacked, not installed: the package starts a service of its own
CLOUD=build/cloud-init/usr/bin/cloud-init # the same, with what it needs: installed, it would configure this machine
SSHD=build/openssh/usr/sbin/sshd # the same: for the hosts that Terraform makes a cluster of
LOG=build/setup.log
STAMP=.venv/set-up
APT=(apt-get -y -o DPkg::Lock::Timeout=300)

missing() { # the packages that are not installed
    local installed
    installed=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' "${PACKAGES[@]}" \
        2>/dev/null | sed -n 's/^installed //p') || true
    printf '%s\n' "${PACKAGES[@]}" | grep -vxF "$installed" || true
}
wanted() { # what the environment depends on: the lock, the interpreter, the place, how it is made
    { cat requirements.lock && "$PYTHON" --version && pwd && declare -f environment; } | sha256sum
}
step() { # step TITLE COMMAND...: one line with its duration, the end of the log when it fails
    local title=$1 start=$SECONDS
    shift
    printf '[%d/7] %s ... ' $((number += 1)) "$title"
    if "$@" >>"$LOG" 2>&1 </dev/null 9>&-; then
        echo "$((SECONDS - start)) s"
    else
        echo "failed. The end of $PWD/$LOG:"
        tail -n 15 "$LOG" | cut -c -300
        exit 1
    fi
}
update() { "${APT[@]}" update || { sleep 5 && "${APT[@]}" update; }; }
packages() { update && "${APT[@]}" install --no-install-recommends "${need[@]}"; }
has_etcd() { command -v etcd >/dev/null || [[ -x $ETCD ]]; }
etcd_server() {
    { [[ $EUID -ne 0 ]] || update; } && rm -rf build/etcd build/etcd-server_*.deb &&
        (cd build && "${APT[@]}" download etcd-server && dpkg-deb --extract etcd-server_*.deb etcd) &&
        rm build/etcd-server_*.deb && "$ETCD" --version
}
has_sshd() { [[ -x $SSHD && -x build/openssh/usr/bin/sudo ]]; }
ssh_server() { # with what Debian keeps apart from it, and sudo, laid over a root as it is
    { [[ $EUID -ne 0 ]] || update; } && rm -rf build/openssh && mkdir build/openssh &&
        (cd build/openssh && # the last of them there is since Debian 13
            "${APT[@]}" download openssh-server openssh-sftp-server libwrap0 sudo $(apt-cache pkgnames libwtmpdb0) &&
            for package in *.deb; do dpkg-deb --extract "$package" . || exit; done &&
            rm -- *.deb && if [[ -d lib ]]; then cp -a lib/. usr/lib/ && rm -r lib; fi) && has_sshd
}
has_cloud() { [[ -x $CLOUD ]]; }
cloud_init() { # what is not here of its dependencies is taken with it, but for those of real hardware
    { [[ $EUID -ne 0 ]] || update; } && rm -rf build/cloud-init && mkdir build/cloud-init &&
        (cd build/cloud-init &&
            apt-get -s install --no-install-recommends cloud-init >plan &&
            sed -n -E 's/^Inst (python3-[^ ]*|cloud-init[^ ]*|netcat-openbsd) .*/\1/p' plan | xargs "${APT[@]}" download &&
            for package in *.deb; do dpkg-deb --extract "$package" . || exit; done &&
            if [[ -e usr/bin/nc.openbsd ]]; then ln -s nc.openbsd usr/bin/nc; fi && # as its installation does
            rm -- plan *.deb && if [[ -d lib ]]; then cp -a lib/. usr/lib/ && rm -r lib; fi) && has_cloud
}
environment() { # with Ceph's bindings, which are to be had from the distribution alone
    "$PYTHON" -m venv --clear .venv && ln -s /usr/lib/python3/dist-packages/{rados,rbd}.*.so .venv/lib/python3*/site-packages/
}
requirements() { # the lock is complete: nothing to resolve, only to check
    .venv/bin/pip install --no-deps --progress-bar off --requirement requirements.lock && .venv/bin/pip check
}
works() { .venv/bin/salt-call --version && wanted >"$STAMP"; }

mkdir -p build
exec 9>build/setup.lock && flock 9 # two at once: the second waits, and finds it done
number=0
mapfile -t need < <(missing)
if [[ ${#need[@]} -eq 0 && -x .venv/bin/python && "$(cat $STAMP 2>/dev/null)" == "$(wanted)" ]] &&
    has_etcd && has_sshd && has_cloud; then
    exit 0
fi
: >"$LOG"
if [[ ${#need[@]} -eq 0 ]]; then
    step "System packages: all there" true
elif [[ $EUID -ne 0 ]]; then
    echo "System packages are missing. Run this as root, or first: apt-get install ${need[*]}" >&2
    exit 1
else
    step "System packages: ${need[*]}" packages
fi
if has_etcd; then
    step "etcd server: there" true
else
    step "etcd server, for tests" etcd_server
fi
if has_sshd; then
    step "SSH server: there" true
else
    step "SSH server, for tests" ssh_server
fi
if has_cloud; then
    step "cloud-init: there" true
else
    step "cloud-init, for tests" cloud_init
fi
step "Python environment .venv" environment
step "Python packages (a minute or two the first time)" requirements
step "Salt answers" works
