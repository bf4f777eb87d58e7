# accept.sh NODE <public key: this master accepts exactly this key of that minion; prints its own public key.
node=$1
dir=/etc/salt/pki/master
key=$(cat)
[[ $key == "-----BEGIN PUBLIC KEY-----"* ]] || { echo "what came for $node is no public key" >&2 && exit 1; }
mkdir -p "$dir/minions"
rm -f "$dir"/minions_{pre,denied,rejected}/"$node"
if [[ $(cat "$dir/minions/$node" 2>/dev/null) != "$key" ]]; then
    # whole or not at all: the master may read it at any moment
    temporary=$(mktemp "$dir/.accept.XXXXXX")
    printf '%s\n' "$key" >"$temporary"
    chmod 644 "$temporary"
    mv "$temporary" "$dir/minions/$node"
fi
cat "$dir/master.pub"
