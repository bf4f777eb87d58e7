"""
The etcd store: one key-value store for many hosts.

Here is the contract: keys, transactions. Below it: ``etcd_watch``, ``etcd_leases`` (owners),
``etcd_client`` (endpoints, fail-over), ``etcd_settings``.

**Keys** are ``<prefix>/v1/<key>``. **A value** is its JSON text, a line feed, and the mark of the
transaction that wrote it (a UUID), which no reader of the contract sees.

**Reads** are all linearizable: etcd answers in 0.3 ms either way, and a member that is cut off
from the others would show the past for as long as it likes, from which the doctor draws
conclusions. Lists are read in pages; ``values`` reads all its pages at the first one's revision.

**Revisions** are etcd's, which counts the changes of all its users: each transaction raises them by
one, and those of others come between.

Transactions whose outcome is unknown
    A request is sent, and the connection breaks, or no answer comes in time. It may have been
    carried out; it may be so *later*, by a member that was stopped and wakes up. What the callers
    (``manager/journal.py`` above all) rely on: a revision means applied; None means that a compare
    did not hold and nothing was written; StoreUnavailable means that nobody knows, and they go on
    from what they read next.

    So the same transaction, with the same mark, is sent again, to the next endpoint, with reads of
    all keys that it writes for the case that a compare does not hold:

    1. It is applied: the first attempt was not, and can be no more. Whatever is compared here is
       also written (an operation at its revision, a record at its revision, a key that was
       absent), so that the compares of a first attempt that wakes up do not hold. The few writes
       without compares (a failed request's event, a time of access) may be made twice, alike.
    2. It is not, and one of its keys carries its mark: the first attempt was applied, at that
       key's revision. A transaction of the journal writes an event or an operation with its own
       token, which nobody else overwrites while its owner lives.
    3. It is not, it only deletes, and all its keys are gone: that is what was asked for.
    4. It is not, and no key carries the mark: nothing was written, None. Should a first attempt
       wake up when what it compares holds once more (keys that are absent again), it writes an
       operation or a claim whose token nobody works on, which is recovered as in 5.
    5. No endpoint answers within the limit: StoreUnavailable. Whether it was applied is seen by
       who reads the keys next. A begin that is applied later is an operation whose process does
       not work on it, and is recovered like a dead one's; a step that is applied later carries the
       owner's token, which re-reads and goes on; a commit that was applied took the operation away
       and wrote its event, by which ``Held.commit`` knows it; if recovery has taken the operation
       over meanwhile, its revision has moved on, and a late commit does not hold.
"""

import json
import uuid
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from .contract import (
    MAX_WRITES,
    Change,
    Changed,
    Compare,
    Describe,
    Entry,
    KeyAbsent,
    KeyAtRevision,
    Put,
    Value,
    Values,
    Write,
)
from .etcd_client import JSON, Client, Refused
from .etcd_leases import EtcdLeases, lease_of
from .etcd_settings import EtcdSettings
from .etcd_watch import Watch, decoded

_PAGE = 2000
_PAGE_OF_KEYS = 10_000
_OWNERS = "owners/"
_LAST = "\U0010ffff"  # sorts after every key


