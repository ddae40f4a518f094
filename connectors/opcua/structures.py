"""Structures of a server's own (IEC 62541-3, 5.8): their definitions asked for when first met, their bodies opened."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaStatusCodeError

from connectors import ConnectorError
from connectors.opcua.address import text_of
from connectors.opcua.space import ns0, target, value_of
from connectors.opcua.standard import Field, Structure, encodings, structures
from connectors.opcua.variant import (
    BYTE_STRING,
    DEEPEST,
    INT32,
    LAST_BUILT_IN,
    MOST_DIMENSIONS,
    STRUCTURE,
    VARIANT,
    BrokenError,
    Opaque,
    Reader,
    shaped,
)

if TYPE_CHECKING:
    from connectors.opcua.space import Space

HAS_ENCODING: Final = ns0(ObjectIds.HasEncoding)
HAS_SUBTYPE: Final = ns0(ObjectIds.HasSubtype)
MOST_TYPES: Final = 3000
"""Data types of one server that are asked for; structures of further ones stay bytes."""
MOST_FIELDS: Final = 1000
"""Of one structure."""
HIGHEST: Final = 32
"""Levels of supertypes that are climbed; a circle ends there too."""
UNIONS: Final = frozenset({int(ua.StructureType.Union), 4})
OF_TYPE: Final = (AttributeIds.DataTypeDefinition, AttributeIds.BrowseName)
WITH_OPTIONAL: Final = int(ua.StructureType.StructureWithOptionalFields)
SUBTYPED: Final = frozenset({3, 4})
"""StructureTypes whose fields may hold subtypes where `IsOptional` says so (IEC 62541-3, 8.49)."""
BUILT_IN: Final[dict[ua.NodeId, int]] = {
    **{ns0(kind): kind for kind in range(1, LAST_BUILT_IN + 1)},
    **{ns0(number): VARIANT for number in (ObjectIds.Number, ObjectIds.Integer, ObjectIds.UInteger)},
    ns0(ObjectIds.Enumeration): INT32,
    ns0(ObjectIds.Image): BYTE_STRING,
}
"""Data types and the built-in type their values are encoded as (IEC 62541-6, 5.2)."""


class Structures:
    """Data types of one server, asked for once each and for as long as it is connected."""

    def __init__(self, space: Space) -> None:
        """Only OPC UA's own are known."""
        self._space = space
        self._of_encoding: dict[ua.NodeId, ua.NodeId | None] = dict(encodings())
        self._structures: dict[ua.NodeId, Structure | None] = dict(structures())
        self._built_in = BUILT_IN | dict.fromkeys(structures(), 0)
        self._walked = False
        self._wanted: set[ua.NodeId] = set()
        self.unopened: Counter[str] = Counter()
        """Type of an ExtensionObject that stayed bytes -> how often."""

    async def open(self, values: MutableMapping[int, object], rows: Iterable[int]) -> None:
        """Open every ExtensionObject in these rows, in place. Raises NotConnectedError.

        One whose type the server does not describe, or whose body is not what it describes, becomes
        `{"type": …, "body": bytes}` and is counted.
        """
        chosen = list(rows)
        for _ in range(DEEPEST):
            opened = {row: self._plain(values[row]) for row in chosen}
            wanted, self._wanted = self._wanted, set()
            values.update(opened)
            if not wanted:
                break
            await self._learn(wanted)
        values.update({row: self._left(values[row]) for row in chosen})

    async def built_in(self, datatype: ua.NodeId) -> int:
        """The built-in type that values of this data type are encoded as; 0 for a structure. NotConnectedError."""
        await self._climb([datatype])
        return self._built_in[datatype]

    def notes(self) -> tuple[str, ...]:
        """What an operator should know: which structures stay bytes, and how many there were, in powers of ten."""
        return tuple(
            f"{10 ** int(math.log10(count)):,} or more structures of type {name} were kept as bytes: "
            "the server does not describe the type, or sends what it does not describe"
            for name, count in sorted(self.unopened.items())
        )

    def _plain(self, value: object) -> object:
        """The value with what can be opened opened; what it takes to open the rest is noted as wanted."""
        if isinstance(value, list):
            return [self._plain(one) for one in value]
        if isinstance(value, dict):
            return {name: self._plain(one) for name, one in value.items()}
        return self._opened(value) if isinstance(value, Opaque) else value

    def _opened(self, value: Opaque) -> object:
        if value.is_xml:
            return value
        if value.type not in self._of_encoding:
            if len(self._of_encoding) < MOST_TYPES:
                self._wanted.add(value.type)
            return value
        kind = self._of_encoding[value.type]
        structure = self._structures.get(kind) if kind is not None else None
        if structure is None:
            return value
        reader = Reader(value.body)
        try:
            found = self._structure(reader, structure, 0)
        except BrokenError:
            return value
        # What is longer than its definition was not made by it: its fields may be others.
        return self._plain(found) if reader.position == len(value.body) and not reader.foreign_text else value

    def _left(self, value: object) -> object:
        if isinstance(value, list):
            return [self._left(one) for one in value]
        if isinstance(value, dict):
            return {name: self._left(one) for name, one in value.items()}
        if not isinstance(value, Opaque):
            return value
        name = text_of(value.type, self._space.session.namespaces)
        if name in self.unopened or len(self.unopened) < MOST_TYPES:
            self.unopened[name] += 1
        return {"type": name, "body": value.body}

    def _structure(self, reader: Reader, structure: Structure, depth: int) -> dict[str, object]:
        """Read one body (IEC 62541-6, 5.2.6 to 5.2.8). An optional field that is absent is None."""
        if depth >= DEEPEST:
            message = f"structures nested deeper than {DEEPEST}"
            raise BrokenError(message)
        found: dict[str, object] = {"type": structure.name}
        if structure.kind in UNIONS:
            chosen = reader.unsigned()
            if chosen > len(structure.fields):
                message = f"field {chosen} of a union of {len(structure.fields)}"
                raise BrokenError(message)
            fields: Sequence[Field] = structure.fields[chosen - 1 : chosen] if chosen else ()
            return found | {one.name: self._field(reader, one, depth) for one in fields}
        mask = reader.unsigned() if structure.kind == WITH_OPTIONAL else 0
        bit = 1
        for one in structure.fields:
            there = True
            if one.is_optional:
                there, bit = bool(mask & bit), bit << 1
            found[one.name] = self._field(reader, one, depth) if there else None
        return found

    def _field(self, reader: Reader, field: Field, depth: int) -> object:
        if not field.rank:
            return self._one(reader, field, depth)
        dimensions = _dimensions(reader) if field.rank > 1 else []
        length = math.prod(dimensions) if dimensions else reader.integer()
        if length < 0:
            return None
        if field.kind:
            return shaped(reader.elements(field.kind, length, depth), dimensions)
        if length > len(reader.data) - reader.position:
            message = f"{length} structures announced, {len(reader.data) - reader.position} bytes there"
            raise BrokenError(message)
        return shaped([self._one(reader, field, depth) for _ in range(length)], dimensions)

    def _one(self, reader: Reader, field: Field, depth: int) -> object:
        if field.kind:
            return reader.built_in(field.kind, depth)
        structure = self._structures.get(field.type) if field.type is not None else None
        if structure is None:
            message = f"a field {field.name} of a type that is not known"
            raise BrokenError(message)
        return self._structure(reader, structure, depth + 1)

    async def _learn(self, encodings: Iterable[ua.NodeId]) -> None:
        """Find the data types of these encodings and what they are made of; what cannot be found is not asked again.

        A server that refuses to say does not end the connection: its structures stay bytes.
        """
        nodes = list(encodings)
        self._of_encoding |= dict.fromkeys(nodes)
        try:
            for node, seen in zip(nodes, await self._space.references(nodes, HAS_ENCODING, inverse=True), strict=True):
                self._of_encoding[node] = target(seen.found[0]) if seen.found else None
            if any(self._of_encoding[node] is None for node in nodes):
                await self._walk()
            await self._define([kind for node in nodes if (kind := self._of_encoding[node]) is not None])
        except ConnectorError as error:
            if not isinstance(error.__cause__, UaStatusCodeError):
                self._of_encoding = {node: kind for node, kind in self._of_encoding.items() if node not in nodes}
                raise

    async def _walk(self) -> None:
        """Once, of a server that does not tell what an encoding is of: ask every structure for its encoding."""
        if self._walked:
            return
        self._walked = True
        going, found = [ns0(STRUCTURE)], dict[ua.NodeId, None]()
        while going and len(found) < MOST_TYPES:
            found |= dict.fromkeys(going)
            below = await self._space.references(going, HAS_SUBTYPE)
            going = [kind for seen in below for one in seen.found if (kind := target(one)) not in found]
        own = [node for node in found if node.NamespaceIndex]
        said = await self._space.read([(node, AttributeIds.DataTypeDefinition) for node in own])
        for node, one in zip(own, said, strict=True):
            definition = value_of(one)
            if isinstance(definition, ua.StructureDefinition) and not definition.DefaultEncodingId.is_null():
                encoding = definition.DefaultEncodingId
                self._of_encoding[encoding] = self._of_encoding.get(encoding) or node

    async def _define(self, types: Sequence[ua.NodeId]) -> None:
        """Read the definitions of these data types and of all that their fields are made of, level by level."""
        going = list(dict.fromkeys(types))
        for _ in range(DEEPEST):
            going = [node for node in going if node not in self._structures][: MOST_TYPES - len(self._structures)]
            if not going:
                return
            wanted = [(node, what) for node in going for what in OF_TYPE]
            said = [value_of(one) for one in await self._space.read(wanted)]
            fields: list[ua.NodeId] = []
            definitions = dict(zip(going, zip(said[::2], said[1::2], strict=True), strict=True))
            for definition, _ in definitions.values():
                if isinstance(definition, ua.StructureDefinition):
                    fields += [one.DataType for one in (definition.Fields or [])[:MOST_FIELDS]]
            await self._climb(fields)
            for node, (definition, name) in definitions.items():
                self._structures[node] = self._defined(node, definition, name)
            going = [node for node in dict.fromkeys(fields) if self._built_in.get(node) == 0]

    def _defined(self, node: ua.NodeId, definition: object, name: object) -> Structure | None:
        if not isinstance(definition, ua.StructureDefinition) or len(definition.Fields or []) > MOST_FIELDS:
            return None
        shown = str(name.Name) if isinstance(name, ua.QualifiedName) else node.to_string()
        kind = int(definition.StructureType)
        return Structure(shown, kind, tuple(self._made(one, kind) for one in definition.Fields or []))

    def _made(self, field: ua.StructureField, kind: int) -> Field:
        built_in = self._built_in.get(field.DataType, 0)
        if kind in SUBTYPED and field.IsOptional:
            built_in = VARIANT if built_in else STRUCTURE
        rank = int(field.ValueRank)
        return Field(
            str(field.Name or ""),
            built_in,
            None if built_in else field.DataType,
            max(rank, 0),
            bool(field.IsOptional) and kind == WITH_OPTIONAL,
        )

    async def _climb(self, types: Sequence[ua.NodeId]) -> None:
        """The built-in type of each data type, from the nearest known one above it; 0 for a structure."""
        at = {node: node for node in types if node not in self._built_in}
        for _ in range(HIGHEST):
            going = [node for node in at if node not in self._built_in]
            if not going:
                return
            above = await self._space.references([at[node] for node in going], HAS_SUBTYPE, inverse=True)
            for node, seen in zip(going, above, strict=True):
                parent = at[node] = target(seen.found[0]) if seen.found else ns0(STRUCTURE)
                if parent in self._built_in:
                    kind = self._built_in[parent]
                    self._built_in[node] = 0 if kind == STRUCTURE else kind
        self._built_in |= {node: 0 for node in at if node not in self._built_in}


def _dimensions(reader: Reader) -> list[int]:
    """The lengths before a matrix in a structure (IEC 62541-6, 5.2.5)."""
    count = reader.integer()
    if not 0 <= count <= MOST_DIMENSIONS:
        message = f"an array of {count} dimensions"
        raise BrokenError(message)
    found = [reader.integer() for _ in range(count)]
    if any(one < 0 for one in found):
        message = "a negative dimension"
        raise BrokenError(message)
    return found or [0]
