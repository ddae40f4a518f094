"""Browse path text (IEC 62541-4, annex A.2) with namespaces by URI: an address that outlives a renumbering."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

PREFIX: Final = "path:"
URI: Final = re.compile(r"nsu=([^;]+);")
INDEX: Final = re.compile(r"(\d{1,5}):")
RESERVED: Final = "/.<>:#!&"
"""These mean something in a path; in a name they are written with `&` before them."""
LONGEST: Final = 8192
DEEPEST: Final = 64
HOW: Final = (
    "write `path:/Objects/nsu=http://example.com/plant;Tank/nsu=http://example.com/plant;Level`: the namespace by its "
    "URI before each name, none for OPC UA's own; `&` before any of / . < > : # ! & that belongs to a name"
)
ROOT: Final = ua.NodeId(ua.Int32(ObjectIds.RootFolder))
REFERENCES: Final = {
    "/": ua.NodeId(ua.Int32(ObjectIds.HierarchicalReferences)),
    ".": ua.NodeId(ua.Int32(ObjectIds.Aggregates)),
}


@dataclass(frozen=True, slots=True)
class Step:
    """From one node to the next."""

    namespace: str
    """URI; empty for namespace 0."""
    name: str
    by: str = "/"
    """`/` follows any hierarchical reference, `.` only those of an aggregation."""

    def __str__(self) -> str:
        """As it is written."""
        uri = self.namespace.replace("%", "%25").replace(";", "%3B")
        name = "".join(f"&{c}" if c in RESERVED else c for c in self.name)
        return f"{self.by}nsu={uri};{name}" if uri else f"{self.by}{name}"


@dataclass(frozen=True, slots=True)
class Path:
    """A way from the root of an address space to a node."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        """The address, as `parse` takes it."""
        return PREFIX + "".join(str(step) for step in self.steps)

    def to(self, step: Step) -> Path:
        """One further."""
        return Path((*self.steps, step))

    def browse_path(self, namespaces: Sequence[str]) -> ua.BrowsePath | None:
        """The path on a server with this NamespaceArray; None when it does not know a URI."""
        elements = []
        for step in self.steps:
            if step.namespace and step.namespace not in namespaces:
                return None
            element = ua.RelativePathElement()
            element.ReferenceTypeId = REFERENCES[step.by]
            element.IncludeSubtypes = True  # type: ignore[assignment]  # asyncua's Boolean stands for bool, and is none
            element.IsInverse = False  # type: ignore[assignment]
            index = namespaces.index(step.namespace) if step.namespace else 0
            element.TargetName = ua.QualifiedName(step.name, index)
            elements.append(element)
        return ua.BrowsePath(StartingNode=ROOT, RelativePath=ua.RelativePath(Elements=elements))


def parse(text: str) -> Path:
    """The path this text means. Raises ValueError that says how to write one."""
    rest, steps = text.removeprefix(PREFIX), list[Step]()
    if len(text) > LONGEST:
        message = f"{text[:60]!r}… is longer than {LONGEST} characters"
        raise ValueError(message)
    while rest:
        if rest[0] not in REFERENCES or len(steps) >= DEEPEST:
            _refuse(text, f"{rest[:20]!r} begins no step" if len(steps) < DEEPEST else f"more than {DEEPEST} steps")
        by, (namespace, rest) = rest[0], _namespace(text, rest[1:])
        name, rest = _name(text, rest)
        steps.append(Step(namespace, name, by))
    if not steps:
        _refuse(text, "it is empty")
    return Path(tuple(steps))


def _refuse(text: str, why: str) -> None:
    message = f"{text!r} is not a browse path ({why}): {HOW}"
    raise ValueError(message)


def _namespace(text: str, rest: str) -> tuple[str, str]:
    """The namespace's URI and what follows it."""
    uri = URI.match(rest)
    if uri is not None:
        return unquote(uri[1]), rest[uri.end() :]
    index = INDEX.match(rest)
    if index is None:
        return "", rest
    if int(index[1]) != 0:
        _refuse(text, f"{index[0]!r} is a namespace by its number, which a server may change")
    return "", rest[index.end() :]


def _name(text: str, rest: str) -> tuple[str, str]:
    """A name up to the next step, and what follows."""
    name, at = "", 0
    while at < len(rest) and rest[at] not in REFERENCES:
        if rest[at] == "&":
            at += 1
            if at == len(rest):
                _refuse(text, "nothing follows the last `&`")
        elif rest[at] in RESERVED:
            _refuse(text, f"{rest[at]!r} in a name needs `&` before it")
        name += rest[at : at + 1]
        at += 1
    if not name:
        _refuse(text, "a step has no name")
    return name, rest[at:]