class EtcdStore:
    """
    The store contract on an etcd cluster.

    settings
        How the cluster is reached, and below which prefix the keys are.
    describe
        What ``owners/<owner>`` says about this process.
    lease
        Seconds after which a silent owner's keys are deleted; etcd counts whole ones.
    """

    def __init__(self, settings: EtcdSettings, *, describe: Describe, lease: float = 15.0) -> None:
        self._root = f"{settings.prefix}/v1/"
        self._client = Client(settings)
        self._leases = EtcdLeases(
            self._client, describe, lease, put=self._put_owner, exists=self._owner_exists
        )

    # -- reading

    def get(self, key: str, *, linearizable: bool = False) -> Entry | None:
        """The key's entry, or None; every read here is linearizable."""
        answer, _ = self._client.call("kv/range", {"key": self._encode(key)})
        for found in answer.get("kvs", ()):
            return self._entry(found)
        return None

    def read(self, *keys: str) -> Sequence[Entry]:
        """The entries of several keys, or of all below those that end in ``/``, of one read."""
        ranges = [
            {"key": self._encode(key)} | ({"range_end": self._end(key)} if key[-1] == "/" else {})
            for key in keys
        ]
        body = {"success": [{"request_range": one} for one in ranges]}
        answer, _ = self._client.call("kv/txn", body)
        responses = [one.get("response_range", {}) for one in answer.get("responses", ())]
        found = {kv["key"]: kv for response in responses for kv in response.get("kvs", ())}
        return sorted(map(self._entry, found.values()), key=lambda entry: entry.key)

    def list(self, prefix: str, *, linearizable: bool = False) -> Iterator[Entry]:
        """All entries below ``prefix`` in key order; each page is a read of its own."""
        for page in self._pages(prefix, steady=False):
            for found in page:
                yield self._entry(found)

    def values(self, prefix: str, start: str = "", end: str = "") -> Values:
        """The values below ``prefix``, from ``start``, before ``end``, of one revision."""
        while True:
            try:
                return self._decoded(self._pages(prefix, start, end, steady=True))
            except Refused as refusal:
                # So many pages that the first one's revision was compacted away meanwhile.
                if "compacted" not in refusal.words:
                    raise

    def _decoded(self, pages: "Iterator[Sequence[JSON]]") -> Values:
        """The values of all pages; while one is decoded, etcd prepares the next."""
        values: Values = []
        page = next(pages)
        with ThreadPoolExecutor(1, "libstorage-page") as ahead:
            while page:
                # One that is not full is the last: most lists are of one, and need no thread.
                coming = ahead.submit(next, pages, ()) if len(page) == _PAGE else None
                texts = [b64decode(kv["value"]).partition(b"\n")[0] for kv in page]
                values += json.loads(b"[" + b",".join(texts) + b"]")
                page = coming.result() if coming else ()
        return values

    def changed(self, prefix: str, since: int = 0) -> Changed:
        """Which keys below ``prefix`` were changed after a revision, and how many there are."""
        body = {"key": self._encode(prefix), "range_end": self._end(prefix), "count_only": True}
        while True:
            answer, _ = self._client.call("kv/range", body)
            at = _revision(answer)
            try:
                keys = tuple(
                    self._relative(b64decode(kv["key"]).decode())
                    for page in self._pages(prefix, steady=True, keys_at=at, since=since)
                    for kv in page
                )
                return Changed(at, int(answer.get("count", 0)), keys)
            except Refused as refusal:
                # As with values: compacted away meanwhile.
                if "compacted" not in refusal.words:
                    raise

    def probe(self, seconds: float) -> None:
        """Raise StoreUnavailable unless it answers within so long."""
        self._revision_now(seconds)

    def revision(self) -> int:
        """etcd's revision now."""
        return self._revision_now()

    def _revision_now(self, limit: float | None = None) -> int:
        body = {"key": self._encode(""), "count_only": True}
        return _revision(self._client.call("kv/range", body, limit=limit)[0])

    def watch(
        self, prefix: str, revision: int, *, timeout: float | None = None
    ) -> Iterator[Change]:
        """
        Report changes below ``prefix`` from ``revision`` on.

        Ends after ``timeout`` seconds without a change. Raises Compacted where the changes since
        ``revision`` are no longer kept.
        """
        watch = Watch(self._client, self._encode(prefix), self._end(prefix), revision)
        for event in watch.events(timeout):
            key, value, at = decoded(event)
            yield Change(self._relative(key), None if value is None else _value(value), at)

    def _pages(
        self,
        prefix: str,
        start: str = "",
        end: str = "",
        *,
        steady: bool,
        keys_at: int = 0,
        since: int = 0,
    ) -> "Iterator[Sequence[JSON]]":
        """
        The encoded entries in pages.

        steady
            All of the first page's revision.
        keys_at
            The keys alone, of this revision.
        since
            Those that were changed after this one.
        """
        body: JSON = {
            "key": self._encode(max(prefix, start)),
            "range_end": self._encode(end) if "" < end < prefix + _LAST else self._end(prefix),
            "limit": str(_PAGE_OF_KEYS if keys_at else _PAGE),
            "keys_only": bool(keys_at),
            "revision": str(keys_at),
            "min_mod_revision": str(since + 1 if since else 0),
        }
        while True:
            answer, _ = self._client.call("kv/range", body)
            page = answer.get("kvs", [])
            yield page
            if not answer.get("more"):
                return
            body["key"] = b64encode(b64decode(page[-1]["key"]) + b"\0").decode()
            # What a later page says is the newest revision, not its own.
            if steady and body["revision"] == "0":
                body["revision"] = answer["header"]["revision"]

    # -- writing

    def transact(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int | None:
        """
        Apply all writes if all compares hold; the new revision, or None.

        Raises ValueError for more than MAX_WRITES writes or two of the same key.
        """
        if len(writes) > MAX_WRITES:
            raise ValueError(f"{len(writes)} writes in one transaction; {MAX_WRITES} at most")
        if len({write.key for write in writes}) < len(writes):
            raise ValueError("two writes of one key in one transaction")
        mark = uuid.uuid4().hex
        leased = any(isinstance(write, Put) and write.leased for write in writes)
        lease = lease_of(self.owner()) if leased else None
        body: JSON = {
            "compare": [self._compare(compare) for compare in compares],
            "success": [self._write(write, mark, lease) for write in writes],
        }
        look = [{"request_range": {"key": self._encode(write.key)}} for write in writes]
        try:
            answer, doubt = self._client.call("kv/txn", body, again={**body, "failure": look})
        except Refused as refusal:
            if leased and "lease not found" in refusal.words:
                return self.transact(compares, writes)  # the owner has just ended
            raise
        if answer.get("succeeded"):
            return _revision(answer)
        return self._applied_before(answer, mark, compares, writes) if doubt else None

    def _applied_before(
        self, answer: JSON, mark: str, compares: Sequence[Compare], writes: Sequence[Write]
    ) -> int | None:
        """The revision at which an earlier attempt was applied, None if none was."""
        found = [
            kv
            for response in answer.get("responses", ())
            for kv in response.get("response_range", {}).get("kvs", ())
        ]
        since = max((c.revision for c in compares if isinstance(c, KeyAtRevision)), default=0)
        for kv in found:
            if revision := self._written(kv, mark, since):
                return revision
        only_deletes = writes and not any(isinstance(write, Put) for write in writes)
        return _revision(answer) if only_deletes and not found else None

    def _written(self, kv: JSON, mark: str, since: int) -> int | None:
        """
        The revision at which a key got a value with our mark, which others may have overwritten.

        since
            Before it nothing of ours was written.
        """
        while int(kv["mod_revision"]) > since:
            if b64decode(kv.get("value", "")).endswith(b"\n" + mark.encode()):
                return int(kv["mod_revision"])
            if int(kv["version"]) == 1:
                return None
            earlier = {"key": kv["key"], "revision": str(int(kv["mod_revision"]) - 1)}
            try:
                [kv] = self._client.call("kv/range", earlier)[0]["kvs"]
            except Refused:
                return None  # compacted meanwhile
        return None

    def delete_range(self, start: str, end: str) -> int:
        """Delete the keys with ``start <= key < end``; how many there were."""
        if end <= start:
            return 0
        body = {"key": self._encode(start), "range_end": self._encode(end)}
        return int(self._client.call("kv/deleterange", body)[0].get("deleted", 0))

    def _compare(self, compare: Compare) -> JSON:
        if isinstance(compare, KeyAtRevision):
            return {
                "key": self._encode(compare.key),
                "target": "MOD",
                "result": "EQUAL",
                "mod_revision": str(compare.revision),
            }
        # Absent is what was created at revision 0; of a range that holds where it is empty.
        absent: JSON = {"target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        if isinstance(compare, KeyAbsent):
            return absent | {"key": self._encode(compare.key)}
        return absent | {
            "key": self._encode(compare.prefix),
            "range_end": self._end(compare.prefix),
        }

    def _write(self, write: Write, mark: str, lease: int | None) -> JSON:
        key = self._encode(write.key)
        if not isinstance(write, Put):
            return {"request_delete_range": {"key": key}}
        put = {"key": key, "value": _text(write.value, mark)}
        if write.leased:
            put["lease"] = str(lease)
        return {"request_put": put}

    # -- owners

    def owner(self) -> str:
        """This process's owner id; a new one after a fork, or where its lease has ended."""
        return self._leases.owner()

    def alive(self, owner: str) -> bool:
        """False where its key is absent."""
        return self._owner_exists(owner)

    def release(self, owner: str) -> None:
        """End an owner's lease and with it every key bound to it."""
        self._leases.release(owner)

    def close(self) -> None:
        """End this process's owner, as far as etcd answers, and close all connections."""
        self._leases.close()
        self._client.close()

    def _put_owner(self, owner: str, value: Value, lease: int, limit: float) -> None:
        text = _text(value, uuid.uuid4().hex)
        body = {"key": self._encode(_OWNERS + owner), "value": text, "lease": str(lease)}
        self._client.call("kv/put", body, limit=limit)

    def _owner_exists(self, owner: str, limit: float | None = None) -> bool:
        body = {"key": self._encode(_OWNERS + owner), "count_only": True}
        return int(self._client.call("kv/range", body, limit=limit)[0].get("count", 0)) > 0

    # -- keys and values

    def _encode(self, key: str) -> str:
        return b64encode((self._root + key).encode()).decode()

    def _end(self, prefix: str) -> str:
        """The first key after all that begin with ``prefix``; bytes of UTF-8 are below 255."""
        start = (self._root + prefix).encode()
        return b64encode(start[:-1] + bytes([start[-1] + 1])).decode()

    def _relative(self, key: str) -> str:
        return key.removeprefix(self._root)

    def _entry(self, found: JSON) -> Entry:
        key = self._relative(b64decode(found["key"]).decode())
        return Entry(key, _value(b64decode(found["value"])), int(found["mod_revision"]))


def _revision(answer: JSON) -> int:
    return int(answer["header"]["revision"])


def _text(value: Value, mark: str) -> str:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return b64encode(f"{text}\n{mark}".encode()).decode()


def _value(stored: bytes) -> Value:
    value: Value = json.loads(stored.partition(b"\n")[0])
    return value
