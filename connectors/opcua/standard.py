"""Structures of OPC UA's own namespace, as asyncua's classes write them down: no server need be asked for these."""

from __future__ import annotations

import dataclasses
import enum
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from asyncua import ua

from connectors.opcua.variant import INT32

PATTERN: Final = re.compile(r"'?(?P<list>list\[)?ua\.(?P<name>\w+)\]?'?")
"""How asyncua writes the type of a field; what it writes otherwise (optional fields, subtypes) only servers know."""
PLAIN: Final = int(ua.StructureType.Structure)
BUILT_IN: Final = {one.name: int(one.value) for one in ua.VariantType if one.value}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a structure."""

    name: str
    kind: int
    """The built-in type it is encoded as; 0 for a structure in line."""
    type: ua.NodeId | None
    """Of a structure in line: its data type."""
    rank: int = 0
    """Dimensions; 0 for a scalar."""
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Structure:
    """How values of one data type lie in the body of an ExtensionObject."""

    name: str
    kind: int
    """StructureType (IEC 62541-3, 8.49)."""
    fields: tuple[Field, ...]


@lru_cache(maxsize=1)
def encodings() -> dict[ua.NodeId, ua.NodeId]:
    """Binary encoding -> data type, of those that `structures` has."""
    known = structures()
    found = {_plain(node): _type_of(kind) for node, kind in ua.extension_objects_by_typeid.items()}
    return {node: kind for node, kind in found.items() if kind in known and kind and not node.NamespaceIndex}


@lru_cache(maxsize=1)
def structures() -> dict[ua.NodeId, Structure]:
    """Data type -> structure."""
    found: dict[ua.NodeId, Structure] = {}
    for kind in set(ua.extension_objects_by_typeid.values()):
        node = _type_of(kind)
        fields = [_field(one.name, str(one.type)) for one in dataclasses.fields(kind)]
        if node is not None and None not in fields:
            found[node] = Structure(kind.__name__, PLAIN, tuple(one for one in fields if one is not None))
    return found


def _type_of(kind: type) -> ua.NodeId | None:
    """The data type of one of asyncua's classes, if it is of OPC UA's own namespace."""
    node = getattr(kind, "data_type", None)
    return _plain(node) if isinstance(node, ua.NodeId) and node.NamespaceIndex == 0 else None


def _plain(node: ua.NodeId) -> ua.NodeId:
    """The same node however it is encoded."""
    return ua.NodeId(node.Identifier, node.NamespaceIndex)


def _field(name: str, written: str) -> Field | None:
    found = PATTERN.fullmatch(written)
    kind = getattr(ua, found["name"], None) if found is not None else None
    if found is None or not isinstance(kind, type):
        return None
    rank = 1 if found["list"] else 0
    if kind.__name__ in BUILT_IN:
        return Field(name, BUILT_IN[kind.__name__], None, rank)
    if issubclass(kind, enum.Enum):
        return None if issubclass(kind, enum.Flag) else Field(name, INT32, None, rank)
    node = _type_of(kind)
    return Field(name, 0, node, rank) if node is not None and dataclasses.is_dataclass(kind) else None
