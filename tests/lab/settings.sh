# What this machine says of mirrors, proxies and certificates, for a system that is made here; sourced.
# HOST is this machine's Debian release, RELEASE the other one's, INCLUDE its packages beyond the least; LOG has what
# commands say.

sources() { # this machine's Debian mirrors as source lines for the other release
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
        while read -r uri suite component; do
            # a list of mirrors, as cloud images have it: its first
            [[ $uri != mirror+file:* ]] || uri=$(awk 'NF {print $1; exit}' "${uri#mirror+file:}")
            [[ ! $suite =~ ^$HOST(-updates|-security)?$ ]] || echo "deb $uri ${suite/$HOST/$RELEASE} $component"
        done | sort -u
}
settings() { # NAME=VALUE of what pip and the network need, one a line
    env | grep -E '^(PIP_[A-Z_]+|[a-zA-Z]+_(proxy|PROXY)|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|CI|ONLY|N)=' || true
}
pip_files() { # pip's configuration files here
    local file
    for file in ${PIP_CONFIG_FILE:-} {/etc/xdg/pip,/etc,~/.config/pip,~/.pip}/pip.conf; do
        [[ ! -f $file ]] || echo "$file"
    done
}
named_paths() { # files and directories that these settings name; of a package index all, not only its pages
    { settings; pip_files | xargs -r cat; } | grep -oE '(file://)?/[^ ,"'\'']+' |
        sed -E 's,^file://,,; s,/simple/?$,,' | sort -u |
        while read -r path; do [[ ! -e $path || $path == / ]] || echo "$path"; done
}
quiet() { "$@" >>"$LOG" 2>&1 || { echo "failed: $*; the end of $LOG:" && tail -n 25 "$LOG" && exit 1; }; }
has_debootstrap() { # and lists of packages, which name the mirror
    if ! command -v debootstrap >/dev/null; then
        quiet apt-get -y -o DPkg::Lock::Timeout=300 update
        DEBIAN_FRONTEND=noninteractive quiet apt-get -y -o DPkg::Lock::Timeout=300 install debootstrap
    fi
    [[ -n $(sources) ]] || quiet apt-get update # a machine that has no package lists yet
}
minimal() { # minimal DIR: a minimal system of RELEASE there
    local mirror proxy
    mirror=$(sources | awk -v suite="$RELEASE" '$3 == suite {print $2; exit}')
    [[ -n $mirror ]] || { echo "apt on this machine names no Debian mirror for $HOST" >&2; exit 1; }
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    quiet env ${proxy:+http_proxy="$proxy"} debootstrap --variant=minbase --include="$INCLUDE" "$RELEASE" "$1" "$mirror"
}
