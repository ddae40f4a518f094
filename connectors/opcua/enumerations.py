"""Names of enumerated values (IEC 62541-3, 8.40 and 5.8.3), for a person who looks at a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from connectors.opcua.space import ns0, target, value_of
from connectors.opcua.structures import BUILT_IN

if TYPE_CHECKING:
    from connectors.opcua.space import Space

ENUMERATION: Final = ns0(ObjectIds.Enumeration)
HAS_SUBTYPE: Final = ns0(ObjectIds.HasSubtype)
HAS_PROPERTY: Final = ns0(ObjectIds.HasProperty)
HIGHEST: Final = 32
"""Levels of supertypes that are climbed; a circle ends there too."""
MOST_NAMES: Final = 10_000
LONGEST_NAME: Final = 200


async def names_of(space: Space, nodes: Sequence[ua.NodeId]) -> dict[ua.NodeId, Mapping[int, str]]:
    """Value -> name for each of these variables whose data type is an enumeration. Raises NotConnectedError."""
    said = await space.read([(node, AttributeIds.DataType) for node in nodes])
    types = {node: kind for node, one in zip(nodes, said, strict=True) if isinstance(kind := value_of(one), ua.NodeId)}
    named = await _defined(space, await _enumerations(space, types.values()))
    return {node: named[kind] for node, kind in types.items() if named.get(kind)}


def shown(value: object, names: Mapping[int, str]) -> str:
    """A value as a person reads it: `2 (Running)`; one without a name stands alone."""
    if isinstance(value, list):
        return f"[{', '.join(shown(one, names) for one in value)}]"
    name = names.get(value) if isinstance(value, int) else None
    return str(value) if name is None else f"{value} ({name})"


async def _enumerations(space: Space, types: Iterable[ua.NodeId]) -> list[ua.NodeId]:
    """Those of these types that derive from Enumeration; an option set is none, its values are bits."""
    at = {node: node for node in types if node not in BUILT_IN}
    found: list[ua.NodeId] = []
    for _ in range(HIGHEST):
        if not at:
            break
        above = await space.references(list(at.values()), HAS_SUBTYPE, inverse=True)
        parents = dict(zip(at, above, strict=True))
        at = {}
        for node, seen in parents.items():
            if not seen.found:
                continue
            parent = target(seen.found[0])
            if parent == ENUMERATION:
                found.append(node)
            elif parent not in BUILT_IN:
                at[node] = parent
    return found


async def _defined(space: Space, types: Sequence[ua.NodeId]) -> dict[ua.NodeId, Mapping[int, str]]:
    """Names by the definition of each type, else by its property EnumValues or EnumStrings."""
    said = await space.read([(node, AttributeIds.DataTypeDefinition) for node in types])
    found: dict[ua.NodeId, Mapping[int, str]] = {
        node: _names(value_of(one)) for node, one in zip(types, said, strict=True)
    }
    without = [node for node, names in found.items() if not names]
    for node, seen in zip(without, await space.references(without, HAS_PROPERTY), strict=True):
        properties = [target(one) for one in seen.found if one.BrowseName.Name in {"EnumValues", "EnumStrings"}]
        for one in await space.read([(node, AttributeIds.Value) for node in properties]):
            found[node] = found[node] or _names(value_of(one))
    return found


def _names(said: object) -> dict[int, str]:
    """Out of an EnumDefinition, of EnumValueTypes, or of texts that count from 0 (IEC 62541-3, 5.8.3)."""
    if isinstance(said, ua.EnumDefinition):
        fields = (said.Fields or [])[:MOST_NAMES]
        return {int(one.Value): _text(one.DisplayName) or str(one.Name or "")[:LONGEST_NAME] for one in fields}
    if not isinstance(said, list):
        return {}
    if all(isinstance(one, ua.LocalizedText) for one in said):
        return {number: _text(one) for number, one in enumerate(said[:MOST_NAMES])}
    return {int(one.Value): _text(one.DisplayName) for one in said[:MOST_NAMES] if isinstance(one, ua.EnumValueType)}


def _text(said: ua.LocalizedText | None) -> str:
    return str(said.Text or "")[:LONGEST_NAME] if said is not None else ""
