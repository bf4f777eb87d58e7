# forget.sh NODE: this master accepts the node's key no longer.
said=$(/opt/libstorage/bin/salt-key --yes --quiet --delete "$1" 2>&1) || { echo "$said" >&2 && exit 1; }
