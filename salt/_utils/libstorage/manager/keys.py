"""Where each record lives in the store, below ``<prefix>/v1/``."""

VOLUMES = "volumes/"
SNAPSHOTS = "snapshots/"
ACCESS = "access/"
ATTACHMENTS = "attachments/"
REFERENCES = "references/"
OPERATIONS = "operations/"
OWNERS = "owners/"
EVENTS = "events/"
FORGOTTEN = "forgotten"
ELECTED = "elected"
NODES = "nodes/"
DELEGATED = "delegated/"
FENCED = "fenced/"
DRAINED = "drained/"
PROFILES = "qos/profiles/"
QOS_GLOBAL = "qos/global"
SCHEMA = "schema"
MANAGER = "manager"
REBUILT = "rebuilt"


def volume(name: str) -> str:
    return f"{VOLUMES}{name}"


def access(name: str) -> str:
    return f"{ACCESS}{name}"


def snapshots(name: str) -> str:
    return f"{SNAPSHOTS}{name}/"


def snapshot(volume: str, name: str) -> str:
    return f"{SNAPSHOTS}{volume}/{name}"


def attachments(name: str) -> str:
    return f"{ATTACHMENTS}{name}/"


def attachment(name: str, node: str) -> str:
    return f"{ATTACHMENTS}{name}/{node}"


def references(name: str) -> str:
    return f"{REFERENCES}{name}/"


def reference(name: str, node: str) -> str:
    return f"{REFERENCES}{name}/{node}"


def operation(name: str) -> str:
    return f"{OPERATIONS}{name}"


def owner(id: str) -> str:
    return f"{OWNERS}{id}"


def capacity(controller: str, where: str) -> str:
    return f"capacity/{controller}/{where}"


def data(name: str, node: str = "") -> str:
    return f"data/{name}/{node}"


def purge(node: str, id: str = "") -> str:
    return f"purge/{node}/{id}"


def node(name: str) -> str:
    return f"{NODES}{name}"


def fenced(node: str) -> str:
    return f"{FENCED}{node}"


def drained(node: str) -> str:
    return f"{DRAINED}{node}"


def delegated(node: str, id: str = "") -> str:
    return f"{DELEGATED}{node}/{id}"


def profile(name: str) -> str:
    return f"{PROFILES}{name}"


TRASH = "trash/"


def trash(id: str) -> str:
    return f"{TRASH}{id}"


def request(id: str, verb: str, name: str, digest: str, nth: int) -> str:
    return f"requests/{id}/{verb}/{name}/{digest}/{nth}"


REQUESTS = "requests/"


def event(time: str, id: str) -> str:
    return f"{EVENTS}{time}-{id}"
