#!/usr/bin/env bash
# Proves the README's commands on the other Debian release: a new minimal system of it in a directory, with a
# clone of HEAD inside, where `make $TARGET` (demo, unless told) runs as root, as on a machine just installed.
# Settings: TARGET="lint test", RELEASE=bookworm|trixie, KEEP=1 (the tree stays, to look around in it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" LC_ALL=C.UTF-8
TARGET=${TARGET:-demo}
HOST=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
RELEASE=${RELEASE:-$([[ $HOST == trixie ]] && echo bookworm || echo trixie)}
TREE=$PWD/build/fresh/$RELEASE
LOG=$PWD/build/fresh.log
INCLUDE=git,make,gcc,libc6-dev,python3,ca-certificates

. tests/lab/settings.sh

say() { printf '[%d/5] %s\n' $((number += 1)) "$*"; }
number=0

# --- the namespace: its PID 1 is this script, its root becomes the tree -------------------------------------

if [[ ${1:-} == inside ]]; then
    mount --bind "$TREE" "$TREE"
    mount -t proc proc "$TREE/proc"
    mount --rbind /sys "$TREE/sys"
    mount --rbind /dev "$TREE/dev" # loop devices included
    named_paths | while read -r path; do
        [[ -d $path ]] || continue
        mkdir -p "$TREE$path" && mount --bind -o ro "$path" "$TREE$path"
    done
    cd "$TREE"
    mkdir -p .host && pivot_root . .host && umount -l /.host && rmdir /.host
    mapfile -t set < <(settings)
    exec env -i "${set[@]}" TARGET="$TARGET" HOME=/root TERM=dumb PATH=/usr/bin:/bin bash /root/fresh-inside.sh
fi
inside() { # what runs there, as PID 1, with the barest PATH
    cat <<'END'
set -eu
state() { cut -d' ' -f5- /proc/self/mountinfo | sort; }
state >/root/before
git clone --quiet /root/fresh.git /root/fresh-clone
cd /root/fresh-clone
status=0
make $TARGET </dev/null || status=$?
state >/root/after
if ! diff /root/before /root/after; then echo "mounts were left behind (>)"; status=1; fi
left=$(for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    [ "$pid" = 1 ] || [ "$pid" = "$BASHPID" ] || tr '\0' ' ' <"$dir/cmdline"
done 2>/dev/null)
if [ -n "$left" ]; then echo "processes were left behind: $left"; status=1; fi
exit $status
END
}

# --- outside --------------------------------------------------------------------------------------------------

[[ $EUID -eq 0 ]] || { echo "fresh.sh needs root" >&2; exit 1; }
[[ $HOST == bookworm || $HOST == trixie ]] || { echo "fresh.sh needs Debian 12 or 13" >&2; exit 1; }

child=
cleanup() { # the namespace's mounts end with its PID 1
    [[ -z $child ]] || { kill -KILL "$child" && wait "$child"; } 2>/dev/null || true
    [[ ${KEEP:-} == 1 ]] || rm -rf --one-file-system "$TREE"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
rm -rf --one-file-system "$TREE"
mkdir -p "$TREE"
: >"$LOG"
loops() { # loop devices on a file of the tree's filesystem
    local name disk inode file
    losetup --list --noheadings --output NAME,BACK-MAJ:MIN,BACK-INO,BACK-FILE |
        while read -r name disk inode file; do
            [[ $disk != "$(stat -c '%Hd:%Ld' "$TREE")" ]] || echo "$name $inode $file"
        done | sort
}

say "debootstrap on $HOST"
has_debootstrap

say "a minimal $RELEASE with $INCLUDE"
start=$SECONDS
minimal "$TREE"
echo "      $((SECONDS - start)) s, $(du -sm --one-file-system "$TREE" | cut -f1) MB"

say "this machine's package settings and a clone of $(git rev-parse --short HEAD)"
[[ -z $(git status --porcelain) ]] || echo "      what is not committed is not part of it"
sources >"$TREE/etc/apt/sources.list"
apt-config dump | grep -E '^Acquire::(https?::|Check-)' >"$TREE/etc/apt/apt.conf.d/99host" || true
cp --dereference /etc/resolv.conf /etc/hosts "$TREE/etc/"
{ pip_files; named_paths; } | while read -r file; do
    [[ ! -f $file ]] || install -D -m 644 "$file" "$TREE$file"
done
git clone --quiet --bare --depth 1 "file://$PWD" "$TREE/root/fresh.git"
inside >"$TREE/root/fresh-inside.sh"

say "make $TARGET there"
start=$SECONDS
loops >build/fresh.loops
unshare --mount --pid --fork --kill-child --propagation private "$0" inside </dev/null &
child=$!
status=0
wait "$child" || status=$?
child=
echo "      $((SECONDS - start)) s"

say "nothing left behind"
# a new loop device on a file of the tree; one that is deleted meanwhile shows by its path alone
left=$(loops | comm -13 build/fresh.loops - | while read -r name inode file; do
    [[ $file != /root/fresh-clone/* && $(stat -c %i "$TREE$file" 2>/dev/null) != "$inode" ]] || echo "$name on $file"
done)
if [[ -n $left ]]; then
    echo "loop devices were left behind: $left" >&2 && status=1
    cut -d' ' -f1 <<<"$left" | xargs losetup --detach
fi
if grep -qF " $TREE" /proc/self/mountinfo; then echo "mounts were left in $TREE" >&2 && status=1; fi
[[ $status -eq 0 ]] && verdict=works || verdict=FAILED
echo "fresh: make $TARGET $verdict on $RELEASE"
exit $status
