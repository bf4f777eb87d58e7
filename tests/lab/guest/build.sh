#!/usr/bin/env bash
# Makes what run.sh boots, in build/guest/: the distribution's kernel with all its modules, unpacked and not
# installed, and an initrd of our init. Instant when there is nothing to do; anew when the distribution has
# another kernel, or when a file of this folder has changed. Without a network what is there is used.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
GUEST=$HERE/../../../build/guest
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
ARCH=$(dpkg --print-architecture)
NEEDED=(virtio_pci 9p 9pnet_virtio overlay) # modules that lead to the root file system

candidate() { # PACKAGE=VERSION of the kernel that the metapackage stands for; nothing where apt has no lists
    apt-cache show --no-all-versions "linux-image-$ARCH" 2>/dev/null |
        sed -n -E 's/^Depends: (linux-image-[^ ,]+)( \(= ([^)]+)\))?.*/\1=\3/p' | sed 's/=$//' || true
}
stamp() { # what a build depends on
    echo "$1" && cat "$HERE/build.sh" "$HERE/init" "$HERE/boot.sh" | sha256sum
}
download() { # the kernel's package into the current folder
    local get=(apt-get -q -o APT::Sandbox::User=root download)
    "${get[@]}" "$(candidate)" || { apt-get -q update && "${get[@]}" "$(candidate)"; }
}
modules() { # the files of the needed modules, in the order in which they are loaded
    local name
    for name in "${NEEDED[@]}"; do modprobe -d linux -S "$1" -D "$name"; done | awk '$1 == "insmod" && !seen[$2]++ {print $2}'
}

mkdir -p "$GUEST"
cd "$GUEST"
exec 9>lock && flock 9 # two at once: the second waits, and finds it done
[[ -n $(candidate) ]] || apt-get -qq update >&2 || true
package=$(candidate)
if [[ -f stamp ]] && { [[ -z $package ]] || [[ "$(<stamp)" == "$(stamp "$package")" ]]; }; then
    exit 0
fi
[[ -n $package ]] || { echo "apt offers no linux-image-$ARCH here" >&2; exit 1; }

rm -rf stamp new linux initrd.gz && mkdir new
(cd new && download >&2 && dpkg -x ./*.deb "$GUEST/linux")
version=$(basename "$(echo linux/boot/vmlinuz-*)") && version=${version#vmlinuz-}
[[ -e linux/lib ]] || ln -s usr/lib linux/lib # Debian 13 has the modules below usr
[[ -e linux/usr/lib/modules ]] || { mkdir -p linux/usr/lib && ln -s ../../lib/modules linux/usr/lib/modules; }
depmod -b linux "$version"
echo "$version" >version
mv "linux/boot/vmlinuz-$version" vmlinuz
rm -rf linux/boot linux/usr/share

mkdir -p new/root/{bin,dev,lower,modules,new,proc,sys,upper}
cp "$HERE/init" new/root/init && cp "$HERE/boot.sh" new/root/boot.sh && chmod +x new/root/init
cp "$(command -v busybox)" new/root/bin/
count=100
for file in $(modules "$version"); do
    name=new/root/modules/$((count += 1)).ko
    case $file in
        *.xz) /usr/bin/python3 -c 'import lzma, sys; sys.stdout.buffer.write(lzma.open(sys.argv[1]).read())' "$file" ;;
        *.gz) gzip -dc "$file" ;;
        *) cat "$file" ;;
    esac >"$name"
done
(cd new/root && find . | cpio --create --format newc --quiet | gzip -1) >initrd.gz
rm -rf new
stamp "$package" >stamp
