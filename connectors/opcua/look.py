"""A read-only look at a foreign OPC UA server: variables, how often they change, its clock, what looking cost."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from connectors import NO_TIME, Found, Look, RefusedError
from connectors.opcua.address import text_of
from connectors.opcua.border import border
from connectors.opcua.clock import clock_offset
from connectors.opcua.columns import NAMES
from connectors.opcua.decode import ARRAY, TYPE_BITS, Changes
from connectors.opcua.enumerations import names_of, shown
from connectors.opcua.inbox import Inbox, UnknownPeerError
from connectors.opcua.options import Options
from connectors.opcua.session import Session
from connectors.opcua.source import NAMESPACE_ARRAY
from connectors.opcua.space import Space
from connectors.opcua.structures import Structures
from connectors.opcua.subscription import Subscription
from connectors.opcua.variant import INT32, STRUCTURE

MOST_VARIABLES: Final = 5000
MOST_REQUESTS: Final = 600
NODES_PER_BROWSE: Final = 50
VALUES_PER_READ: Final = 500
CLOCK_WRONG_NS: Final = 1_000_000_000
LONGEST_VALUE: Final = 120
SAMPLING_MS: Final = 250.0
PUBLISHING_MS: Final = 500.0
QUEUE: Final = 20
BAD: Final = 2


def _ns0(identifier: int) -> ua.NodeId:
    return ua.NodeId(ua.Int32(identifier))


PRODUCT: Final = (
    _ns0(ObjectIds.Server_ServerStatus_BuildInfo_ManufacturerName),
    _ns0(ObjectIds.Server_ServerStatus_BuildInfo_ProductName),
    _ns0(ObjectIds.Server_ServerStatus_BuildInfo_SoftwareVersion),
)
OBJECTS: Final = _ns0(ObjectIds.ObjectsFolder)
SERVER: Final = _ns0(ObjectIds.Server)
HIERARCHICAL: Final = _ns0(ObjectIds.HierarchicalReferences)
HAS_PROPERTY: Final = _ns0(ObjectIds.HasProperty)
CLASSES: Final = int(ua.NodeClass.Object) | int(ua.NodeClass.Variable)
FIELDS: Final = 0x3F
T = TypeVar("T")


@dataclass(slots=True)
class _Variable:
    node: ua.NodeId
    name: str
    unit_node: ua.NodeId | None = None
    unit: str = ""
    kind: int = 0
    held: object = None
    value: str = ""
    status: int = 0
    source_time: int = NO_TIME
    changes: int = 0


@dataclass(slots=True)
class _Tree:
    variables: list[_Variable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def look(url: str, seconds: float, **credentials: object) -> Look:
    """Look for `seconds`; `credentials` are those of `Options`, and `fingerprint`: of the one certificate to trust.

    Without `security` the server is looked at unsecured, or secured with our defaults if a user name is given. Nothing
    is written. Raises NotConnectedError, RefusedError, and ValueError for credentials that `Options` refuses.
    """
    given = dict(credentials)
    trusted = given.pop("fingerprint", None)
    given.setdefault("security", "Basic256Sha256" if given.get("username") else "None")
    options = Options.model_validate(
        {
            "publishing_interval_ms": PUBLISHING_MS,
            "sampling_interval_ms": SAMPLING_MS,
            "queue_size": QUEUE,
            **given,
            "url": url,
        }
    )
    with tempfile.TemporaryDirectory() as own:
        session = Session(options, "look", own)
        try:
            await _open(session, str(trusted or ""), Path(own))
            return await _look(session, options, seconds)
        finally:
            await session.close()


async def _open(session: Session, trusted: str, own: Path) -> None:
    """Nothing outlives a look: whom to trust is said with the command, as a fingerprint."""
    try:
        await session.open()
    except UnknownPeerError as error:
        if error.fingerprint == trusted.replace(":", "").lower():
            Inbox(own, ()).decide(error.fingerprint, "trusted")
            await session.open()
            return
        message = (
            f"the peer's certificate has the SHA-256 fingerprint {error.fingerprint}. "
            f"If the device shows the same, add: --trust {error.fingerprint}"
        )
        raise RefusedError(message) from error


async def _look(session: Session, options: Options, seconds: float) -> Look:
    start = time.monotonic()
    (namespaces,) = await session.read_values([NAMESPACE_ARRAY])
    session.namespaces = list(_value(namespaces) or [])
    product = [str(_value(v) or "") for v in await session.read_values(PRODUCT)]
    tree = await _browse(session)
    await _units(session, tree.variables)
    await _watch(session, options, tree, start + seconds)
    await _show(session, tree.variables)
    offset = await clock_offset(session)
    secured = "unsecured" if options.security == "None" else f"{options.security}, {options.mode}"
    found = tuple(
        Found(
            text_of(v.node, session.namespaces),
            v.name,
            _kind(v.kind),
            v.value,
            v.status,
            v.source_time,
            v.unit,
            v.changes,
        )
        for v in tree.variables
    )
    return Look(
        f"{' '.join(part for part in product if part)} ({secured})",
        found,
        offset,
        time.monotonic() - start,
        session.requests,
        session.bytes_received,
        tuple(tree.notes + _notes(options, tree.variables, offset)),
    )


def _notes(options: Options, variables: Sequence[_Variable], offset: int | None) -> list[str]:
    notes: list[str] = []
    if options.security == "None":
        notes.append("the connection was neither signed nor encrypted")
    if offset is not None and abs(offset) > CLOCK_WRONG_NS:
        notes.append(f"the server's clock is {offset / 1e9:+.1f} s from ours")
    bad = sum(min(v.status >> 30, BAD) == BAD for v in variables)
    if bad:
        notes.append(f"{bad} of {len(variables)} variables are Bad")
    return notes


def _value(found: ua.DataValue) -> Any:  # noqa: ANN401 - whatever a server holds there
    return found.Value.Value if found.Value is not None else None


def _kind(kind: int) -> str:
    name = NAMES[min(kind & TYPE_BITS, len(NAMES) - 1)]
    return f"{name}[]" if kind & ARRAY else name


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


async def _browse(session: Session) -> _Tree:
    """All variables below Objects but those of the server itself, breadth first, within the budget."""
    tree, known, open_nodes = _Tree(), {OBJECTS, SERVER}, deque([(OBJECTS, "", -1)])
    while open_nodes:
        if len(tree.variables) >= MOST_VARIABLES or session.requests >= MOST_REQUESTS:
            tree.notes.append(
                f"the browse was cut off at {len(tree.variables)} variables and {session.requests} requests"
            )
            break
        some = [open_nodes.popleft() for _ in range(min(NODES_PER_BROWSE, len(open_nodes)))]
        for (_, path, parent), references in zip(
            some, await _references(session, [n for n, _, _ in some]), strict=False
        ):
            for reference in references:
                _take(reference, path, parent, tree, known, open_nodes)
    return tree


def _take(
    reference: ua.ReferenceDescription,
    path: str,
    parent: int,
    tree: _Tree,
    known: set[ua.NodeId],
    open_nodes: deque[tuple[ua.NodeId, str, int]],
) -> None:
    node = ua.NodeId(reference.NodeId.Identifier, reference.NodeId.NamespaceIndex, reference.NodeId.NodeIdType)
    name = str(reference.BrowseName.Name)
    if reference.ReferenceTypeId == HAS_PROPERTY:
        if name == "EngineeringUnits" and parent >= 0:
            tree.variables[parent].unit_node = node
        return
    if node in known or len(tree.variables) >= MOST_VARIABLES:
        return
    known.add(node)
    here, mine = f"{path}/{name}" if path else name, -1
    if reference.NodeClass == ua.NodeClass.Variable:
        mine = len(tree.variables)
        tree.variables.append(_Variable(node, here))
    open_nodes.append((node, here, mine))


async def _references(session: Session, nodes: Sequence[ua.NodeId]) -> list[list[ua.ReferenceDescription]]:
    parameters = ua.BrowseParameters()
    for node in nodes:
        wanted = ua.BrowseDescription()
        wanted.NodeId, wanted.ReferenceTypeId, wanted.IncludeSubtypes = node, HIERARCHICAL, True
        wanted.BrowseDirection = ua.BrowseDirection.Forward
        wanted.NodeClassMask, wanted.ResultMask = ua.UInt32(CLASSES), ua.UInt32(FIELDS)
        parameters.NodesToBrowse.append(wanted)
    parameters.RequestedMaxReferencesPerNode = ua.UInt32(1000)
    async with border("browsing"):
        await session.turn()
        results = await session.services.browse(parameters)
        found = [list(result.References or []) for result in results]
        points = [(n, result.ContinuationPoint) for n, result in enumerate(results) if result.ContinuationPoint]
        while points and session.requests < MOST_REQUESTS:
            await session.turn()
            more = await session.services.browse_next(
                ua.BrowseNextParameters(ContinuationPoints=[p for _, p in points])
            )
            for (n, _), result in zip(points, more, strict=True):
                found[n] += result.References or []
            points = [(n, r.ContinuationPoint) for (n, _), r in zip(points, more, strict=True) if r.ContinuationPoint]
    return found


async def _units(session: Session, variables: Sequence[_Variable]) -> None:
    with_unit = [v for v in variables if v.unit_node is not None]
    for some in _chunks(with_unit, VALUES_PER_READ):
        nodes = [v.unit_node for v in some if v.unit_node is not None]
        for variable, found in zip(some, await session.read_values(nodes, AttributeIds.Value), strict=True):
            unit = _value(found)
            if isinstance(unit, ua.EUInformation):
                variable.unit = str(unit.DisplayName.Text or "")


async def _watch(session: Session, options: Options, tree: _Tree, end: float) -> None:
    """Subscribe to every variable until `end`, a monotonic time, and note what comes."""
    if not tree.variables:
        return
    subscription = Subscription(session, options)
    try:
        results = await subscription.create(
            [_item(n, v.node, options) for n, v in enumerate(tree.variables)], VALUES_PER_READ
        )
        for variable, status in zip(tree.variables, results, strict=True):
            variable.status = status
        with suppress(TimeoutError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(end - time.monotonic(), 0)):
                while True:
                    await subscription.ready()
                    for part in subscription.take(MOST_VARIABLES).parts:
                        _note(part, tree.variables)
    finally:
        await subscription.close()


def _item(handle: int, node: ua.NodeId, options: Options) -> ua.MonitoredItemCreateRequest:
    item = ua.MonitoredItemCreateRequest()
    item.ItemToMonitor.NodeId = node
    item.ItemToMonitor.AttributeId = AttributeIds.Value
    item.MonitoringMode = ua.MonitoringMode.Reporting
    item.RequestedParameters.ClientHandle = ua.UInt32(handle)
    item.RequestedParameters.SamplingInterval = options.sampling_interval_ms
    item.RequestedParameters.QueueSize = ua.UInt32(options.queue_size)
    item.RequestedParameters.DiscardOldest = True
    return item


def _note(part: Changes, variables: Sequence[_Variable]) -> None:
    for row, handle in enumerate(part.handles.tolist()):
        if handle < len(variables):
            variable = variables[handle]
            variable.changes += 1
            variable.kind, variable.status = int(part.kinds[row]), int(part.status[row])
            variable.source_time = int(part.source_time[row])
            there = variable.kind or not np.isnan(part.values[row])
            variable.held = part.others.get(row, float(part.values[row])) if there else None


async def _show(session: Session, variables: Sequence[_Variable]) -> None:
    """Write out what each variable holds: structures opened, enumerated values with their names."""
    space = Space(session)
    rows = {n: one.held for n, one in enumerate(variables) if one.held is not None}
    await Structures(space).open(rows, [n for n in rows if variables[n].kind & TYPE_BITS >= STRUCTURE])
    names = await names_of(space, [variables[n].node for n in rows if variables[n].kind & TYPE_BITS == INT32])
    for n, value in rows.items():
        named = names.get(variables[n].node, {})
        plain = int(value) if named and isinstance(value, float) else value
        listed = plain.tolist() if named and isinstance(plain, np.ndarray) else plain
        variables[n].value = shown(listed, named)[:LONGEST_VALUE]
