# install.sh master|minion <requirements.lock: Salt of the pinned version in /opt/libstorage, and its services.
kind=$1
place=/opt/libstorage
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=$PATH:/usr/sbin:/sbin
lock=$(mktemp)
trap 'rm -f "$lock"' EXIT
cat >"$lock"

. /etc/os-release
case "$ID:${VERSION_ID:-}" in
debian:12 | debian:13 | ubuntu:24.04 | ubuntu:26.04) ;;
*) echo "${PRETTY_NAME:-this system} is not supported: use Debian 12 or 13, or Ubuntu 24.04 or 26.04." >&2 && exit 1 ;;
esac

# first boots still run their own installations
if command -v cloud-init >/dev/null; then timeout 600 cloud-init status --wait >/dev/null || true; fi

if [[ $(cat "$place/installed" 2>/dev/null) != "$(sha256sum <"$lock")" ]]; then
    need=()
    for package in python3-venv python3-dev gcc; do # some of Salt's dependencies come as source
        [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || need+=("$package")
    done
    if ((${#need[@]})); then
        apt-get -qq -o DPkg::Lock::Timeout=300 update
        apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${need[@]}"
    fi
    rm -f "$place/installed"
    python3 -m venv --clear "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check --constraint "$lock" salt psutil PyYAML
    "$place/bin/salt-call" --version
    sha256sum <"$lock" >"$place/installed"
fi
for tool in "$place"/bin/salt*; do ln -sf "$tool" /usr/local/bin/; done

unit() { # unit NAME DESCRIPTION
    cat >"/etc/systemd/system/salt-$1.service" <<EOF
[Unit]
Description=$2
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=all
LimitNOFILE=100000
KillMode=${3}
ExecStart=$place/bin/salt-$1
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
EOF
}
mkdir -p /etc/salt/minion.d /etc/salt/pki/minion
chmod 700 /etc/salt/pki/minion
unit minion "Salt minion" process
if [[ $kind == master ]]; then
    mkdir -p /etc/salt/master.d /etc/salt/pki/master
    chmod 700 /etc/salt/pki/master
    unit master "Salt master" mixed
else
    systemctl disable --quiet --now salt-master 2>/dev/null || true
    rm -f /etc/systemd/system/salt-master.service
fi
systemctl daemon-reload
# a host that has joined already: what runs is of the old version, or was stopped for the new one
if [[ -e /etc/salt/minion.d/libstorage.conf ]]; then
    systemctl enable --quiet salt-minion
    systemctl restart --no-block salt-minion
fi
