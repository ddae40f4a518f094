"""The Sparkplug B payload (Sparkplug 3.0, 6.4) on protobuf, with message types made at run time: no generated code.

Texts are declared as bytes, which look the same on the wire: one name in another character set then costs its own
metric and not the message around it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from connectors.mqtt.values import UnusableError

PACKAGE: Final = "headrace.sparkplug"
MESSAGES: Final[dict[str, str]] = {
    "Payload": "timestamp=1 uint64, metrics=2 Metric*, seq=3 uint64, uuid=4 bytes, body=5 bytes",
    "Metric": (
        "name=1 bytes, alias=2 uint64, timestamp=3 uint64, datatype=4 uint32, is_historical=5 bool, "
        "is_transient=6 bool, is_null=7 bool, metadata=8 MetaData, properties=9 PropertySet, "
        "int_value=10 uint32?, long_value=11 uint64?, float_value=12 float?, double_value=13 double?, "
        "boolean_value=14 bool?, string_value=15 bytes?, bytes_value=16 bytes?, dataset_value=17 DataSet?, "
        "template_value=18 Template?, extension_value=19 Extension?"
    ),
    "MetaData": (
        "is_multi_part=1 bool, content_type=2 bytes, size=3 uint64, seq=4 uint64, file_name=5 bytes, file_type=6 bytes,"
        " md5=7 bytes, description=8 bytes"
    ),
    "PropertySet": "keys=1 bytes*, values=2 PropertyValue*",
    "PropertySetList": "propertyset=1 PropertySet*",
    "PropertyValue": (
        "type=1 uint32, is_null=2 bool, int_value=3 uint32?, long_value=4 uint64?, float_value=5 float?,"
        " double_value=6 double?, boolean_value=7 bool?, string_value=8 bytes?, propertyset_value=9 PropertySet?,"
        " propertysets_value=10 PropertySetList?, extension_value=11 Extension?"
    ),
    "DataSet": "num_of_columns=1 uint64, columns=2 bytes*, types=3 uint32*, rows=4 Row*",
    "Row": "elements=1 DataSetValue*",
    "DataSetValue": (
        "int_value=1 uint32?, long_value=2 uint64?, float_value=3 float?, double_value=4 double?, boolean_value=5"
        " bool?, string_value=6 bytes?, extension_value=7 Extension?"
    ),
    "Template": (
        "version=1 bytes, metrics=2 Metric*, parameters=3 Parameter*, template_ref=4 bytes, is_definition=5 bool"
    ),
    "Parameter": (
        "name=1 bytes, type=2 uint32, int_value=3 uint32?, long_value=4 uint64?, float_value=5 float?,"
        " double_value=6 double?, boolean_value=7 bool?, string_value=8 bytes?, extension_value=9 Extension?"
    ),
    "Extension": "",
}
"""`name=number type`, with `*` for a repeated field and `?` for one of the alternatives of a value."""
FIELD: Final = re.compile(r"(\w+)=(\d+) (\w+)([*?]?)")
PLAIN: Final = ("uint32", "uint64", "bool", "float", "double", "bytes")
COMPRESSED: Final = b"SPBV1.0_COMPRESSED"
"""The `uuid` by which some programs mark a payload that hides another one in `body`."""

Message = Any
"""A protobuf message of one of these types."""


def _types() -> dict[str, Any]:
    """A class for each message, in a pool of our own: another library may know the same names."""
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b.proto", package=PACKAGE, syntax="proto2")
    kinds, proto = descriptor_pb2.FieldDescriptorProto, descriptor_pb2.FieldDescriptorProto.Type
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, mark in FIELD.findall(fields):
            made = message.field.add(name=field, number=int(number))
            made.label = kinds.LABEL_REPEATED if mark == "*" else kinds.LABEL_OPTIONAL
            if kind in PLAIN:
                made.type = proto.Value(f"TYPE_{kind.upper()}")
            else:
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            if mark == "?":
                made.oneof_index = 0
        if "?" in fields:
            message.oneof_decl.add(name="value")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


TYPES: Final = _types()
Payload: Final = TYPES["Payload"]


def decode(content: bytes, most_metrics: int) -> Message:
    """The Payload in these bytes. UnusableError when there is none, or more metrics than `most_metrics` in it."""
    payload = Payload()
    try:
        payload.ParseFromString(content)
    except DecodeError as error:
        reason = "broken_payload"
        raise UnusableError(reason, f"this is no Sparkplug B payload: {error}; correct the node") from error
    if payload.uuid == COMPRESSED:
        reason = "compressed_payload"
        raise UnusableError(reason, "the payload is compressed, which Sparkplug 3.0 does not know: switch that off")
    if len(payload.metrics) > most_metrics:
        reason = "too_large"
        raise UnusableError(reason, f"{len(payload.metrics)} metrics, more than {most_metrics} (`max_metrics`)")
    return payload


def rebirth_request(time_ms: int) -> bytes:
    """The payload of an NCMD that asks a node for its births (Sparkplug 3.0, 5.9): the only one we ever send."""
    payload = Payload(timestamp=time_ms)
    payload.metrics.add(name=b"Node Control/Rebirth", timestamp=time_ms, datatype=11, boolean_value=True)
    encoded: bytes = payload.SerializeToString(deterministic=True)
    return encoded


def text(content: bytes, what: str) -> str:
    """A text field. UnusableError when it is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        reason = "wrong_charset"
        raise UnusableError(reason, f"{what} is not UTF-8: {error.reason} at byte {error.start}") from error
