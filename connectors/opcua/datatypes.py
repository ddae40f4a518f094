"""What a variable's DataType means for a tag: the built-in type it derives from, and the server's own name of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from connectors.opcua.columns import SCALARS
from connectors.opcua.space import ns0, value_of

if TYPE_CHECKING:
    from connectors.opcua.space import Space

HAS_SUBTYPE: Final = ns0(ObjectIds.HasSubtype)
HIGHEST: Final = 32
"""Levels of supertypes that are climbed; a circle ends there too."""
MOST_TYPES: Final = 10_000
SCALAR_KINDS: Final = ("boolean", "integer", "float", "string")
ABSTRACT: Final = {
    ObjectIds.Number: "float",
    ObjectIds.Integer: "integer",
    ObjectIds.UInteger: "integer",
    ObjectIds.Enumeration: "integer",
    ObjectIds.BaseDataType: "any",
    ObjectIds.Structure: "any",
    ObjectIds.DataValue: "any",
    ObjectIds.DiagnosticInfo: "any",
}
"""Types (IEC 62541-5, annex B) that are no built-in type of a scalar."""
KNOWN: Final[dict[ua.NodeId, str]] = {
    **{ns0(kind): name for name in reversed(SCALAR_KINDS) for kind in SCALARS[name]},
    **{ns0(identifier): name for identifier, name in ABSTRACT.items()},
}
SCALAR: Final = -1
ANY: Final = "any"
ARRAY: Final = "array"


class DataTypes:
    """DataTypes of one server, asked for once each."""

    def __init__(self, space: Space) -> None:
        """None is known but OPC UA's own."""
        self._space = space
        self._tags: dict[ua.NodeId, str] = dict(KNOWN)
        self._names: dict[ua.NodeId, str] = {}

    async def learn(self, types: Iterable[ua.NodeId]) -> None:
        """Find out about these."""
        nodes = [node for node in dict.fromkeys(types) if node not in self._names][:MOST_TYPES]
        names = await self._space.read([(node, AttributeIds.BrowseName) for node in nodes])
        for node, found in zip(nodes, names, strict=True):
            name = value_of(found)
            self._names[node] = str(name.Name) if isinstance(name, ua.QualifiedName) else node.to_string()
        await self._climb([node for node in nodes if node not in self._tags])

    async def _climb(self, types: list[ua.NodeId]) -> None:
        """The tag datatype of each, from the nearest known type above it."""
        at = {node: node for node in types}
        for _ in range(HIGHEST):
            going = [node for node in types if node not in self._tags]
            if not going:
                return
            above = await self._space.references([at[node] for node in going], HAS_SUBTYPE, inverse=True)
            for node, references in zip(going, above, strict=True):
                parent = references.found[0].NodeId if references.found else None
                if parent is None:
                    self._tags[node] = ANY
                    continue
                at[node] = ua.NodeId(parent.Identifier, parent.NamespaceIndex, parent.NodeIdType)
                if at[node] in self._tags:
                    self._tags[node] = self._tags[at[node]]
        self._tags |= {node: ANY for node in types if node not in self._tags}

    def tag(self, node: ua.NodeId, rank: int) -> str:
        """The datatype of a tag for values of this type and ValueRank (IEC 62541-3, 5.6.2)."""
        if rank >= 0:
            return ARRAY
        return self._tags.get(node, ANY) if rank == SCALAR else ANY

    def name(self, node: ua.NodeId, rank: int) -> str:
        """The server's own name of the type, `[]` behind it for an array."""
        return self._names.get(node, node.to_string()) + ("[]" if rank >= 0 else "")
