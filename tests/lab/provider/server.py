"""The provider as Terraform finds it by TF_REATTACH_PROVIDERS: a gRPC server of this process."""

import json
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any, Self

import grpc

from lab.provider import clouds
from lab.provider.protocol import CALLS, UNKNOWN, M, read, schema, write
from lab.provider.values import filled, plain, planned

Boot = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes a new machine's values and starts it; returns those that it knows better (addresses)."""


class Provider:
    """
    One cloud.

    name
        ``digitalocean`` or ``aws``.
    boot
        Called for every new machine; without it machines are but records.
    off
        Called with the id of every machine that is deleted.
    newer
        AWS's provider as its major version 6 is.
    """

    def __init__(
        self,
        name: str,
        boot: Boot | None = None,
        off: Callable[[str], None] | None = None,
        newer: bool = False,
    ) -> None:
        described = json.loads((Path(__file__).parent / f"{name}.json").read_text())
        self._address = described["address"]
        self._provider = described["provider"]
        self._resources: dict[str, Any] = described["resources"]
        self._data: dict[str, Any] = described["data"]
        self._boot, self._off = boot, off
        if name == "aws" and newer:
            clouds.newer(self._resources)
        self._lock = threading.Lock()
        self._made = 0
        self.things: dict[tuple[str, str], dict[str, Any]] = {}
        """All that there is, by type and id."""
        self.fails: dict[str, str] = {}
        """What creating a type is refused with."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()  # its socket's path is short
        socket = f"{self._folder.name}/s"
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers((self._calls(),))
        self._server.add_insecure_port(f"unix:{socket}")
        self._server.start()
        place = {"Network": "unix", "String": socket}
        how = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True}
        self.environment = {
            "TF_REATTACH_PROVIDERS": json.dumps({self._address: {**how, "Addr": place}})
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(1).wait(5)
        self._folder.cleanup()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All things of a type."""
        return [values for (found, _), values in self.things.items() if found == kind]

    def lose(self, kind: str, identity: str) -> None:
        """A thing is deleted behind Terraform's back."""
        del self.things[kind, identity]

    def _calls(self) -> Any:
        return grpc.method_handlers_generic_handler(
            "tfplugin6.Provider",
            {
                call: grpc.unary_unary_rpc_method_handler(
                    getattr(self, f"_{call}"),
                    request_deserializer=M[asked].FromString,
                    response_serializer=lambda answer: answer.SerializeToString(),
                )
                for call, asked in CALLS.items()
            },
        )

    def _GetProviderSchema(self, *_: object) -> Any:
        def entries(described: dict[str, Any]) -> list[Any]:
            return [M["Entry"](key=key, value=schema(one)) for key, one in described.items()]

        return M["GetProviderSchema"](
            provider=schema(self._provider),
            resource_schemas=entries(self._resources),
            data_source_schemas=entries(self._data),
        )

    def _ValidateProviderConfig(self, *_: object) -> Any:
        return M["Diagnostics"]()

    def _ValidateResourceConfig(self, *_: object) -> Any:
        return M["ValidateResource"]()

    def _ValidateDataResourceConfig(self, *_: object) -> Any:
        return M["ValidateResource"]()

    def _ConfigureProvider(self, *_: object) -> Any:
        return M["ValidateResource"]()

    def _StopProvider(self, *_: object) -> Any:
        return M["Nothing"]()

    def _UpgradeResourceState(self, asked: Any, _: object) -> Any:
        return M["Upgrade"](upgraded_state=M["DynamicValue"](json=asked.raw_state.json))

    def _ReadResource(self, asked: Any, _: object) -> Any:
        known = read(asked.current_state)
        return M["Read"](new_state=write(self.things.get((asked.type_name, known["id"]))))

    def _PlanResourceChange(self, asked: Any, _: object) -> Any:
        before, wanted, given = (
            read(part) for part in (asked.prior_state, asked.proposed_new_state, asked.config)
        )
        if wanted is None:
            return M["Plan"](planned_state=asked.proposed_new_state)
        block = self._resources[asked.type_name]["block"]
        changed = [
            name
            for name in sorted(clouds.REPLACED_BY.get(asked.type_name, ()))
            if before is not None and given.get(name) is not None and before[name] != wanted[name]
        ]
        return M["Plan"](
            planned_state=write(planned(block, wanted, given, before)),
            requires_replace=[
                M["AttributePath"](steps=[M["Step"](attribute_name=name)]) for name in changed
            ],
        )

    def _ApplyResourceChange(self, asked: Any, _: object) -> Any:
        kind = asked.type_name
        before, wanted = read(asked.prior_state), read(asked.planned_state)
        if wanted is None:
            self.things.pop((kind, before["id"]), None)
            if self._off and kind in clouds.HOSTS:
                self._off(before["id"])
            return M["Apply"](new_state=asked.planned_state)
        if kind in self.fails:
            wrong = M["Diagnostic"](severity=1, summary=self.fails[kind])
            return M["Apply"](new_state=asked.prior_state, diagnostics=[wrong])
        with self._lock:
            self._made += 1
            number = self._made
        known = {name: value for name, value in wanted.items() if value is not UNKNOWN}

        def make(name: str, type_: Any) -> Any:
            value = clouds.made_up(kind, name, known, number)
            return plain(type_) if value is None else value

        if not before and self._boot and kind in clouds.HOSTS:
            wanted["id"] = clouds.name_of(kind, number)
            wanted |= self._boot(wanted)
        now = filled(self._resources[kind]["block"], wanted, make)
        self.things[kind, now["id"]] = now
        return M["Apply"](new_state=write(now))

    def _ReadDataSource(self, asked: Any, _: object) -> Any:
        block = self._data[asked.type_name]["block"]
        given = read(asked.config)
        unknown = {
            name: UNKNOWN
            for name, attribute in block["attributes"].items()
            if attribute.get("computed") and given.get(name) is None
        }
        found = filled(
            block,
            given | unknown,
            lambda name, kind: clouds.made_up(asked.type_name, name, given, 0) or plain(kind),
        )
        return M["Data"](state=write(found))
