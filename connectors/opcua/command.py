"""Writes and method calls on an OPC UA server (IEC 62541-4, 5.10.4 and 5.11.2): see `connectors._commands`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import get_name_and_doc
from asyncua.ua.uaprotocol_auto import Argument

from connectors import NotConnectedError, RefusedError, Status
from connectors.opcua.address import place
from connectors.opcua.binding import resolve
from connectors.opcua.border import border
from connectors.opcua.enumerations import names_of
from connectors.opcua.exact import ARRAYS, variant
from connectors.opcua.options import Options
from connectors.opcua.session import Session
from connectors.opcua.space import Space, ns0, target, value_of
from connectors.opcua.structures import Structures
from connectors.opcua.values import plain

if TYPE_CHECKING:
    from connectors import ConnectionConfig

HAS_PROPERTY: Final = ns0(ObjectIds.HasProperty)
WRITE: Final = 0x02
"""Bit of an AccessLevel (IEC 62541-3, 8.57)."""
SCALAR: Final = -1
EITHER: Final = frozenset({-3, -2})
"""ValueRanks that leave open whether it is one value or an array (IEC 62541-3, 5.6.2)."""


class OpcUaCommands:
    """See `connectors._commands.Writing` and `Calling`: both on one session."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Nothing is opened yet. Raises ValueError for options that `Options` refuses."""
        self._config = config
        self._options = Options.model_validate(config.options)
        self._session: Session | None = None

    async def connect(self) -> None:
        """See `Writing.connect`."""
        await self.close()
        self._session = Session(self._options, f"{self._config.name} commands", self._config.data_dir)
        try:
            await self._session.open()
            await Space(self._session).open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See `Writing.close`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _space(self) -> Space:
        if self._session is None:
            message = "not connected"
            raise NotConnectedError(message)
        return Space(self._session)

    async def _node(self, space: Space, address: str) -> ua.NodeId:
        (node,) = await resolve(space.session, [place(address)])
        if isinstance(node, int):
            raise _refused(address, node)
        return node

    async def write(self, address: str, value: object) -> None:
        """See `Writing.write`."""
        space = self._space()
        node = await self._node(space, address)
        said = await space.read([
            (node, what) for what in (AttributeIds.DataType, AttributeIds.ValueRank, AttributeIds.UserAccessLevel)
        ])
        datatype, rank, access = (value_of(one) for one in said)
        if not isinstance(datatype, ua.NodeId) or not isinstance(rank, int):
            raise _refused(address, int(said[0].StatusCode.value) if said[0].StatusCode else Status.BAD)
        if isinstance(access, int) and not access & WRITE:
            message = f"{address}: the server does not let us write it"
            raise RefusedError(message)
        made = await self._typed(space, address, datatype, rank, value)
        await self._check_name(space, address, node, value)
        parameters = ua.WriteParameters()
        item = ua.WriteValue()
        item.NodeId, item.AttributeId, item.Value = node, ua.IntegerId(AttributeIds.Value), ua.DataValue(made)
        parameters.NodesToWrite = [item]
        async with border(f"writing {address}"):
            results = await space.session.services.write(parameters)
        code = int(results[0].value)
        if Status.severity(code):
            raise _refused(address, code)

    async def _typed(self, space: Space, address: str, datatype: ua.NodeId, rank: int, value: object) -> ua.Variant:
        """The value in the server's own type."""
        kind = await Structures(space).built_in(datatype)
        try:
            return variant(kind, value, is_array=isinstance(value, ARRAYS) if rank in EITHER else rank != SCALAR)
        except ValueError as error:
            message = f"{address}: {error}"
            raise ValueError(message) from error

    async def _check_name(self, space: Space, address: str, node: ua.NodeId, value: object) -> None:
        """An enumerated value must be one of the enumeration."""
        names = (await names_of(space, [node])).get(node)
        if names and isinstance(value, int) and value not in names:
            message = f"{address}: {value} is none of {', '.join(f'{n} ({name})' for n, name in sorted(names.items()))}"
            raise ValueError(message)

    async def call(self, of: str, method: str, arguments: Sequence[object]) -> tuple[object, ...]:
        """See `Calling.call`."""
        space = self._space()
        node = await self._node(space, method)
        declared = await self._arguments(space, node)
        if len(declared) != len(arguments):
            message = f"{method}: {len(declared)} arguments are wanted, not {len(arguments)}"
            raise ValueError(message)
        request = ua.CallMethodRequest()
        request.ObjectId, request.MethodId = await self._node(space, of), node
        request.InputArguments = [
            await self._typed(space, f"{method}, {one.Name}", one.DataType, int(one.ValueRank), value)
            for one, value in zip(declared, arguments, strict=True)
        ]
        async with border(f"calling {method}"):
            (result,) = await space.session.services.call([request])
        code = int(result.StatusCode.value)
        if Status.severity(code):
            raise _refused(method, code)
        found = {n: plain(one) for n, one in enumerate(result.OutputArguments or [])}
        await Structures(space).open(found, list(found))
        return tuple(found.values())

    async def _arguments(self, space: Space, method: ua.NodeId) -> list[Argument]:
        """What the method declares; nothing where it declares nothing."""
        (seen,) = await space.references([method], HAS_PROPERTY)
        nodes = [target(one) for one in seen.found if one.BrowseName.Name == "InputArguments"]
        said = [value_of(one) for one in await space.read([(node, AttributeIds.Value) for node in nodes])]
        return [one for held in said for one in (held or []) if isinstance(one, Argument)]


def _refused(address: str, code: int) -> RefusedError:
    name, said = get_name_and_doc(code)
    return RefusedError(f"{address}: the server answers {name}: {said}")
