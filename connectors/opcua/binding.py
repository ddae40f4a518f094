"""Addresses to NodeIds on the server at hand: by namespace URI, and by browse path where an address is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from connectors import Status
from connectors.opcua.address import Address, local
from connectors.opcua.path import Path
from connectors.opcua.space import halving

if TYPE_CHECKING:
    from connectors.opcua.session import Session

PATHS_AT_ONCE: Final = 500
MOST_PATHS: Final = ua.NodeId(
    ua.Int32(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds)
)
WHOLE: Final = 2**32 - 1
"""RemainingPathIndex of a path that was followed to its end (IEC 62541-4, 5.8.4.2)."""
AMBIGUOUS: Final = int(StatusCodes.BadTooManyMatches)


async def resolve(session: Session, addresses: Sequence[Address | Path]) -> list[ua.NodeId | int]:
    """The node of each address, or the StatusCode that says why there is none. Raises NotConnectedError."""
    found: list[ua.NodeId | int] = [Status.BAD_NODE_ID_UNKNOWN] * len(addresses)
    paths: list[tuple[int, ua.BrowsePath]] = []
    for index, address in enumerate(addresses):
        if isinstance(address, Path):
            path = address.browse_path(session.namespaces)
            if path is not None:
                paths.append((index, path))
        else:
            found[index] = address.node_id(session.namespaces) or Status.BAD_NODE_ID_UNKNOWN
    if paths:
        nodes = await _translate(session, [path for _, path in paths])
        for (index, _), node in zip(paths, nodes, strict=True):
            found[index] = node
    return found


async def _translate(session: Session, paths: Sequence[ua.BrowsePath]) -> list[ua.NodeId | int]:
    (said,) = await session.read_values([MOST_PATHS])
    most = said.Value.Value if said.Value is not None and isinstance(said.Value.Value, int) else 0
    at_once = min(most or PATHS_AT_ONCE, PATHS_AT_ONCE)

    async def ask(some: Sequence[ua.BrowsePath]) -> list[ua.NodeId | int]:
        await session.turn()
        results = await session.services.translate_browsepaths_to_nodeids(list(some))
        return [_target(result, session.namespaces) for result in results]

    return await halving(ask, paths, at_once, "following browse paths")


def _target(result: ua.BrowsePathResult, namespaces: Sequence[str]) -> ua.NodeId | int:
    """The one node a path leads to. A path that leads to several is ambiguous, and no guess is made."""
    whole = (target.TargetId for target in result.Targets or [] if target.RemainingPathIndex == WHOLE)
    nodes = {node for one in whole if (node := local(one, namespaces)) is not None}
    if not nodes:
        return Status.BAD_NODE_ID_UNKNOWN
    return nodes.pop() if len(nodes) == 1 else AMBIGUOUS
