#!/usr/bin/env bash
# leave.sh: the node of the environment leaves: drained, its minion stopped, its key deleted on the master. A dead
# host, or a dead master, is said and holds up nobody; a node whose volumes are in use stays.
set -euo pipefail
export SSH_CONNECT=5
on_master() { # on_master SCRIPT ARGUMENT...
    (
        for name in NODE SSH_ADDRESS SSH_PORT SSH_USER SSH_KEY_FILE SSH_HOST_KEY SSH_IDENTITY SSH_KNOWN BASTION_ADDRESS BASTION_PORT BASTION_USER BASTION_HOST_KEY; do
            from=MASTER_$name
            export "$name=${!from:-}"
        done
        "$OVER" "$@" </dev/null
    )
}
status=0
SSH_LIMIT=150 on_master "$FILES/drain.sh" "$NODE" "$DRAIN" || status=$?
case $status in
0) ;;
3) exit 1 ;; # in use: drain.sh has said so
*) echo "$NODE: leaves without having been drained." >&2 ;;
esac
SSH_LIMIT=60 "$OVER" "$FILES/part.sh" </dev/null || echo "$NODE: its minion could not be stopped." >&2
SSH_LIMIT=60 on_master "$FILES/forget.sh" "$NODE" || echo "$NODE: its key could not be deleted on the master." >&2
