# answers.sh NODE=JOINED...: waits until every node answers with the code that this master serves. A node that was sent
# this code before, and has not joined anew since, is not sent it again unless it proves not to have it.
/opt/libstorage/bin/python - "$@" <<'EOF'
import hashlib, json, logging, os, pathlib, signal, sys, time

import salt.client
from salt.exceptions import SaltException

LIMIT = 300
place = pathlib.Path("/srv/libstorage")
joined = dict(word.split("=", 1) for word in sys.argv[1:])
logging.disable(logging.CRITICAL)
client = salt.client.get_local_client("/etc/salt/master")
client.opts["gather_job_timeout"] = 3  # who is silent is asked again soon
what = "test.ping"


def ask(nodes, seconds, *calls):
    """What nodes answer to a call, or to several in one job; a call is a function and its arguments."""
    functions, arguments = [call[0] for call in calls], [list(call[1:]) for call in calls]
    if len(calls) == 1:
        functions, arguments = functions[0], arguments[0]
    try:
        return client.cmd(list(nodes), functions, arguments, tgt_type="list", timeout=seconds) if nodes else {}
    except SaltException:  # the master is too busy to take it
        time.sleep(1)
        return {}


def silent(nodes, kind, answers):
    return [node for node in nodes if not (isinstance(answers.get(node), kind) and answers[node])]


def send(nodes):
    """The code, all kinds of it in one job."""
    kinds = sorted(path.name[1:] for path in (place / "salt").glob("_*") if path.name != "_runners")
    new = [(f"saltutil.sync_{kind}", None, False) for kind in kinds]
    ask(nodes, 60, *new, ("saltutil.refresh_modules",), ("saltutil.refresh_pillar",))


def late(*_):
    silent = ", ".join(waiting) or ", ".join(joined)
    sys.exit(f"{silent}: no answer to {what} within {LIMIT} s; see journalctl -u salt-minion there.")


signal.signal(signal.SIGALRM, late)
signal.alarm(LIMIT)
waiting, patience = list(joined), 1
while waiting := silent(waiting, bool, ask(waiting, patience, ("test.ping",))):
    patience = min(patience + 1, 15)

code = hashlib.sha256()
for path in sorted((place / "salt").rglob("*")):
    if path.is_file():
        code.update(f"{path}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
now = {node: [how, code.hexdigest()] for node, how in joined.items()}
stamps = place / "sent.json"
try:
    before = json.loads(stamps.read_text())
except (OSError, ValueError):
    before = {}
what, waiting = "saltutil.sync", [node for node in joined if before.get(node) != now[node]]
known = [node for node in joined if node not in waiting]
send(waiting)
ask(known, 30, ("saltutil.refresh_pillar",))
what, waiting = "dsvolume.version", list(joined)
tries = 0
while waiting := silent(waiting, dict, ask(waiting, 15, ("dsvolume.version",))):
    tries += 1  # who was sent it just now may still be taking it up
    send([node for node in waiting if node in known or tries > 3])
    time.sleep(0.5)
new = stamps.with_suffix(".new")
new.write_text(json.dumps(now))
os.replace(new, stamps)
EOF
