#!/usr/bin/env bash
# over.sh SCRIPT [ARGUMENT...]: runs a script as root on the host that the environment describes, its own standard
# input handed on. A host that shows another key than SSH_HOST_KEY gets nothing; the same holds for the bastion. A host
# that nobody has seen yet has no SSH_HOST_KEY: its key is noted in the file SSH_KNOWN under SSH_IDENTITY at the first
# contact, and must be the same ever after. Its first boot is waited for, SSH_WAIT seconds at most.
set -euo pipefail
script=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

host() { # host NAME ADDRESS PORT USER KEY: one host of ssh's configuration, known by its one key
    printf 'Host %s\n  HostName %s\n  Port %s\n  User %s\n' "$1" "$2" "$3" "$4"
    if [[ -n $5 ]]; then
        printf '%s %s\n' "$1" "$5" >>"$dir/known"
        printf '  HostKeyAlias %s\n' "$1"
    else
        : >>"$SSH_KNOWN" # what cannot be noted must not be trusted
        printf '  HostKeyAlias %s\n  UserKnownHostsFile "%s"\n  StrictHostKeyChecking accept-new\n' "$SSH_IDENTITY" "$SSH_KNOWN"
    fi
}
{
    host node "$SSH_ADDRESS" "$SSH_PORT" "$SSH_USER" "$SSH_HOST_KEY"
    if [[ -n ${BASTION_ADDRESS:-} ]]; then
        # as ProxyJump, but what ssh says of the bastion is kept apart
        printf '  ProxyCommand ssh -F "%s" -E "%s" -W [%%h]:%%p bastion\n' "$dir/config" "$dir/bastion"
        host bastion "$BASTION_ADDRESS" "$BASTION_PORT" "$BASTION_USER" "$BASTION_HOST_KEY"
    fi
    printf 'Host *\n  BatchMode yes\n  StrictHostKeyChecking yes\n  CheckHostIP no\n  LogLevel ERROR\n'
    printf '  UserKnownHostsFile %s\n  GlobalKnownHostsFile /dev/null\n' "$dir/known"
    printf '  ConnectTimeout %s\n  ServerAliveInterval 5\n  ServerAliveCountMax 6\n' "${SSH_CONNECT:-15}"
    if [[ -n $SSH_KEY_FILE ]]; then printf '  IdentityFile "%s"\n  IdentitiesOnly yes\n' "$SSH_KEY_FILE"; fi
} >"$dir/config"

# The script travels in the command, quoted for any shell, so that standard input stays free for what must not be an
# argument.
quoted() { for word; do printf "'%s' " "${word//\'/\'\\\'\'}"; done; }
command=$(quoted bash --norc -euo pipefail -c "$(<"$script")" "${script##*/}" "$@")
[[ $SSH_USER == root ]] || command="sudo -n true || exit 253; exec sudo -n $command"
way=(ssh -F "$dir/config" -E "$dir/node" node)
refused() { grep -qs "Host key verification failed" "$dir/$1"; } # refused node|bastion
until=$((SECONDS + ${SSH_WAIT:-0}))
while ((SECONDS < until)) && ! timeout --foreground 30 "${way[@]}" true </dev/null 2>/dev/null; do
    if refused node || refused bastion; then break; fi
    sleep 1
done
rm -f "$dir"/{node,bastion}
status=0
timeout --foreground "${SSH_LIMIT:-1200}" "${way[@]}" "$command" || status=$?
((status != 255)) || cat "$dir"/{bastion,node} >&2 2>/dev/null || true
case $status in
0) exit ;;
124) why="${script##*/} did not end within ${SSH_LIMIT:-1200} s." ;;
253) why="$SSH_USER may not use sudo without a password at $SSH_ADDRESS; allow it in /etc/sudoers.d there, or connect as root." ;;
255)
    if refused bastion; then
        why="the bastion $BASTION_ADDRESS is not the host that ssh.bastion.host_key names, and was sent nothing; correct that key only if it has changed by right."
    elif refused node; then
        names="host_key names"
        [[ -n $SSH_HOST_KEY ]] || names="$SSH_KNOWN knows as $SSH_IDENTITY"
        why="$SSH_ADDRESS is not the host that $names, and was sent nothing; correct that key only if it has changed by right."
    elif [[ -s $dir/bastion ]] && ! grep -q "stdio forwarding failed" "$dir/bastion"; then
        why="the bastion $BASTION_ADDRESS cannot be reached by SSH; see above."
    else
        why="$SSH_ADDRESS cannot be reached by SSH${BASTION_ADDRESS:+ from the bastion $BASTION_ADDRESS}; see above."
    fi
    ;;
*) why="${script##*/} failed with exit status $status; see above." ;;
esac
echo "$NODE: $why" >&2
exit "$status"
