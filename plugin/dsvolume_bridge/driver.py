"""
Docker's volume driver protocol, version 1, on top of the module.

What Docker makes of an answer decides what may be said (measured with dockerd 20.10):

* An ``Err`` from ``Get``, and just as well a connection that breaks, lets Docker make an empty
  local volume of a name that it did not know. An ``Err`` lets it forget one that it knew, too. So
  it is given for one reason only: this very call has proven that there is no such volume. In any
  other case Docker is told that there is one, and the mount fails if need be.
* Where a connection is dropped, Docker tries again, with an empty body. That is never acted upon.
* Whatever else is said is JSON with ``Err``: a handler that fails would drop the connection.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from libstorage.errors import InvalidInput
from libstorage.host.processes import run_in
from libstorage.records import check_name

from .begun import Begun
from .cache import Cache
from .lanes import Lanes, TooSlow
from .logs import About
from .lookups import Lookups
from .metrics import Metrics
from .module import Module, Refused
from .references import References

log = logging.getLogger(__name__)

JSON = dict[str, Any]
CONTENT = "application/vnd.docker.plugins.v1.2+json"
LOOK_SECONDS = 50.0
"""Docker gives up after 60."""
KNOWN_SECONDS = 0.5
"""For a volume that the cache knows: an engine that starts asks for each of its containers'."""
CHANGE_SECONDS = 100.0
"""Docker gives up after 120."""
UNMOUNT_SECONDS = 50.0
UNKNOWN = "1970-01-01T00:00:00Z"
LOST = "_lost-request"
"""Stands for the volume of a ``Get`` whose name did not come; no volume may be named so."""
LOST_TEXT = (
    "The bridge was restarted while Docker asked for this container's volume; "
    "remove the container and create it anew"
)
LOST_CALL = "The bridge was restarted in the midst of this request of Docker's; try it again"
"""What Docker sends in place of a request whose connection broke has no body."""
NO_BODY = "The request has no JSON object as its body"
OPTIONS = ("policy", "size", "fstype", "shared", "automigrate", "labels", "qos_profile", "qos")
"""Options of a volume that are arguments of ``create``; others are options of its policy."""
OLDER = {"filesys": "fstype", "profile": "qos_profile"}

Answer = Callable[[JSON], Awaitable[JSON]]


