# serve.sh ADDRESS INVENTORY ROSTER <archive: the master with the project's trees, the roster and the cluster's pillar.
address=$1
inventory=$2 # JSON
roster=$3    # the same
place=/srv/libstorage
umask 027
mkdir -p "$place"
rm -rf "$place/next"
mkdir "$place/next"
tar -C "$place/next" --no-same-owner -xz
printf '%s\n' "$inventory" >"$place/next/inventory.json"
for part in salt pillar inventory.json; do
    rm -rf "${place:?}/old"
    if [[ -e $place/$part ]]; then mv "$place/$part" "$place/old"; fi
    mv "$place/next/$part" "$place/$part"
done
rm -rf "$place/next" "$place/old"

printf '%s\n' "$roster" >/etc/salt/roster
conf=/etc/salt/master.d/libstorage.conf
before=$(sha256sum "$conf" 2>/dev/null || true)
cat >"$conf" <<EOF
# Written by Terraform. Keys are accepted over SSH alone, one by one.
interface: $address
auto_accept: False
open_mode: False
file_roots: {base: [$place/salt]}
pillar_roots: {base: [$place/pillar]}
ext_pillar: [{libstorage_inventory: $place/inventory.json}]
module_dirs: [/opt/libstorage/master]
EOF
case $address in *:*) echo "ipv6: True" >>"$conf" ;; esac
mkdir -p /opt/libstorage/master/pillar
cat >/opt/libstorage/master/pillar/libstorage_inventory.py <<'EOF'
"""The cluster's inventory as the pillar ``cluster``."""

import json


def ext_pillar(minion_id, pillar, path):
    with open(path) as file:
        return {"cluster": json.load(file)}
EOF
# its key pair is made by its first start
systemctl enable --quiet salt-master
if [[ $before != "$(sha256sum "$conf")" ]]; then systemctl restart salt-master; else systemctl start salt-master; fi
# what this master runs itself, where it is other code than before
code=$(cd "$place/salt" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
if [[ $(cat "$place/taken" 2>/dev/null) != "$code" ]]; then
    /opt/libstorage/bin/python - <<'EOF'
import logging

import salt.config, salt.runner

logging.disable(logging.CRITICAL)
options = salt.config.master_config("/etc/salt/master")
options["quiet"] = True
client = salt.runner.RunnerClient(options)
for function in ("saltutil.sync_all", "fileserver.clear_file_list_cache", "fileserver.update"):
    done = client.cmd(function, print_event=False, full_return=True)
    if not done.get("success"):
        raise SystemExit(f"salt-run {function} failed: {done.get('return')}")
EOF
    echo "$code" >"$place/taken"
fi
