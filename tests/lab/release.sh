#!/usr/bin/env bash
# release.sh RELEASE DIR: in DIR/root a system of another Debian release, as a rented host has it, and in DIR/wheels
# what the bootstrap installs there, since hosts of tests have no way out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" LC_ALL=C.UTF-8
RELEASE=$1 DIR=$2
HOST=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
INCLUDE=systemd,systemd-sysv,dbus,iproute2,procps,openssh-server,sudo,ca-certificates,python3-venv,python3-dev,gcc
LOG=$PWD/build/release.log
. tests/lab/settings.sh

wheels() { # in a mount namespace of its own, so that nothing of this machine's settings stays in the tree
    mkdir -p "$DIR"/{up,work,over,wheels}
    mount -t overlay -o "lowerdir=$DIR/root,upperdir=$DIR/up,workdir=$DIR/work" over "$DIR/over"
    cd "$DIR/over"
    mount --rbind /dev dev
    mount -t proc proc proc
    mkdir -p wheels
    mount --bind "$DIR/wheels" wheels
    cp --dereference /etc/resolv.conf /etc/hosts etc/
    cp "$LOCK" lock
    { pip_files; named_paths; } | while read -r path; do
        if [[ -d $path ]]; then mkdir -p ".$path" && mount --bind "$path" ".$path"; fi
        if [[ -f $path ]]; then install -D -m 644 "$path" ".$path"; fi
    done
    mapfile -t set < <(settings)
    env -i "${set[@]}" HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . sh -ec '
        python3 -m venv /venv
        /venv/bin/pip wheel --quiet --constraint /lock --wheel-dir /wheels salt psutil PyYAML'
}
if [[ ${3:-} == wheels ]]; then wheels && exit; fi

mkdir -p build
: >"$LOG"
rm -rf --one-file-system "$DIR"
mkdir -p "$DIR"
has_debootstrap
minimal "$DIR/root"
LOCK=$PWD/requirements.lock quiet unshare --mount --pid --fork --kill-child --propagation private bash "$0" "$RELEASE" "$DIR" wheels
rm -rf --one-file-system "$DIR"/{up,work,over} "$DIR/root/var/cache/apt/archives" "$DIR/root/var/lib/apt/lists"