class Driver:
    """
    The handlers of one engine's calls.

    engine
        ``docker`` or ``podman``: whose users the mounts are.
    activated
        Is called when the engine has begun to talk to us.
    """

    def __init__(
        self,
        engine: str,
        module: Module,
        lanes: Lanes,
        cache: Cache,
        metrics: Metrics,
        begun: Begun,
        references: References,
        activated: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._asker = {"door": engine}
        self._activated = activated
        self._begun = begun
        self._references = references
        self._module = module
        self._lanes = lanes
        self._cache = cache
        self._metrics = metrics
        self._lookups = Lookups(lambda names: module.call("ls", self._asker, names=names))

    def app(self) -> web.Application:
        """What is served on the driver's socket."""
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/Plugin.Activate", self._activate)
        calls: dict[str, Answer] = {
            "Capabilities": self._capabilities,
            "Create": self._create,
            "Get": self._get,
            "List": self._list,
            "Path": self._path,
            "Mount": self._mount,
            "Unmount": self._unmount,
            "Remove": self._remove,
        }
        for name, answer in calls.items():
            app.router.add_post(f"/VolumeDriver.{name}", partial(self._serve, name, answer))
        return app

    async def _activate(self, _: web.Request) -> web.Response:
        self._activated()
        return _said({"Implements": ["VolumeDriver"]})

    async def _serve(self, name: str, answer: Answer, request: web.Request) -> web.StreamResponse:
        """One call: its body read, its answer or its error said."""
        with self._metrics.call(self._engine, name) as call:
            try:
                body = await _body(request, name)
                call.about(body.get("Name"), body.get("ID"))
                said = await answer(body)
            except Refused as exc:
                call.refused = str(exc)
                said = {"Err": str(exc)}
            except Exception:
                log.exception("%s failed", name)
                call.failed = True
                said = {"Err": f"The bridge failed at {name}; see its log"}
        # Podman takes an error for one only by its status: a refused mount would be a mount of
        # nothing, and the container would find its own root there.
        wrong = self._engine == "podman" and said.get("Err")
        return _said({"Err": "", **said}, status=500 if wrong else 200)

    # -- the calls ----------------------------------------------------------------------------

    async def _capabilities(self, _: JSON) -> JSON:
        return {"Capabilities": {"Scope": "global"}}

    async def _get(self, body: JSON) -> JSON:
        name = body.get("Name")
        if not isinstance(name, str) or name in ("", LOST):
            log.warning("Get: Docker's request has lost its volume's name")
            return {"Volume": {"Name": LOST, "Mountpoint": "", "CreatedAt": UNKNOWN}}
        try:
            check_name(name)
            record = await self._lookups.find(name, self._patience(name))
            if record is None:
                [record] = await self._look("info", name)
        except InvalidInput as exc:
            raise Refused(str(exc), "InvalidInput") from exc
        except Refused as exc:
            # Only a name that is proven to be nobody's, or never can be, is said to be absent.
            if exc.kind == "NoSuchVolume":
                self._cache.drop(name)
                raise
            return {"Volume": self._remembered(name, str(exc))}
        except (TooSlow, TimeoutError):
            return {"Volume": self._remembered(name, f"looking {name} up takes too long")}
        except Exception:
            log.exception("Get of %s failed", name)
            return {"Volume": self._remembered(name, "the bridge failed; see its log")}
        self._cache.put(record)
        return {"Volume": _shown(record, status=True)}

    def _patience(self, name: str) -> float:
        """Seconds for a look-up: a known name is not waited for long, as an engine that starts."""
        if self._cache.get(name) is None:
            return LOOK_SECONDS
        return KNOWN_SECONDS if self._module.store_answers else 0

    def _remembered(self, name: str, reason: str) -> JSON:
        """
        A volume while the store cannot be asked: what the cache has, or that it may be there.

        Whoever is then given an error makes a local volume of a name that is new to him; whoever is
        told that there is one fails at its mount.
        """
        log.warning(About("Get is answered all the same", volume=name, reason=reason))
        self._metrics.remembered.inc()
        record = self._cache.get(name) or {"Name": name, "CreatedAt": UNKNOWN}
        held = {**record, "Mountpoint": self._module.mountpoint(name), "Err": reason}
        return _shown(held, status=True)

    async def _list(self, _: JSON) -> JSON:
        read = partial(self._cache.follow, partial(self._module.call, "index", self._asker))
        try:
            records = await self._lanes.read(read, LOOK_SECONDS)
        except (Refused, TooSlow) as exc:
            log.warning(About("List is answered from the cache", reason=str(exc)))
            self._metrics.remembered.inc()
            records = self._cache.all()
        try:
            points = await self._lanes.read(self._module.mountpoints, LOOK_SECONDS)
        except TooSlow:
            log.warning("List is answered without mount points: this host is too slow")
            points = {}
        return {
            "Volumes": [
                _shown({**record, "Mountpoint": points.get(record["Name"], "")})
                for record in records
            ]
        }

    async def _path(self, body: JSON) -> JSON:
        got = await self._get(body)
        return {"Mountpoint": got["Volume"]["Mountpoint"]}

    async def _create(self, body: JSON) -> JSON:
        options = _options(body.get("Opts"))
        self._cache.put(await self._change("create", _name(body), CHANGE_SECONDS, **options))
        return {}

    async def _remove(self, body: JSON) -> JSON:
        name = _name(body)
        # The container may have gone this very moment, and its volume is to go with it.
        await self._references.look_at(name, by_engine=True)
        await self._change("rm", name, UNMOUNT_SECONDS)
        self._cache.drop(name)
        return {}

    async def _mount(self, body: JSON) -> JSON:
        name, user = _name(body), self._user(body)
        work = partial(
            self._module.call, "mount", self._asker, name, timeout=CHANGE_SECONDS, **user
        )
        try:
            with self._begun.call(user["id"]):
                presence = await self._lanes.change(name, work, CHANGE_SECONDS)
        except TooSlow as exc:
            # Docker is told that it failed and sends no unmount: what comes late is taken back.
            exc.task.add_done_callback(lambda late: self._take_back(late, name, user))
            raise Refused(_slow("mount", name), "OperationInProgress") from exc
        return {"Mountpoint": presence["Mountpoint"]}

    def _take_back(self, late: Any, name: str, user: JSON) -> None:
        if not late.cancelled() and late.exception() is None:
            self._lanes.later(
                name, partial(self._module.call, "unmount", self._asker, name, **user)
            )

    async def _unmount(self, body: JSON) -> JSON:
        name, user = _name(body), self._user(body)
        if await self._in_use(name, user):
            mount = user["id"][:12]
            log.warning(About("A mount is kept: its container runs on", volume=name, mount=mount))
            return {}
        with self._begun.call(user["id"]):
            await self._change("unmount", name, UNMOUNT_SECONDS, **user)
        return {}

    async def _in_use(self, name: str, user: JSON) -> bool:
        try:
            used: bool = await self._lanes.read(partial(self._runs_on, name, user), UNMOUNT_SECONDS)
        except TooSlow as exc:
            raise Refused(
                f"Whether a container still uses {name} was not found out in time; "
                "once it does not, it is unmounted without being asked again",
                "OperationInProgress",
            ) from exc
        return used

    def _runs_on(self, name: str, user: JSON) -> bool:
        """
        Is it the last mount of a container that lives?

        Docker unmounts a container's volumes when a copy from it could not mount them. What is
        kept here is released when the container has ended (``reconcile.py``).
        """
        key = user["engine"], user["id"]
        users = [one for held in self._module.remembered(name) for one in held["Users"]]
        mine = [one for one in users if (one["Engine"], one["Id"]) == key and one["Container"]]
        return any(one["Count"] == 1 and run_in(one["Container"]) for one in mine)

    def _user(self, body: JSON) -> JSON:
        id = body.get("ID")
        if not isinstance(id, str) or not id:
            raise Refused("The request has no mount ID", "InvalidInput")
        return {"engine": self._engine, "id": id}

    # -- through the lanes --------------------------------------------------------------------

    async def _look(self, function: str, *args: Any) -> Any:
        return await self._lanes.read(
            partial(self._module.call, function, self._asker, *args), LOOK_SECONDS
        )

    async def _change(self, function: str, name: str, seconds: float, **kwargs: Any) -> Any:
        work = partial(
            self._module.call, function, self._asker, name, timeout=seconds - 5, **kwargs
        )
        try:
            return await self._lanes.change(name, work, seconds)
        except TooSlow as exc:
            raise Refused(_slow(function, name), "OperationInProgress") from exc


async def _body(request: web.Request, name: str) -> JSON:
    """The call's arguments. An empty body is a retry of Docker's that must change nothing."""
    try:
        text = await request.text()
    except web.HTTPRequestEntityTooLarge:
        raise Refused("The request is larger than any of Docker's", "InvalidInput") from None
    except UnicodeDecodeError:
        text = "?"
    if not text and name in ("Capabilities", "List"):
        return {}
    try:
        body = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        body = None
    if not isinstance(body, dict):
        if name == "Get":
            return {}
        raise Refused(NO_BODY if text else LOST_CALL, "InvalidInput")
    return body


def _name(body: JSON) -> str:
    name = body.get("Name")
    if not isinstance(name, str) or not name:
        raise Refused("The request names no volume", "InvalidInput")
    if name == LOST:
        raise Refused(LOST_TEXT, "OperationInProgress")
    return name


def _options(given: Any) -> JSON:
    """Docker's options of a volume as arguments of ``create``."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise Refused("Opts must be an object", "InvalidInput")
    named = {OLDER.get(key, key): value for key, value in given.items()}
    arguments = {key: named.pop(key) for key in OPTIONS if key in named}
    return {**arguments, "opt": named} if named else arguments


def _shown(record: JSON, *, status: bool = False) -> JSON:
    volume = {
        "Name": record["Name"],
        "Mountpoint": record["Mountpoint"],
        "CreatedAt": record["CreatedAt"],
    }
    return {**volume, "Status": record} if status else volume


def _slow(function: str, name: str) -> str:
    return f"The {function} of {name} takes too long and goes on; see docker dsvolume operations"


def _said(answer: JSON, status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(answer), content_type=CONTENT)
