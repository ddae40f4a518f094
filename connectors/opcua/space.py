"""An address space asked in bulk: browse, read and translate within the server's operation limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from connectors.opcua.border import TOO_MUCH, border

if TYPE_CHECKING:
    from connectors.opcua.session import Session

T = TypeVar("T")
R = TypeVar("R")
PER_BROWSE: Final = 100
PER_READ: Final = 1000
PER_ANSWER: Final = 1000
"""References of one node in one answer; more come by continuation point (IEC 62541-4, 7.9)."""
MOST_CHILDREN: Final = 10_000
"""References of one node that are followed at all."""
FIELDS: Final = 0x3F
NO_POINTS: Final = int(StatusCodes.BadNoContinuationPoints)


def ns0(identifier: int) -> ua.NodeId:
    """A node of OPC UA's own namespace."""
    return ua.NodeId(ua.Int32(identifier))


NAMESPACE_ARRAY: Final = ns0(ObjectIds.Server_NamespaceArray)
LIMITS: Final = (
    ns0(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse),
    ns0(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead),
)
HIERARCHICAL: Final = ns0(ObjectIds.HierarchicalReferences)


@dataclass(slots=True)
class References:
    """What one node refers to."""

    found: list[ua.ReferenceDescription] = field(default_factory=list)
    status: int = 0
    """Bad where the server could not say."""
    more: bool = False
    """There is more than was asked for."""


class Space:
    """The address space behind one open session."""

    def __init__(self, session: Session, per_answer: int = PER_ANSWER) -> None:
        """Nothing is asked yet. `per_answer`: references of one node in one answer."""
        self.session = session
        self._per_answer = per_answer
        self._per_browse, self._per_read = PER_BROWSE, PER_READ

    async def open(self) -> None:
        """Learn the namespaces and the limits (IEC 62541-5, 6.3.11). Raises NotConnectedError."""
        namespaces, browse, read = await self.session.read_values([NAMESPACE_ARRAY, *LIMITS])
        self.session.namespaces = list(value_of(namespaces) or [])
        self._per_browse, self._per_read = (
            min(limit, most) if isinstance(limit := value_of(said), int) and limit > 0 else most
            for said, most in ((browse, PER_BROWSE), (read, PER_READ))
        )

    async def references(
        self,
        nodes: Sequence[ua.NodeId],
        kind: ua.NodeId = HIERARCHICAL,
        *,
        classes: int = 0,
        inverse: bool = False,
    ) -> list[References]:
        """All references of this kind, up to `MOST_CHILDREN` for each node."""
        wanted = _wanted(kind, classes, inverse=inverse)
        found = await self._browse(nodes, wanted, self._per_answer, MOST_CHILDREN)
        # A server with few continuation points has none left for some of the nodes: now it has.
        for index in [n for n, one in enumerate(found) if one.status == NO_POINTS]:
            (found[index],) = await self._browse([nodes[index]], wanted, self._per_answer, MOST_CHILDREN)
        return found

    async def peek(self, nodes: Sequence[ua.NodeId], classes: int, most: int) -> list[References]:
        """The first few references of each node, and whether there are more."""
        found = await self._browse(nodes, _wanted(HIERARCHICAL, classes), most, most)
        for one in found:
            if one.status == NO_POINTS:
                one.status, one.more = 0, True
        return found

    async def _browse(
        self, nodes: Sequence[ua.NodeId], wanted: Callable[[ua.NodeId], ua.BrowseDescription], at_once: int, most: int
    ) -> list[References]:
        async def ask(some: Sequence[ua.NodeId]) -> list[References]:
            parameters = ua.BrowseParameters()
            parameters.NodesToBrowse = [wanted(node) for node in some]
            parameters.RequestedMaxReferencesPerNode = ua.UInt32(at_once)
            await self.session.turn()
            return await self._whole(await self.session.services.browse(parameters), most)

        return await halving(ask, nodes, self._per_browse, "browsing")

    async def _whole(self, results: Sequence[ua.BrowseResult], most: int) -> list[References]:
        """Answers with what comes by continuation point; points that are not followed are given back."""
        found = [References(list(r.References or []), int(r.StatusCode.value)) for r in results]
        points = {n: r.ContinuationPoint for n, r in enumerate(results) if r.ContinuationPoint}
        for one in found:
            # Some servers send more than they were asked for.
            one.more = len(one.found) > most
            del one.found[most:]
        while points:
            going = {n: point for n, point in points.items() if len(found[n].found) < most}
            await self._release([point for n, point in points.items() if n not in going])
            for n in points.keys() - going.keys():
                found[n].more = True
            points = await self._next(going, found) if going else {}
        return found

    async def _next(self, points: dict[int, bytes], found: list[References]) -> dict[int, bytes]:
        await self.session.turn()
        results = await self.session.services.browse_next(
            ua.BrowseNextParameters(ReleaseContinuationPoints=False, ContinuationPoints=list(points.values()))
        )
        left = {}
        for n, result in zip(points, results, strict=True):
            found[n].found += result.References or []
            if not result.StatusCode.is_good():
                found[n].status = int(result.StatusCode.value)
            elif result.ContinuationPoint:
                left[n] = result.ContinuationPoint
        return left

    async def _release(self, points: list[bytes]) -> None:
        if points:
            await self.session.turn()
            await self.session.services.browse_next(
                ua.BrowseNextParameters(ReleaseContinuationPoints=True, ContinuationPoints=points)
            )

    async def read(
        self, wanted: Sequence[tuple[ua.NodeId, AttributeIds]], *, times: bool = False
    ) -> list[ua.DataValue]:
        """One attribute of each, in order; with their source times if asked for."""

        async def ask(some: Sequence[tuple[ua.NodeId, AttributeIds]]) -> list[ua.DataValue]:
            parameters = ua.ReadParameters()
            parameters.TimestampsToReturn = ua.TimestampsToReturn.Source if times else ua.TimestampsToReturn.Neither
            parameters.NodesToRead = [ua.ReadValueId(node, ua.IntegerId(attribute)) for node, attribute in some]
            await self.session.turn()
            found: list[ua.DataValue] = await self.session.services.read(parameters)
            return found

        return await halving(ask, wanted, self._per_read, "reading")


