"""Terraform's plugin protocol 6: its messages, and values on the wire."""

import json
from typing import Any

import msgpack
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto
TYPES = {
    "bytes": Field.TYPE_BYTES,
    "string": Field.TYPE_STRING,
    "int": Field.TYPE_INT64,
    "bool": Field.TYPE_BOOL,
    "enum": Field.TYPE_INT32,  # the same on the wire
}
MESSAGES = """
DynamicValue: bytes msgpack 1, bytes json 2
Diagnostic: enum severity 1, string summary 2, string detail 3
AttributePath: Step* steps 1
Step: string attribute_name 1
RawState: bytes json 1
Schema: int version 1, Block block 2
Block: int version 1, Attribute* attributes 2, NestedBlock* block_types 3
Attribute: string name 1, bytes type 2, string description 3, bool required 4, bool optional 5, \
bool computed 6, bool sensitive 7, bool write_only 11
NestedBlock: string type_name 1, Block block 2, enum nesting 3, int min_items 4, int max_items 5
Entry: string key 1, Schema value 2
Nothing:
GetProviderSchema: Schema provider 1, Entry* resource_schemas 2, Entry* data_source_schemas 3
Diagnostics: Diagnostic* diagnostics 2
ValidateResource: Diagnostic* diagnostics 1
UpgradeQ: string type_name 1, int version 2, RawState raw_state 3
Upgrade: DynamicValue upgraded_state 1, Diagnostic* diagnostics 2
ConfigureQ: string terraform_version 1, DynamicValue config 2
ReadQ: string type_name 1, DynamicValue current_state 2, bytes private 3
Read: DynamicValue new_state 1, Diagnostic* diagnostics 2, bytes private 3
PlanQ: string type_name 1, DynamicValue prior_state 2, DynamicValue proposed_new_state 3, \
DynamicValue config 4, bytes prior_private 5
Plan: DynamicValue planned_state 1, AttributePath* requires_replace 2, bytes planned_private 3, \
Diagnostic* diagnostics 4
ApplyQ: string type_name 1, DynamicValue prior_state 2, DynamicValue planned_state 3, \
DynamicValue config 4, bytes planned_private 5
Apply: DynamicValue new_state 1, bytes private 2, Diagnostic* diagnostics 3
DataQ: string type_name 1, DynamicValue config 2
Data: DynamicValue state 1, Diagnostic* diagnostics 2
"""
"""Each message's fields with their numbers; those that are not used here are left out."""

CALLS = {
    "GetProviderSchema": "Nothing",
    "ValidateProviderConfig": "Nothing",
    "ValidateResourceConfig": "Nothing",
    "ValidateDataResourceConfig": "Nothing",
    "UpgradeResourceState": "UpgradeQ",
    "ConfigureProvider": "ConfigureQ",
    "ReadResource": "ReadQ",
    "PlanResourceChange": "PlanQ",
    "ApplyResourceChange": "ApplyQ",
    "ReadDataSource": "DataQ",
    "StopProvider": "Nothing",
}
"""The calls that Terraform makes, and the message that each brings."""

NESTING = {"single": 1, "list": 2, "set": 3, "map": 4, "group": 5}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="plugin6", package="plugin6", syntax="proto3")
    for line in MESSAGES.strip().splitlines():
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for field in filter(None, (part.strip() for part in fields.split(","))):
            kind, label, number = field.split()
            many, kind = kind.endswith("*"), kind.rstrip("*")
            made = message.field.add(
                name=label,
                number=int(number),
                label=Field.LABEL_REPEATED if many else Field.LABEL_OPTIONAL,
            )
            if kind in TYPES:
                made.type = TYPES[kind]
            else:
                made.type, made.type_name = Field.TYPE_MESSAGE, f".plugin6.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        one.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"plugin6.{one.name}"))
        for one in file.message_type
    }


M = _classes()
"""The messages' classes by name."""


class Unknown:
    """A value that is known after the apply."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()


def read(value: Any) -> Any:
    """A value from the wire; None where there is none."""
    if value.msgpack:
        return msgpack.unpackb(
            value.msgpack, ext_hook=lambda *_: UNKNOWN, raw=False, strict_map_key=False
        )
    return json.loads(value.json) if value.json else None


def write(value: Any) -> Any:
    """A value for the wire."""

    def unknown(what: object) -> msgpack.ExtType:
        assert what is UNKNOWN, what
        return msgpack.ExtType(0, b"\0")

    return M["DynamicValue"](msgpack=msgpack.packb(value, default=unknown))


def schema(described: dict[str, Any]) -> Any:
    """A schema's message from its description in JSON."""
    return M["Schema"](version=described["version"], block=_block(described["block"]))


def _block(block: dict[str, Any]) -> Any:
    flags = ("required", "optional", "computed", "sensitive", "write_only")
    return M["Block"](
        attributes=[
            M["Attribute"](
                name=name,
                type=json.dumps(attribute["type"]).encode(),
                **{flag: attribute[flag] for flag in flags if flag in attribute},
            )
            for name, attribute in block.get("attributes", {}).items()
        ],
        block_types=[
            M["NestedBlock"](
                type_name=name,
                block=_block(nested["block"]),
                nesting=NESTING[nested["nesting_mode"]],
                min_items=nested.get("min_items", 0),
                max_items=nested.get("max_items", 0),
            )
            for name, nested in block.get("block_types", {}).items()
        ],
    )
