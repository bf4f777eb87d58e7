#!/usr/bin/env bash
# run.sh FOLDER [SECONDS [MEMORY]] -- runs FOLDER/job, a bash script, as root in a guest, prints what it says and
# returns its exit status; 124 when the time is up (300 seconds, unless told), 125 when the guest fell.
#
# The guest is emulated by qemu in software (no KVM needed): the distribution's kernel with all its modules and
# cgroup v2 only, on this machine's root file system as it is. Whatever it changes there is gone in the end,
# except in FOLDER, which it sees as /run/lab. Its network ends at the tap device LAB_TAP; without one it has none.
# FOLDER/console keeps what its kernel said.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
FOLDER=$(cd "$1" && pwd) SECONDS_GIVEN=${2:-300} MEMORY=${3:-2048}

"$HERE/build.sh"
GUEST=$(cd "$HERE/../../../build/guest" && pwd)
rm -f "$FOLDER/status"
: >"$FOLDER/output" >"$FOLDER/console"
echo "$GUEST/linux/lib/modules/$(<"$GUEST/version")" >"$FOLDER/modules"

devices=()
share() { # share NAME FOLDER OPTIONS: a folder that the guest mounts by its name
    devices+=(-fsdev "local,id=$1,path=${2//,/,,},security_model=none,multidevs=remap$3")
    devices+=(-device "virtio-9p-pci,fsdev=$1,mount_tag=$1")
}
share root / ,readonly=on
share lab "$FOLDER" ""
if [[ -n ${LAB_TAP:-} ]]; then
    devices+=(-netdev "tap,id=net,ifname=$LAB_TAP,script=no,downscript=no" -device virtio-net-pci,netdev=net,romfile=)
fi
# the guest ends with this script, whatever ends it: qemu with its timeout, that with its parent
setpriv --pdeathsig TERM timeout --kill-after 5 "$SECONDS_GIVEN" qemu-system-x86_64 \
    -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m "$MEMORY" \
    -nodefaults -nographic -no-reboot -serial "file:${FOLDER//,/,,}/console" \
    -kernel "$GUEST/vmlinuz" -initrd "$GUEST/initrd.gz" -append "console=ttyS0 quiet panic=-1 mitigations=off" \
    "${devices[@]}" </dev/null &
guest=$!
tail --pid=$guest --sleep-interval 0.2 -n +1 -f "$FOLDER/output"
ended=0
wait $guest || ended=$?
if [[ -s $FOLDER/status ]]; then
    exit "$(<"$FOLDER/status")"
fi
tail -n 30 "$FOLDER/console" >&2
if [[ $ended -eq 124 || $ended -eq 137 ]]; then
    echo "the guest was stopped after $SECONDS_GIVEN seconds" >&2
    exit 124
fi
echo "the guest fell before its job was done" >&2
exit 125