async def halving(
    ask: Callable[[Sequence[T]], Awaitable[list[R]]], items: Sequence[T], size: int, doing: str
) -> list[R]:
    """Ask for `size` at once, for fewer where the server says that this is too much for one answer."""
    found: list[R] = []
    async with border(doing):
        while len(found) < len(items):
            some = items[len(found) : len(found) + size]
            try:
                found += await ask(some)
            except UaStatusCodeError as error:
                if error.code not in TOO_MUCH or len(some) == 1:
                    raise
                size = len(some) // 2
    return found


def _wanted(kind: ua.NodeId, classes: int, *, inverse: bool = False) -> Callable[[ua.NodeId], ua.BrowseDescription]:
    def describe(node: ua.NodeId) -> ua.BrowseDescription:
        wanted = ua.BrowseDescription()
        wanted.NodeId, wanted.ReferenceTypeId, wanted.IncludeSubtypes = node, kind, True
        wanted.BrowseDirection = ua.BrowseDirection.Inverse if inverse else ua.BrowseDirection.Forward
        wanted.NodeClassMask, wanted.ResultMask = ua.UInt32(classes), ua.UInt32(FIELDS)
        return wanted

    return describe


def value_of(found: ua.DataValue) -> Any:  # noqa: ANN401 - whatever a server holds there
    """The value, None where there is none or it is Bad."""
    return found.Value.Value if found.Value is not None else None


def target(reference: ua.ReferenceDescription) -> ua.NodeId:
    """The node a reference leads to, on this server."""
    node = reference.NodeId
    return ua.NodeId(node.Identifier, node.NamespaceIndex, node.NodeIdType)
