#!/usr/bin/env bash
# join.sh: the node of the environment and the master (MASTER_...) get to know each other's public keys.
set -euo pipefail
on_master() { # on_master SCRIPT ARGUMENT...
    (
        for name in NODE SSH_ADDRESS SSH_PORT SSH_USER SSH_KEY_FILE SSH_HOST_KEY SSH_IDENTITY SSH_KNOWN BASTION_ADDRESS BASTION_PORT BASTION_USER BASTION_HOST_KEY; do
            from=MASTER_$name
            export "$name=${!from:-}"
        done
        "$OVER" "$@"
    )
}
minion_key=$("$OVER" "$FILES/key.sh" </dev/null)
master_key=$(on_master "$FILES/accept.sh" "$NODE" <<<"$minion_key")
"$OVER" "$FILES/meet.sh" "$NODE" "$MASTER" <<<"$master_key"
