"""What a Sparkplug value means (Sparkplug 3.0, 6.4.16 and 6.4.17): each datatype, and the quality it comes with.

Integers travel as two's complement in unsigned fields. Programs differ in how wide they make it and in which of the
two fields they put it; where the bits leave no doubt they are taken, elsewhere refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from connectors import Status
from connectors.mqtt.values import UnusableError
from connectors.sparkplug.codec import Message, text

WIDTH: Final = {"int_value": 32, "long_value": 64}
"""Bits of the fields that carry integers."""
QUALITY: Final = b"quality"
STALE: Final = 500
QUALITIES: Final = (
    (range(64), Status.BAD),
    (range(64, 128), Status.UNCERTAIN),
    (range(192, 256), Status.GOOD),
    (range(STALE, STALE + 1), Status.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE),
    (range(512, 1024), Status.BAD),
)
"""0, 192 and 500 are Sparkplug's; the ranges are those of OPC DA, which it took them from, and of programs in use."""
STATUS_CODES: Final = 0x40000000
"""From here on a quality is an OPC UA StatusCode."""
COUNT_BYTES: Final = 4

Raw = tuple[str, object]
"""The field that holds a value, and what is in it."""


def _wrong(kind: str, field: str) -> UnusableError:
    return UnusableError("wrong_field", f"{kind} in the field {field or 'of an extension'}: correct the node")


def _carried(kind: str, raw: Raw) -> tuple[int, int]:
    """An integer's bits as they came, and how many the field has."""
    field, value = raw
    if field not in WIDTH or not isinstance(value, int):
        raise _wrong(kind, field)
    return value, WIDTH[field]


def _outside(value: int, kind: str) -> UnusableError:
    return UnusableError("out_of_range", f"{value} is no {kind}: correct the node, or the metric's datatype there")


def _unsigned(bits: int, kind: str, raw: Raw) -> int:
    value, _ = _carried(kind, raw)
    if value >> bits:
        raise _outside(value, kind)
    return value


def _signed(bits: int, kind: str, raw: Raw) -> int:
    value, width = _carried(kind, raw)
    if bits > width and value >> (width - 1):
        raise _wrong(kind, raw[0])
    if not value >> (bits - 1):
        return value
    for wide in (bits, 32, 64):
        if bits <= wide <= width and (1 << wide) - (1 << (bits - 1)) <= value < 1 << wide:
            return value - (1 << wide)
    raise _outside(value, kind)


def _float(kind: str, raw: Raw) -> float:
    field, value = raw
    if not isinstance(value, float):
        raise _wrong(kind, field)
    return value


def _boolean(kind: str, raw: Raw) -> bool:
    field, value = raw
    if field in WIDTH and value in (0, 1):
        return bool(value)
    if not isinstance(value, bool):
        raise _wrong(kind, field)
    return value


def _text(kind: str, raw: Raw) -> str:
    field, value = raw
    if field != "string_value" or not isinstance(value, bytes):
        raise _wrong(kind, field)
    return text(value, f"this {kind}")


def _bytes(kind: str, raw: Raw) -> bytes:
    field, value = raw
    if field != "bytes_value" or not isinstance(value, bytes):
        raise _wrong(kind, field)
    return value


def _broken(kind: str, why: str) -> UnusableError:
    return UnusableError("broken_array", f"a {kind} {why}: correct the node")


def _numbers(dtype: str, kind: str, raw: Raw) -> object:
    packed = _bytes(kind, raw)
    if len(packed) % np.dtype(dtype).itemsize:
        raise _broken(kind, f"of {len(packed)} bytes")
    return np.frombuffer(packed, dtype=dtype)


def _booleans(kind: str, raw: Raw) -> object:
    """A count in four bytes, then the bits, the highest of each byte first (6.4.17)."""
    packed = _bytes(kind, raw)
    count = int.from_bytes(packed[:COUNT_BYTES], "little")
    if len(packed) - COUNT_BYTES != (count + 7) // 8:
        raise _broken(kind, f"that says {count} and has {len(packed)} bytes")
    return np.unpackbits(np.frombuffer(packed[COUNT_BYTES:], dtype=np.uint8), count=count).astype(np.bool_)


def _texts(kind: str, raw: Raw) -> list[str]:
    """Texts that a zero byte ends each (6.4.17)."""
    packed = _bytes(kind, raw)
    parts = packed.split(b"\0")
    if not parts[-1]:
        parts.pop()
    return [text(part, f"a text of this {kind}") for part in parts]


def _dataset(kind: str, raw: Raw) -> object:
    """`{"columns": [name, …], "rows": [[value, …], …]}`; a cell without a value is None."""
    field, value = raw
    if field != "dataset_value":
        raise _wrong(kind, field)
    table: Message = value
    names = [text(name, "a column's name") for name in table.columns]
    if len(table.types) != len(names) or any(len(row.elements) != len(names) for row in table.rows):
        reason = "wrong_layout"
        raise UnusableError(reason, "the columns, types and rows of a data set do not fit: correct the node")
    rows = [[plain(cell, code) for cell, code in zip(row.elements, table.types, strict=True)] for row in table.rows]
    return {"columns": names, "rows": rows}


