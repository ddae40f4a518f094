"""What the attributes of a node say, in the words of the contract: text, access, unit, a value with its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from connectors import NO_TIME, Found
from connectors.opcua.address import local
from connectors.opcua.columns import NAMES
from connectors.opcua.decode import TYPE_BITS
from connectors.opcua.enumerations import shown
from connectors.opcua.path import Step
from connectors.opcua.space import ns0, value_of
from connectors.opcua.values import simple

if TYPE_CHECKING:
    from connectors.opcua.space import References

HAS_PROPERTY: Final = ns0(ObjectIds.HasProperty)
UNITS: Final = "http://www.opcfoundation.org/UA/units/un/cefact"
LONGEST_VALUE: Final = 4096
LONGEST_TEXT: Final = 1000
READ: Final = 0x01
WRITE: Final = 0x02
"""Bits of an AccessLevel (IEC 62541-3, 8.57)."""
OF_VARIABLE: Final = (
    AttributeIds.Description,
    AttributeIds.DataType,
    AttributeIds.ValueRank,
    AttributeIds.AccessLevel,
    AttributeIds.UserAccessLevel,
)
NO_RANK: Final = -2
INT64: Final = 2**63


@dataclass(slots=True)
class Child:
    """One node while it is being described."""

    node: ua.NodeId
    step: Step | None
    """From its parent to it; None where its namespace has no URI."""
    name: str
    kind: ua.NodeClass
    description: str = ""
    type: ua.NodeId | None = None
    rank: int = NO_RANK
    access: int = 0
    unit: str = ""
    unit_node: ua.NodeId | None = None
    has_children: bool = False

    @property
    def is_variable(self) -> bool:
        """Whether it has a value."""
        return self.kind == ua.NodeClass.Variable

    @property
    def is_readable(self) -> bool:
        """Whether we may read its value."""
        return bool(self.access & READ)

    @property
    def is_writable(self) -> bool:
        """Whether the server would let us write its value."""
        return bool(self.access & WRITE)

    def fill(self, said: Sequence[ua.DataValue]) -> None:
        """Take in the attributes of `OF_VARIABLE`, in their order."""
        description, kind, rank, access, mine = (value_of(one) for one in said)
        self.describe(description)
        self.type = kind if isinstance(kind, ua.NodeId) else None
        self.rank = int(rank) if isinstance(rank, int) else NO_RANK
        # What anyone may do, cut down to what we may; a server that does not tell the latter means the former.
        anyone = access if isinstance(access, int) else READ
        self.access = anyone & mine if isinstance(mine, int) else anyone

    def describe(self, description: object) -> None:
        """Take in what the server says of it; many only say its name again."""
        said = text_of(description)
        self.description = "" if said == self.name else said

    def look_at(self, references: References) -> None:
        """Note where the unit is and whether there are children other than a variable's own properties."""
        if not self.is_variable:
            self.has_children = bool(references.found) or references.more
            return
        self.unit_node = unit_node(references)
        self.has_children = references.more or any(r.ReferenceTypeId != HAS_PROPERTY for r in references.found)


def children_of(references: References, namespaces: Sequence[str], *, of_variable: bool) -> list[Child]:
    """The nodes referred to, once each; those of another server, and a variable's own properties, are left out."""
    found: dict[ua.NodeId, Child] = {}
    for reference in references.found:
        node = local(reference.NodeId, namespaces)
        if node is None or (of_variable and reference.ReferenceTypeId == HAS_PROPERTY):
            continue
        name, index = str(reference.BrowseName.Name or ""), reference.BrowseName.NamespaceIndex
        step = Step(namespaces[index] if index else "", name) if name and index < len(namespaces) else None
        found.setdefault(node, Child(node, step, name, ua.NodeClass(reference.NodeClass)))
    return list(found.values())


def text_of(value: object) -> str:
    """The text of a LocalizedText, shortened; empty for what is none."""
    return str(value.Text or "")[:LONGEST_TEXT] if isinstance(value, ua.LocalizedText) else ""


def unit_node(references: References) -> ua.NodeId | None:
    """The property EngineeringUnits among these (IEC 62541-8, 5.6.4)."""
    for one in references.found:
        if one.ReferenceTypeId == HAS_PROPERTY and one.BrowseName.Name == "EngineeringUnits":
            return ua.NodeId(one.NodeId.Identifier, one.NodeId.NamespaceIndex, one.NodeId.NodeIdType)
    return None


def unit_of(value: object) -> str:
    """The unit as the server shows it, else its UNECE code, which is packed into the number (IEC 62541-8, 5.6.4.3)."""
    if not isinstance(value, ua.EUInformation):
        return ""
    shown = text_of(value.DisplayName).strip()
    if shown or value.NamespaceUri != UNITS or not 0 < value.UnitId < 2**31:
        return shown
    code = int(value.UnitId).to_bytes(4, "big").lstrip(b"\0")
    return code.decode("ascii") if code.isalnum() else ""


def reading(
    address: str, name: ua.DataValue, found: ua.DataValue, unit: str, opened: object, names: Mapping[int, str]
) -> Found:
    """A value that was read, for people. `opened`: the value with its structures opened; `names`: of an enumeration."""
    named = value_of(name)
    variant = found.Value
    kind = ""
    if variant is not None and variant.Value is not None:
        kind = NAMES[min(int(variant.VariantType.value) & TYPE_BITS, len(NAMES) - 1)]
        kind += "[]" if variant.is_array else ""
    return Found(
        address,
        str(named.Name) if isinstance(named, ua.QualifiedName) else address,
        kind,
        _shown(opened, names),
        int(found.StatusCode.value) if found.StatusCode is not None else 0,
        _time(found),
        unit,
    )


def _shown(value: object, names: Mapping[int, str]) -> str:
    if value is None:
        return ""
    return shown(value.tolist() if isinstance(value, np.ndarray) else value, names)[:LONGEST_VALUE]


def _time(found: ua.DataValue) -> int:
    """When the value was true, ns since 1970 UTC, or `NO_TIME`."""
    ns = simple(found.SourceTimestamp) if found.SourceTimestamp is not None else None
    return ns if isinstance(ns, int) and -INT64 < ns < INT64 else NO_TIME
