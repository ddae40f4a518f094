"""A lazy, read-only walk through an OPC UA address space: a level at a time, with type, unit, access and path."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import get_name_and_doc

from connectors import NO_TIME, Branch, Found, Node, NotConnectedError, Status
from connectors.opcua.address import place, text_of
from connectors.opcua.binding import resolve
from connectors.opcua.datatypes import DataTypes
from connectors.opcua.describe import OF_VARIABLE, Child, children_of, reading, unit_node, unit_of
from connectors.opcua.enumerations import names_of
from connectors.opcua.options import Options
from connectors.opcua.path import Path, Step
from connectors.opcua.session import Session
from connectors.opcua.space import MOST_CHILDREN, References, Space, ns0, value_of
from connectors.opcua.structures import Structures
from connectors.opcua.values import plain

CLASSES: Final = int(ua.NodeClass.Object | ua.NodeClass.Variable | ua.NodeClass.Method | ua.NodeClass.View)
INT32: Final = ua.VariantType.Int32
OBJECTS: Final = ns0(ObjectIds.ObjectsFolder)
BEGINNING: Final = Path((Step("", "Objects"),))
MOST_PATHS: Final = 100_000
"""Nodes whose path is remembered, so that a further browse knows where it is."""
PROPERTIES: Final = 32
"""References of a variable that are looked at for its unit and for children."""


class OpcUaBrowser:
    """See `Browser`. A variable's own properties (ranges, units) are not its children: they say what it is."""

    def __init__(self, url: str, **credentials: object) -> None:
        """Nothing is opened yet. ValueError for credentials that `Options` refuses."""
        given = dict(credentials)
        self._folder = given.pop("data_dir", None)
        given.setdefault("security", "Basic256Sha256" if given.get("username") else "None")
        self._options = Options.model_validate({**given, "url": url})
        self._own: tempfile.TemporaryDirectory[str] | None = None
        self._session: Session | None = None
        self._asked: tuple[Space, DataTypes] | None = None
        self._structures: Structures | None = None
        self._paths: dict[ua.NodeId, Path] = {OBJECTS: BEGINNING}
        self._variables: set[ua.NodeId] = set()

    async def connect(self) -> None:
        """See `Browser.connect`."""
        await self.close()
        self._own = tempfile.TemporaryDirectory() if self._folder is None else None
        folder = self._own.name if self._own is not None else self._folder
        self._session = Session(self._options, "browse", str(folder))
        try:
            await self._session.open()
            space = Space(self._session)
            await space.open()
            self._asked = space, DataTypes(space)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See `Browser.close`."""
        session, own = self._session, self._own
        self._session = self._own = self._asked = self._structures = None
        if session is not None:
            await session.close()
        if own is not None:
            own.cleanup()

    @property
    def requests(self) -> int:
        """Sent so far on this connection."""
        return self._session.requests if self._session is not None else 0

    def _open(self) -> tuple[Space, DataTypes]:
        if self._asked is None:
            message = "not connected"
            raise NotConnectedError(message)
        return self._asked

    async def _places(self, addresses: Sequence[str]) -> list[ua.NodeId | str]:
        """The node of each address, or what is wrong with it."""
        space, _ = self._open()
        found: list[ua.NodeId | str] = [""] * len(addresses)
        parsed = {}
        for index, address in enumerate(addresses):
            try:
                parsed[index] = place(address) if address else BEGINNING
            except ValueError as error:
                found[index] = str(error)
        nodes = await resolve(space.session, list(parsed.values()))
        for (index, meant), node in zip(parsed.items(), nodes, strict=True):
            if isinstance(node, int):
                found[index] = f"{addresses[index]}: {get_name_and_doc(node)[0]}"
                continue
            found[index] = node
            if isinstance(meant, Path):
                self._remember(node, meant)
        return found

    def _remember(self, node: ua.NodeId, path: Path) -> None:
        if len(self._paths) < MOST_PATHS:
            self._paths.setdefault(node, path)

    async def children(self, addresses: Sequence[str]) -> list[Branch]:
        """See `Browser.children`."""
        space, types = self._open()
        starts = await self._places(addresses)
        nodes = [start for start in starts if isinstance(start, ua.NodeId)]
        found = dict(zip(nodes, await space.references(nodes, classes=CLASSES), strict=True))
        levels = {node: self._level(node, references) for node, references in found.items()}
        await self._describe([child for level in levels.values() for child in level])
        branches = []
        for address, start in zip(addresses, starts, strict=True):
            if isinstance(start, str):
                branches.append(Branch((), (start,)))
            else:
                shown = tuple(self._node(child, start, types) for child in levels[start])
                branches.append(Branch(shown, _notes(address, found[start])))
        return branches

    def _level(self, node: ua.NodeId, references: References) -> list[Child]:
        space, _ = self._open()
        level = children_of(references, space.session.namespaces, of_variable=node in self._variables)
        if len(self._variables) < MOST_PATHS:
            self._variables |= {child.node for child in level if child.is_variable}
        return level

    def _node(self, child: Child, parent: ua.NodeId, types: DataTypes) -> Node:
        above = self._paths.get(parent)
        if above is not None and child.step is not None:
            self._remember(child.node, above.to(child.step))
        here = self._paths.get(child.node)
        space, _ = self._open()
        return Node(
            text_of(child.node, space.session.namespaces),
            child.name,
            child.kind.name,
            types.tag(child.type, child.rank) if child.type is not None else "",
            types.name(child.type, child.rank) if child.type is not None else "",
            child.unit,
            child.is_readable,
            child.is_writable,
            child.description,
            child.has_children,
            str(here) if here is not None else "",
            of_peer=parent == OBJECTS and child.node.NamespaceIndex == 0,
        )

    async def _describe(self, children: Sequence[Child]) -> None:
        """Fill in what the references do not say."""
        space, types = self._open()
        variables = [child for child in children if child.is_variable]
        others = [child for child in children if not child.is_variable]
        said = await space.read([(child.node, AttributeIds.Description) for child in others])
        for child, one in zip(others, said, strict=True):
            child.describe(value_of(one))
        said = await space.read([(child.node, attribute) for child in variables for attribute in OF_VARIABLE])
        for index, child in enumerate(variables):
            child.fill(said[index * len(OF_VARIABLE) : (index + 1) * len(OF_VARIABLE)])
        await types.learn(child.type for child in variables if child.type is not None)
        for some, most in ((others, 1), (variables, PROPERTIES)):
            for child, seen in zip(some, await space.peek([c.node for c in some], CLASSES, most), strict=True):
                child.look_at(seen)
        nodes = {child.node: child.unit_node for child in variables if child.unit_node is not None}
        units = dict(zip(nodes, await self._units(nodes.values()), strict=True))
        for child in variables:
            child.unit = units.get(child.node, "")

    async def _units(self, nodes: Iterable[ua.NodeId]) -> list[str]:
        space, _ = self._open()
        return [unit_of(value_of(one)) for one in await space.read([(node, AttributeIds.Value) for node in nodes])]

    async def read(self, addresses: Sequence[str]) -> list[Found]:
        """See `Browser.read`."""
        space, _ = self._open()
        places = await self._places(addresses)
        nodes = [one for one in places if isinstance(one, ua.NodeId)]
        named = iter(await space.read([(node, AttributeIds.BrowseName) for node in nodes]))
        values = await space.read([(node, AttributeIds.Value) for node in nodes], times=True)
        with_units = [unit_node(seen) for seen in await space.peek(nodes, CLASSES, PROPERTIES)]
        said = iter(await self._units([node for node in with_units if node is not None]))
        units = iter([next(said) if node is not None else "" for node in with_units])
        found = dict(zip(nodes, values, strict=True))
        opened, names = await self._shown(found)
        return [
            Found(address, address, "", one, Status.BAD_NODE_ID_UNKNOWN, NO_TIME)
            if isinstance(one, str)
            else reading(address, next(named), found[one], next(units), opened.get(one), names.get(one, {}))
            for address, one in zip(addresses, places, strict=True)
        ]

    async def _shown(
        self, found: Mapping[ua.NodeId, ua.DataValue]
    ) -> tuple[dict[ua.NodeId, object], dict[ua.NodeId, Mapping[int, str]]]:
        """The value of each node with its structures opened, and the names of those that are enumerated."""
        space, _ = self._open()
        values = {node: plain(one.Value) if one.Value is not None else None for node, one in found.items()}
        rows = dict(enumerate(values.values()))
        if self._structures is None:
            self._structures = Structures(space)
        await self._structures.open(rows, rows)
        whole = [node for node, one in found.items() if one.Value is not None and one.Value.VariantType == INT32]
        return dict(zip(values, rows.values(), strict=True)), await names_of(space, whole)


def _notes(address: str, references: References) -> tuple[str, ...]:
    where = address or str(BEGINNING)
    if references.status:
        return (f"{where}: {get_name_and_doc(references.status)[0]}",)
    return (f"{where}: cut off after {MOST_CHILDREN} children",) if references.more else ()