def _template(kind: str, raw: Raw) -> object:
    """`{"template": …, "version": …, "parameters": {name: value}, "metrics": {name: value}}`."""
    field, value = raw
    if field != "template_value":
        raise _wrong(kind, field)
    found: Message = value
    return {
        "template": text(found.template_ref, "a template's name"),
        "version": text(found.version, "a template's version"),
        "parameters": {text(one.name, "a parameter's name"): plain(one, one.type) for one in found.parameters},
        "metrics": {text(one.name, "a member's name"): plain(one, one.datatype) for one in found.metrics},
    }


class Datatype(NamedTuple):
    """One of Sparkplug's datatypes."""

    name: str
    read: Callable[[Raw], object]
    tag: str
    """The datatype of the tag that takes it as it is."""


def _made(name: str, tag: str, read: Callable[..., object], *given: object) -> Datatype:
    return Datatype(name, partial(read, *given, name), tag)


DATATYPES: Final[Mapping[int, Datatype]] = {
    1: _made("Int8", "integer", _signed, 8),
    2: _made("Int16", "integer", _signed, 16),
    3: _made("Int32", "integer", _signed, 32),
    4: _made("Int64", "integer", _signed, 64),
    5: _made("UInt8", "integer", _unsigned, 8),
    6: _made("UInt16", "integer", _unsigned, 16),
    7: _made("UInt32", "integer", _unsigned, 32),
    8: _made("UInt64", "integer", _unsigned, 64),
    9: _made("Float", "float", _float),
    10: _made("Double", "float", _float),
    11: _made("Boolean", "boolean", _boolean),
    12: _made("String", "string", _text),
    13: _made("DateTime", "integer", _signed, 64),
    14: _made("Text", "string", _text),
    15: _made("UUID", "string", _text),
    16: _made("DataSet", "any", _dataset),
    17: _made("Bytes", "any", _bytes),
    18: _made("File", "any", _bytes),
    19: _made("Template", "any", _template),
    22: _made("Int8Array", "array", _numbers, "<i1"),
    23: _made("Int16Array", "array", _numbers, "<i2"),
    24: _made("Int32Array", "array", _numbers, "<i4"),
    25: _made("Int64Array", "array", _numbers, "<i8"),
    26: _made("UInt8Array", "array", _numbers, "<u1"),
    27: _made("UInt16Array", "array", _numbers, "<u2"),
    28: _made("UInt32Array", "array", _numbers, "<u4"),
    29: _made("UInt64Array", "array", _numbers, "<u8"),
    30: _made("FloatArray", "array", _numbers, "<f4"),
    31: _made("DoubleArray", "array", _numbers, "<f8"),
    32: _made("BooleanArray", "array", _booleans),
    33: _made("StringArray", "array", _texts),
    34: _made("DateTimeArray", "array", _numbers, "<i8"),
}
"""By number. 20 and 21 are those of properties alone."""
TEMPLATE: Final = 19
SPEAKING: Final = {
    "float_value": 9,
    "double_value": 10,
    "boolean_value": 11,
    "string_value": 12,
    "dataset_value": 16,
    "bytes_value": 17,
    "template_value": TEMPLATE,
}
"""The datatype that a field says by itself; an integer without one may be signed or not, and is refused."""


def datatype_of(code: int, field: str | None) -> Datatype:
    """The datatype of a value, by its number or, without one, by the field it is in. UnusableError."""
    found = DATATYPES.get(code or SPEAKING.get(field or "", 0))
    if found is None:
        reason = "unknown_datatype"
        detail = f"a value of datatype {code}" if code else "a value without a datatype, and no birth that says it"
        raise UnusableError(reason, f"{detail}: correct the node, or let it send its births again")
    return found


def plain(carrier: Message, code: int) -> object:
    """The value in a metric, a parameter, a property or a cell: number, bool, str, bytes, array, list, dict or None."""
    field = carrier.WhichOneof("value")
    if field is None:
        return None
    return datatype_of(code, field).read((field, getattr(carrier, field)))


def quality_of(metric: Message) -> int:
    """The StatusCode a metric's property `Quality` means (6.4.9.1); Good where it has none."""
    if not metric.HasField("properties"):
        return Status.GOOD
    properties = metric.properties
    for key, value in zip(properties.keys, properties.values, strict=False):
        if key.lower() == QUALITY:
            code = getattr(value, value.WhichOneof("value") or "int_value", None)
            return _status(code) if isinstance(code, int) and not isinstance(code, bool) else Status.UNCERTAIN
    return Status.GOOD


def _status(code: int) -> int:
    if STATUS_CODES <= code < 1 << 32:
        return code
    return next((status for codes, status in QUALITIES if code in codes), Status.UNCERTAIN)


def status_of_number(value: float) -> int:
    """Bad for what is no number: the reading is there, what it would be is not."""
    if math.isnan(value):
        return Status.BAD_DATA_UNAVAILABLE
    return Status.BAD_OUT_OF_RANGE if math.isinf(value) else Status.GOOD
