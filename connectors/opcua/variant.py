"""Every built-in type (IEC 62541-6, 5.2.2) from foreign bytes to plain values: exactly, and within limits."""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from asyncua import ua

FILETIME_UNIX: Final = 116_444_736_000_000_000
"""1970-01-01 in 100 ns steps since 1601-01-01, the origin of an OPC UA DateTime (IEC 62541-6, 5.2.2.5)."""
DEEPEST: Final = 16
"""Values nested further than this are refused, as a limit on foreign data."""
MOST_DIMENSIONS: Final = 16
LARGEST_VALUE: Final = 4 * 1024 * 1024
"""Bytes of one value that becomes a reading."""

BOOLEAN, BYTE, INT32, DOUBLE, STRING, BYTE_STRING = 1, 3, 6, 11, 12, 15
STATUS_CODE, STRUCTURE, VARIANT = 19, 22, 24
LAST_BUILT_IN: Final = 25
LAST_RESERVED: Final = 31
"""Types from 26 to here a decoder takes as ByteString (IEC 62541-6, 5.2.2.16)."""
ARRAY, DIMENSIONS, TYPE_BITS = 0x80, 0x40, 0x3F
TOO_LARGE: Final = 0x3D
NOT_UTF_8: Final = 0x3E
"""Kinds of our own, for a value that cannot become a reading; no built-in type has these numbers."""
NUMBERS: Final[dict[int, str]] = {
    1: "B", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f", 11: "d", 19: "I",
}  # fmt: skip
"""Built-in types that are numbers, as struct and numpy call them; a Boolean is true if it is not 0."""
DTYPES: Final = {kind: np.dtype(f"<{np.dtype(code).str[1:]}") for kind, code in NUMBERS.items()}
"""The same as elements of an array, little-endian."""
_LAYOUTS: Final = {kind: struct.Struct(f"<{code}") for kind, code in NUMBERS.items()}
_INT32, _INT64, _UINT16, _UINT32 = struct.Struct("<i"), struct.Struct("<q"), struct.Struct("<H"), struct.Struct("<I")


class BrokenError(ValueError):
    """The bytes are not what IEC 62541-6 allows."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """An ExtensionObject whose body nobody has opened yet (IEC 62541-6, 5.2.2.15)."""

    type: ua.NodeId
    """Of its encoding, not of its data type."""
    body: bytes
    is_xml: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A LocalizedText with its locale, empty where there is none."""

    locale: str
    text: str


