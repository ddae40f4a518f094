"""Plain values for what OPC UA can put in a Variant (IEC 62541-6, table 1): str, int, bytes, arrays, dict and list."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, Final

import numpy as np
from asyncua import ua

from connectors.opcua.variant import Opaque, shaped

NUMERIC: Final[dict[int, str]] = {
    1: "?",
    2: "i1",
    3: "u1",
    4: "i2",
    5: "u2",
    6: "i4",
    7: "u4",
    8: "i8",
    9: "u8",
    10: "f4",
    11: "f8",
    19: "u4",
}
DEEPEST: Final = 16
"""Structures nested further than this are cut, as a limit on foreign data."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def plain(variant: ua.Variant) -> object:
    """The value of a Variant without asyncua's types: numbers in arrays become a numpy array with its dimensions."""
    if variant.Value is None:
        return None
    if not variant.is_array:
        return simple(variant.Value)
    code = NUMERIC.get(int(variant.VariantType.value))
    if code is None:
        return shaped([simple(item) for item in _flat(variant.Value)], list(variant.Dimensions or []))
    items = [item.value if isinstance(item, ua.StatusCode) else item for item in _flat(variant.Value)]
    array = np.array(items, dtype=code)
    return array.reshape(variant.Dimensions) if variant.Dimensions else array


def _flat(value: Any) -> list[Any]:  # noqa: ANN401 - asyncua nests lists by dimension
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


def simple(value: Any, depth: int = 0) -> object:  # noqa: ANN401 - whatever asyncua decodes to
    """One value without asyncua's types; a structure becomes a dict that names its type."""
    for kind, convert in CONVERSIONS:
        if isinstance(value, kind):
            return convert(value)
    if isinstance(value, ua.Variant):
        return plain(value) if depth < DEEPEST else None
    return _structure(value, depth)


def _since_1970(moment: datetime) -> int:
    """A moment as ns, in exact arithmetic."""
    past = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    return (past.days * 86_400 + past.seconds) * 1_000_000_000 + past.microseconds * 1000


CONVERSIONS: Final[tuple[tuple[type | UnionType, Callable[[Any], object]], ...]] = (
    (bool | float | str | bytes | NoneType, lambda value: value),
    (enum.Enum, lambda value: simple(value.value)),
    (int, int),
    (uuid.UUID, str),
    (datetime, _since_1970),
    (ua.StatusCode, lambda status: int(status.value)),
    (ua.LocalizedText, lambda text: text.Text),
    (ua.QualifiedName, lambda name: f"{name.NamespaceIndex}:{name.Name}"),
    (ua.NodeId, lambda node: node.to_string()),
    (ua.XmlElement, lambda xml: xml.Value),
    (ua.ExtensionObject, lambda opaque: Opaque(opaque.TypeId, opaque.Body or b"")),
)
"""The first that fits is taken: bool and enumerations before int, of which they are kinds."""


def _structure(value: Any, depth: int) -> object:  # noqa: ANN401
    if depth >= DEEPEST:
        return None
    if isinstance(value, list | tuple):
        return [simple(item, depth + 1) for item in value]
    if dataclasses.is_dataclass(value):
        fields = {f.name: simple(getattr(value, f.name), depth + 1) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    return repr(value)
