"""Tensors as the Open Inference Protocol v2 carries them, in JSON and as raw bytes, to numpy and back.

Source: Open Inference Protocol, "Tensor Data" and "Tensor Data Types", and its binary tensor data extension. A tensor's
elements are in row-major order; raw ones are little-endian, and each of BYTES is led by its length in four bytes.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from app.errors import Problem
from app.inferring import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_RANK: Final = 16
INPUT, OUTPUT, REQUEST = "input", "output", "request"
_LENGTH: Final = struct.Struct("<I")
_NESTED: Final = b"["


@dataclass(frozen=True, slots=True)
class Datatype:
    """One of the protocol's element types."""

    name: str
    dtype: np.dtype[Any]
    """Little-endian; object for BYTES."""
    json: type
    """What an element is in JSON."""


def _type(name: str, dtype: str, in_json: type) -> Datatype:
    return Datatype(name, np.dtype(dtype).newbyteorder("<"), in_json)


DATATYPES: Final = {
    one.name: one
    for one in (
        _type("BOOL", "bool", bool),
        *(_type(f"{kind.upper()}{bits}", f"{kind}{bits}", int) for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
        *(_type(f"FP{bits}", f"float{bits}", float) for bits in (16, 32, 64)),
        _type("BYTES", "object", str),
    )
}
_NAMES: Final = {one.dtype: one.name for one in DATATYPES.values()}


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name for an element type; of `numpy_dtype`: what is no number travels as BYTES."""
    return _NAMES[dtype]


def refused(what: str, why: str, name: str = "") -> Problem:
    """A request that is at fault: in `what` of it, of that name where it has one."""
    return Problem(400, "bad_request", f"{what} {name[:200]!r}: {why}" if name else f"{what}: {why}")


def known(name: str, datatype: str, shape: Sequence[int]) -> Datatype:
    """The element type of an input. Problem 400 when there is no such type, or the shape is none."""
    found = DATATYPES.get(datatype)
    if found is None:
        raise refused(INPUT, f"there is no datatype {datatype[:40]!r}; there are: {', '.join(DATATYPES)}", name)
    if len(shape) > MAX_RANK:
        raise refused(INPUT, f"a tensor has at most {MAX_RANK} dimensions", name)
    return found


def from_json(name: str, datatype: str, shape: Sequence[int], data: msgspec.Raw) -> NDArray[Any]:
    """JSON data, flat or nested as the shape is. Problem 400 when an element is not of the type, or the count differs.

    FP16 has no JSON form in the protocol.
    """
    kind = known(name, datatype, shape)
    if kind.name == "FP16":
        raise refused(INPUT, "FP16 travels in binary form only: send binary_data_size and the bytes", name)
    nested = len(shape) > 1 and bytes(data)[1:20].lstrip().startswith(_NESTED)
    try:
        values = _decoder(kind.json, len(shape) if nested else 1).decode(data)
        array = np.array(values, dtype=kind.dtype)
        if nested and array.shape != tuple(shape):
            raise refused(INPUT, f"the data are nested as {list(array.shape)}, the shape is {list(shape)}", name)
        return array.reshape(shape)
    except msgspec.DecodeError as error:
        raise refused(INPUT, f"the data are no {kind.name}: {error}", name) from error
    except (ValueError, OverflowError) as error:
        raise refused(INPUT, f"the data do not fit {kind.name} of shape {list(shape)}: {error}", name) from error


@cache
def _decoder(element: type, depth: int) -> msgspec.json.Decoder[Any]:
    made: Any = element
    for _ in range(depth):
        made = list[made]
    return msgspec.json.Decoder(made)


def from_bytes(name: str, datatype: str, shape: Sequence[int], raw: memoryview) -> NDArray[Any]:
    """Raw data. Numbers are not copied where they lie aligned. Problem 400 when the size does not fit."""
    kind = known(name, datatype, shape)
    count = math.prod(shape)
    if kind.name == "BYTES":
        return _strings(name, count, raw).reshape(shape)
    if len(raw) != count * kind.dtype.itemsize:
        wanted = count * kind.dtype.itemsize
        raise refused(INPUT, f"{kind.name} of shape {list(shape)} takes {wanted} bytes, not {len(raw)}", name)
    array: NDArray[Any] = np.frombuffer(raw, dtype=kind.dtype).reshape(shape)
    if kind.name == "BOOL" and (array.view(np.uint8) > 1).any():
        raise refused(INPUT, "a BOOL is 0 or 1", name)
    return array if array.flags.aligned else array.copy()


def _strings(name: str, count: int, raw: memoryview) -> NDArray[Any]:
    if count * _LENGTH.size > len(raw):
        raise refused(INPUT, f"{count} elements take {count * _LENGTH.size} bytes or more, not {len(raw)}", name)
    found = np.empty(count, dtype=object)
    at = 0
    for index in range(count):
        begin = at + _LENGTH.size
        if begin > len(raw):
            raise refused(INPUT, f"element {index} of BYTES lies beyond the end", name)
        at = begin + _LENGTH.unpack_from(raw, begin - _LENGTH.size)[0]
        if at > len(raw):
            raise refused(INPUT, f"element {index} of BYTES lies beyond the end", name)
        try:
            found[index] = str(raw[begin:at], "utf-8")
        except UnicodeDecodeError as error:
            raise refused(INPUT, f"element {index} of BYTES is no UTF-8, and the model takes text", name) from error
    if at != len(raw):
        raise refused(INPUT, f"{len(raw) - at} bytes are left behind the last element", name)
    return found


def _texts(array: NDArray[Any]) -> list[str]:
    """Strings as they are; a map or a sequence as JSON."""
    return [one if isinstance(one, str) else msgspec.json.encode(plain(one)).decode() for one in array.flat]


def to_json(name: str, array: NDArray[Any]) -> list[Any]:
    """Flat, row-major. Problem 400 for what JSON cannot carry: half precision, and numbers that are not finite."""
    kind = array.dtype.kind
    if kind == "O":
        return _texts(array)
    if kind == "f" and array.dtype.itemsize == np.dtype(np.float16).itemsize:
        raise refused(OUTPUT, "JSON cannot carry FP16: ask for binary_data", name)
    if kind == "f" and not np.isfinite(array).all():
        raise refused(OUTPUT, "JSON cannot carry its NaN or infinity: ask for binary_data", name)
    values: list[Any] = array.ravel().tolist()
    return values


def to_bytes(array: NDArray[Any]) -> bytes:
    """Row-major, little-endian."""
    if array.dtype.kind != "O":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [one.encode() for one in _texts(array)]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