class Reader:
    """Reads one value after the other; what is not there raises BrokenError, and nothing is read beyond the end."""

    __slots__ = ("data", "foreign_text", "keeps_locales", "position")

    def __init__(self, data: bytes, position: int = 0, *, keeps_locales: bool = False) -> None:
        """`data` from `position` on. `keeps_locales`: a LocalizedText is a `Text`, not only its text."""
        self.data, self.position, self.keeps_locales = data, position, keeps_locales
        self.foreign_text = False
        """Whether a text was met that is not UTF-8; it is kept with U+FFFD in it."""

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self.position + size
        if size < 0 or end > len(self.data):
            message = f"{size} bytes announced, {len(self.data) - self.position} there"
            raise BrokenError(message)
        found = self.data[self.position : end]
        self.position = end
        return found

    def number(self, layout: struct.Struct) -> int | float:
        """The next number."""
        found: int | float
        (found,) = layout.unpack(self.take(layout.size))
        return found

    def integer(self, layout: struct.Struct = _INT32) -> int:
        """The next integer."""
        return int(self.number(layout))

    def unsigned(self) -> int:
        """The next UInt32."""
        return self.integer(_UINT32)

    def count(self, size: int) -> int:
        """The length of an array whose elements take `size` bytes or more; 0 for a null one."""
        found = self.integer()
        if found > (len(self.data) - self.position) // size:
            message = f"{found} elements announced, {len(self.data) - self.position} bytes there"
            raise BrokenError(message)
        return max(found, 0)

    def byte(self) -> int:
        """The next byte as a number."""
        return self.take(1)[0]

    def byte_string(self) -> bytes | None:
        """A ByteString; None for a null one."""
        length = self.integer()
        return self.take(length) if length >= 0 else None

    def text(self) -> str | None:
        """A String or an XmlElement; None for a null one."""
        found = self.byte_string()
        if found is None:
            return None
        try:
            return found.decode()
        except UnicodeDecodeError:
            self.foreign_text = True
            return found.decode(errors="replace")

    def moment(self) -> int:
        """A DateTime as ns since 1970 UTC, exactly; the least and the greatest one do not fit 64 bits."""
        return (self.integer(_INT64) - FILETIME_UNIX) * 100

    def guid(self) -> str:
        """A Guid as text."""
        return str(uuid.UUID(bytes_le=self.take(16)))

    def node_id(self) -> ua.NodeId:
        """A NodeId or an ExpandedNodeId (IEC 62541-6, 5.2.2.9 and 5.2.2.10)."""
        flags = self.byte()
        namespace, identifier = self._identifier(flags & TYPE_BITS)
        uri = self.text() if flags & 0x80 else None
        server = self.integer(_UINT32) if flags & 0x40 else None
        kind = ua.NodeIdType(flags & TYPE_BITS)
        if uri is None and server is None:
            return ua.NodeId(identifier, ua.Int16(namespace), kind)  # type: ignore[arg-type]  # goes with its kind
        return ua.ExpandedNodeId(identifier, ua.Int16(namespace), kind, uri, server)  # type: ignore[arg-type]

    def _identifier(self, form: int) -> tuple[int, object]:
        if form == ua.NodeIdType.TwoByte:
            return 0, self.byte()
        if form == ua.NodeIdType.FourByte:
            return self.byte(), self.integer(_UINT16)
        namespace = self.integer(_UINT16)
        if form == ua.NodeIdType.Numeric:
            return namespace, self.integer(_UINT32)
        if form == ua.NodeIdType.String:
            return namespace, self.text() or ""
        if form == ua.NodeIdType.Guid:
            return namespace, uuid.UUID(self.guid())
        if form == ua.NodeIdType.ByteString:
            return namespace, self.byte_string() or b""
        message = f"a NodeId of form {form}"
        raise BrokenError(message)

    def qualified_name(self) -> str:
        """A QualifiedName as `index:name`."""
        index = self.integer(_UINT16)
        return f"{index}:{self.text() or ''}"

    def localized_text(self) -> str | Text | None:
        """The text of a LocalizedText; None where there is none."""
        flags = self.byte()
        locale = self.text() if flags & 0x01 else None
        text = self.text() if flags & 0x02 else None
        return Text(locale or "", text) if self.keeps_locales and text is not None else text

    def extension_object(self) -> Opaque | None:
        """An ExtensionObject, not opened; None for a null one."""
        node, encoding = self.node_id(), self.byte()
        if encoding not in (0, 1, 2):
            message = f"an ExtensionObject encoded as {encoding}"
            raise BrokenError(message)
        body = self.byte_string() or b"" if encoding else b""
        return Opaque(node, body, encoding == 2) if encoding or node.Identifier else None  # noqa: PLR2004 - XML

    def data_value(self, depth: int) -> dict[str, object]:
        """A DataValue inside a value, by the names of its parts; those that are absent are left out."""
        flags, found = self.byte(), dict[str, object]()
        for bit, name, take in _DATA_VALUE:
            if flags & bit:
                found[name] = take(self, depth)
        return {name: value for name, value in found.items() if not name.endswith("_picoseconds")}

    def diagnostic_info(self, depth: int) -> dict[str, object]:
        """A DiagnosticInfo, by the names of its parts (IEC 62541-6, 5.2.2.12)."""
        flags = self.byte()
        return {name: take(self, _deeper(depth)) for bit, name, take in _DIAGNOSTIC if flags & bit}

    def built_in(self, kind: int, depth: int = 0) -> object:
        """One value of this built-in type."""
        layout = _LAYOUTS.get(kind)
        if layout is not None:
            found = self.number(layout)
            return bool(found) if kind == BOOLEAN else found
        if LAST_BUILT_IN < kind <= LAST_RESERVED:
            return self.byte_string()
        take = _OTHERS.get(kind)
        if take is None:
            message = f"a value of type {kind}"
            raise BrokenError(message)
        return take(self, depth)

    def array(self, kind: int, depth: int = 0) -> object:
        """A one-dimensional array with its length before it; None for a null one."""
        length = self.integer()
        return self.elements(kind, length, depth) if length >= 0 else None

    def elements(self, kind: int, length: int, depth: int = 0) -> object:
        """So many values of this type: a numpy array of numbers, or a list. Shape (length,)."""
        dtype = DTYPES.get(kind)
        if dtype is not None:
            found = np.frombuffer(self.take(length * dtype.itemsize), dtype=dtype)
            return found != 0 if kind == BOOLEAN else found.copy()
        if length > min(len(self.data) - self.position, LARGEST_VALUE):
            message = f"{length} elements announced, {len(self.data) - self.position} bytes there"
            raise BrokenError(message)
        return [self.built_in(kind, depth) for _ in range(length)]

    def variant(self, depth: int = 0) -> tuple[object, int]:
        """Value and kind: the built-in type, with 0x80 for an array; 0 for a null Variant (IEC 62541-6, 5.2.2.16)."""
        flags = self.byte()
        kind = flags & TYPE_BITS
        if flags & (ARRAY | DIMENSIONS) == DIMENSIONS:
            message = "a scalar with dimensions"
            raise BrokenError(message)
        if not flags & ARRAY:
            return (self.built_in(kind, _deeper(depth)) if kind else None), kind
        found = self.array(kind, _deeper(depth))
        if flags & DIMENSIONS:
            found = shaped(found, self._dimensions())
        return found, kind | ARRAY

    def _dimensions(self) -> list[int]:
        found = self.array(INT32)
        return found.tolist() if isinstance(found, np.ndarray) else []


