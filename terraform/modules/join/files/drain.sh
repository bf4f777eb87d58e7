# drain.sh NODE yes|no: no volume is in use on the node any more. Exit status 1: its minion does not answer or has no
# dsvolume; 3: a volume is in use, or nobody knows, and the node must stay.
node=$1
[[ $2 == yes ]] || exit 0
ask() { # ask SECONDS FUNCTION [ARGUMENT...]
    timeout 130 /opt/libstorage/bin/salt "$node" --timeout "$1" --out=json --static "${@:2}" 2>/dev/null || true
}
ping=$(ask 15 test.ping)
answer=
if [[ $ping == *true* ]]; then answer=$(ask 90 dsvolume.drain timeout=30); fi
/opt/libstorage/bin/python - "$node" "$ping" "$answer" <<'EOF'
import json, sys

node, ping, text = sys.argv[1:]


def end(status, says):
    print(f"{node} {says}", file=sys.stderr)
    sys.exit(status)


if "true" not in ping:
    end(1, "does not answer.")
try:
    answer = json.loads(text)[node]
except (ValueError, KeyError, TypeError):
    answer = False
if isinstance(answer, dict) and answer.get("Drained"):
    sys.exit(0)
if isinstance(answer, str) and "is not available" in answer:
    end(1, "has no dsvolume.")
why = answer if isinstance(answer, str) else "it did not say whether it is drained"
end(3, f"is not removed: {why}; free its volumes, or set drain = false and apply that first.")
EOF
