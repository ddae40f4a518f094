"""A tag's address: NodeId text (IEC 62541-6, 5.3.1.10) or a browse path, parsed once, resolved at each connect."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from asyncua import ua

from connectors.opcua import path
from connectors.opcua.path import Path

PATTERN: Final = re.compile(
    r"(?:nsu=(?P<uri>[^;]+);|ns=(?P<index>\d{1,5});)?(?P<kind>[isgb])=(?P<identifier>.+)", re.DOTALL
)
HOW: Final = (
    "write `nsu=http://example.com/plant;s=Tank.Level`, `ns=2;s=Tank.Level` or `i=2258`; "
    "i, s, g or b before the identifier; or a browse path, `path:/Objects/nsu=http://example.com/plant;Tank`"
)
LONGEST: Final = 4096
"""Characters in a string identifier (IEC 62541-3, 8.2.4)."""
MAX_INDEX: Final = 65_535
MAX_NUMERIC: Final = 4_294_967_295


def _number(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MAX_NUMERIC:
        message = f"a numeric identifier goes from 0 to {MAX_NUMERIC}"
        raise ValueError(message)
    return value


def _opaque(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        message = f"an opaque identifier is base64: {error}"
        raise ValueError(message) from error


def _string(text: str) -> str:
    if len(text) > LONGEST:
        message = f"a string identifier has at most {LONGEST} characters"
        raise ValueError(message)
    return text


IDENTIFIERS: Final[dict[str, tuple[ua.NodeIdType, Callable[[str], object]]]] = {
    "i": (ua.NodeIdType.Numeric, _number),
    "s": (ua.NodeIdType.String, _string),
    "g": (ua.NodeIdType.Guid, uuid.UUID),
    "b": (ua.NodeIdType.ByteString, _opaque),
}


@dataclass(frozen=True, slots=True)
class Address:
    """A node, by namespace URI (which stays) or by namespace index (which a server may renumber)."""

    namespace: str | int
    kind: ua.NodeIdType
    identifier: object

    def node_id(self, namespaces: Sequence[str]) -> ua.NodeId | None:
        """The NodeId on a server with this NamespaceArray; None when it does not know the URI."""
        index = self.namespace
        if isinstance(index, str):
            if index not in namespaces:
                return None
            index = namespaces.index(index)
        return ua.NodeId(self.identifier, ua.Int16(index), self.kind)  # type: ignore[arg-type]  # the type of the identifier goes with its kind


def parse(text: str) -> Address:
    """The NodeId this text means. Raises ValueError that says how to write one."""
    found = PATTERN.fullmatch(text)
    if found is None:
        message = f"{text!r} is not a NodeId: {HOW}"
        raise ValueError(message)
    kind, convert = IDENTIFIERS[found["kind"]]
    try:
        identifier = convert(found["identifier"])
    except ValueError as error:
        message = f"{text!r} is not a NodeId ({error}): {HOW}"
        raise ValueError(message) from error
    index = int(found["index"] or 0)
    if index > MAX_INDEX:
        message = f"{text!r}: a namespace index goes from 0 to {MAX_INDEX}: {HOW}"
        raise ValueError(message)
    return Address(unquote(found["uri"]) if found["uri"] else index, kind, identifier)


def place(text: str) -> Address | Path:
    """What a tag's address means: a NodeId or a browse path. Raises ValueError that says how to write one."""
    return path.parse(text) if text.startswith(path.PREFIX) else parse(text)


def check(text: str) -> str | None:
    """What is wrong with this text, or None."""
    try:
        place(text)
    except ValueError as error:
        return str(error)
    return None


def text_of(node: ua.NodeId, namespaces: Sequence[str]) -> str:
    """The address of a node with its namespace's URI, as an engineer would write it; namespace 0 needs none."""
    if node.NamespaceIndex == 0 or node.NamespaceIndex >= len(namespaces):
        return node.to_string()
    uri = namespaces[node.NamespaceIndex].replace("%", "%25").replace(";", "%3B")
    return f"nsu={uri};{node.to_string().partition(';')[2]}"


def local(node: ua.NodeId, namespaces: Sequence[str]) -> ua.NodeId | None:
    """A node this server itself holds, by namespace index, out of an ExpandedNodeId; None for one of another server."""
    index = node.NamespaceIndex
    if isinstance(node, ua.ExpandedNodeId):
        if node.ServerIndex or (node.NamespaceUri and node.NamespaceUri not in namespaces):
            return None
        if node.NamespaceUri:
            index = ua.Int16(namespaces.index(node.NamespaceUri))
    return ua.NodeId(node.Identifier, index, node.NodeIdType)