def _deeper(depth: int) -> int:
    if depth >= DEEPEST:
        message = f"values nested deeper than {DEEPEST}"
        raise BrokenError(message)
    return depth + 1


def shaped(found: object, dimensions: list[int]) -> object:
    """The elements of an array in these dimensions, the last one running fastest.

    Dimensions that do not fit the number of elements say nothing: the elements stay in one row, and none is lost.
    """
    if not isinstance(found, np.ndarray | list) or not 1 < len(dimensions) <= MOST_DIMENSIONS:
        return found
    if min(dimensions) < 0 or math.prod(dimensions) != len(found):
        return found
    return found.reshape(dimensions) if isinstance(found, np.ndarray) else _nested(found, dimensions)


def _nested(found: list[object], dimensions: list[int]) -> list[object]:
    if len(dimensions) == 1:
        return found
    size = math.prod(dimensions[1:])
    return [_nested(found[n * size : (n + 1) * size], dimensions[1:]) for n in range(dimensions[0])]


def value_at(data: bytes, position: int) -> tuple[object, int, int]:
    """Value, end position and kind of the Variant that begins at `position`.

    A text that is not UTF-8 has the kind `NOT_UTF_8`, a value larger than `LARGEST_VALUE` the kind `TOO_LARGE` and
    only its first bytes. Raises BrokenError.
    """
    reader = Reader(data, position)
    value, kind = reader.variant()
    if reader.position - position > LARGEST_VALUE:
        return data[position : position + 256], reader.position, TOO_LARGE
    return value, reader.position, NOT_UTF_8 if reader.foreign_text else kind


_Take = Callable[[Reader, int], object]

_OTHERS: Final[dict[int, _Take]] = {
    STRING: lambda reader, _: reader.text(),
    13: lambda reader, _: reader.moment(),
    14: lambda reader, _: reader.guid(),
    BYTE_STRING: lambda reader, _: reader.byte_string(),
    16: lambda reader, _: reader.text(),
    17: lambda reader, _: reader.node_id().to_string(),
    18: lambda reader, _: reader.node_id().to_string(),
    20: lambda reader, _: reader.qualified_name(),
    21: lambda reader, _: reader.localized_text(),
    STRUCTURE: lambda reader, _: reader.extension_object(),
    23: Reader.data_value,
    VARIANT: lambda reader, depth: reader.variant(depth)[0],
    25: Reader.diagnostic_info,
}
_DATA_VALUE: Final[tuple[tuple[int, str, _Take], ...]] = (
    (0x01, "value", lambda reader, depth: reader.variant(depth)[0]),
    (0x02, "status", lambda reader, _: reader.integer(_UINT32)),
    (0x04, "source_time", lambda reader, _: reader.moment()),
    (0x10, "source_picoseconds", lambda reader, _: reader.integer(_UINT16)),
    (0x08, "server_time", lambda reader, _: reader.moment()),
    (0x20, "server_picoseconds", lambda reader, _: reader.integer(_UINT16)),
)
_DIAGNOSTIC: Final[tuple[tuple[int, str, _Take], ...]] = (
    (0x01, "symbolic_id", lambda reader, _: reader.integer()),
    (0x02, "namespace_uri", lambda reader, _: reader.integer()),
    (0x08, "locale", lambda reader, _: reader.integer()),
    (0x04, "localized_text", lambda reader, _: reader.integer()),
    (0x10, "additional_info", lambda reader, _: reader.text()),
    (0x20, "inner_status", lambda reader, _: reader.integer(_UINT32)),
    (0x40, "inner", Reader.diagnostic_info),
)
