"""One value of every built-in type, as scalar, array and matrix, in no stack's own words; and what must arrive."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

UNIX = 116_444_736_000_000_000
"""1970 as an OPC UA DateTime."""
NINES = 2**63 - 1
"""The greatest OPC UA DateTime."""
GUID = uuid.UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63")
XML = "<阀 state='开'/>"
TEXT = "液位过高 \U0001f30a"


@dataclass(frozen=True)
class Kind:
    """A built-in type with a few values; a DateTime in 100 ns steps, names and texts in pairs."""

    name: str
    values: tuple[Any, ...]
    arrives: tuple[Any, ...] = ()
    """What a reading holds; the values themselves if empty."""
    dtype: str = ""
    """Of an array; a list without."""

    def expected(self, shape: tuple[int, ...]) -> object:
        """What a reading of this shape holds; `()` is a scalar."""
        arrives = self.arrives or self.values
        if not shape:
            return arrives[0]
        count = int(np.prod(shape))
        items = [arrives[n % len(arrives)] for n in range(count)]
        return np.array(items, dtype=self.dtype).reshape(shape) if self.dtype else nested(items, shape)

    def sent(self, shape: tuple[int, ...]) -> list[Any]:
        """The values in one row."""
        return [self.values[n % len(self.values)] for n in range(int(np.prod(shape)) if shape else 1)]


def nested(items: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """A row as rows of rows."""
    size = len(items) // shape[0] if shape[0] else 0
    if len(shape) == 1:
        return items
    return [nested(items[n * size : (n + 1) * size], shape[1:]) for n in range(shape[0])]


KINDS = (
    Kind("Boolean", (True, False), dtype="?"),
    Kind("SByte", (-128, 127), dtype="i1"),
    Kind("Byte", (255, 0), dtype="u1"),
    Kind("Int16", (-(2**15), 2**15 - 1), dtype="i2"),
    Kind("UInt16", (2**16 - 1, 0), dtype="u2"),
    Kind("Int32", (-(2**31), 2**31 - 1), dtype="i4"),
    Kind("UInt32", (2**32 - 1, 0), dtype="u4"),
    Kind("Int64", (-(2**63), 2**63 - 1, 2**53 + 1), dtype="i8"),
    Kind("UInt64", (2**64 - 1, 2**53 + 1, 0), dtype="u8"),
    Kind("Float", (1.5, -float(np.finfo(np.float32).max), 2.0**-149), dtype="f4"),
    Kind("Double", (0.1, -1.7976931348623157e308, 5e-324), dtype="f8"),
    Kind("String", (TEXT, "b", "a\tb")),
    Kind(
        "DateTime",
        (UNIX + 17_000_000_000_000_010, NINES, 0),
        (1_700_000_000_000_001_000, (NINES - UNIX) * 100, -UNIX * 100),
    ),
    Kind("Guid", (GUID, uuid.UUID(int=0)), (str(GUID), str(uuid.UUID(int=0)))),
    Kind("ByteString", (bytes(range(256)), b"\x00")),
    Kind("XmlElement", (XML, "<a/>")),
    Kind("NodeId", ("ns=2;s=阀", "i=85", f"ns=1;g={GUID}")),
    Kind("ExpandedNodeId", ("i=85", "ns=1;i=70000")),
    Kind("StatusCode", (0x80340000, 0), dtype="u4"),
    Kind("QualifiedName", ((1, "阀"), (0, "Objects")), ("1:阀", "0:Objects")),
    Kind("LocalizedText", (("zh-CN", TEXT), ("en", "level high")), (TEXT, "level high")),
)
SHAPES: tuple[tuple[int, ...], ...] = ((), (3,), (2, 3))
MOMENT = datetime(2026, 5, 1, 8, 30, 0, 250_000, UTC)
"""In structures."""
MOMENT_NS = 1_777_624_200_250_000_000


def node_name(kind: str, shape: tuple[int, ...]) -> str:
    """What the node is called that holds it."""
    return f"{kind}{len(shape)}"
