"""The plant's OPC UA server (IEC 62541): measurements with units, source times and status, writable fault switches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.common.callback import Callback, CallbackType, ServerItemCallback
from asyncua.common.utils import ServiceError
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from examples.ownlog import OwnLog, Scalar, stamp
from examples.tep.tags import FAULTS, HOUR, IDV, SPEED, XMEAS, XMV, Unit

if TYPE_CHECKING:
    from asyncua.common.node import Node

NAMESPACE: Final = "urn:headrace:examples:tep"
PATH: Final = "/headrace/tep"
UNECE: Final = "http://www.opcfoundation.org/UA/units/un/cefact"
SPEED_MIN: Final = 1.0
SPEED_MAX: Final = 1000.0
GOOD: Final = 0
UNCERTAIN: Final = 0x40930000
"""UncertainSensorNotAccurate."""
BAD: Final = 0x808C0000
"""BadSensorFailure."""

KEPT: Final = timedelta(minutes=15)
"""How long the server's own history goes back: a gateway that was away asks for what it missed."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Point:
    """One variable of the server."""

    name: str
    folder: str
    initial: bool | float | str
    kind: ua.VariantType
    unit: Unit | None = None
    description: str = ""
    writable: bool = False


POINTS: Final = (
    *(Point(t.name, "Measurements", 0.0, ua.VariantType.Double, t.unit, t.description) for t in XMEAS),
    *(Point(t.name, "Manipulated", 0.0, ua.VariantType.Double, t.unit, t.description) for t in XMV),
    *(
        Point(name, "Faults", False, ua.VariantType.Boolean, None, text, writable=True)  # noqa: FBT003 - a value
        for name, text in zip(IDV, FAULTS, strict=True)
    ),
    Point("SimTime", "Plant", 0.0, ua.VariantType.Double, HOUR, "Plant time since the last start"),
    Point("Speed", "Plant", 0.0, ua.VariantType.Double, SPEED, "Plant seconds per wall second", writable=True),
    Point("PlantState", "Plant", "RUNNING", ua.VariantType.String, None, "RUNNING or TRIPPED"),
    Point("TripMessage", "Plant", "", ua.VariantType.String, None, "Why the plant tripped last"),
    Point("Trips", "Plant", 0, ua.VariantType.Int32, None, "Trips since the process was started"),
)
_KINDS: Final = {point.name: point.kind for point in POINTS}
_WRITABLE: Final = frozenset(point.name for point in POINTS if point.writable)

Switched = Callable[[str, bool | float], None]


class PlantServer:
    """An OPC UA server with the plant's variables. Values are written only when value or status has changed."""

    def __init__(self, host: str, port: int, log: OwnLog, switched: Switched) -> None:
        """`switched` is told each writable variable a client has set, by name; nothing is opened yet."""
        self.url = f"opc.tcp://{host}:{port}{PATH}"
        self._server = Server()
        self._log = log
        self._switched = switched
        self._last: dict[str, tuple[Scalar, int]] = {}
        self._nodes: dict[str, ua.NodeId] = {}
        self._names: dict[ua.NodeId, str] = {}

    async def start(self, speed: float) -> None:
        """Build the address space and listen. Raises OSError if the port is taken."""
        await self._server.init()
        self._server.set_endpoint(self.url)
        self._server.set_server_name("Tennessee Eastman plant")
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await self._server.register_namespace(NAMESPACE)
        root = await self._server.nodes.objects.add_object(_node_id("TEP", index), f"{index}:TEP")
        folders = {
            name: await root.add_folder(_node_id(name, index), f"{index}:{name}")
            for name in dict.fromkeys(point.folder for point in POINTS)
        }
        for point in POINTS:
            await self._add(folders[point.folder], index, point)
            await self.write(point.name, speed if point.name == "Speed" else point.initial, GOOD, stamp())
        kept = [self._server.get_node(one) for one in self._nodes.values()]
        await self._server.historize_node_data_change(kept, KEPT)
        self._server.subscribe_server_callback(CallbackType.PreWrite, self._before_write)
        self._server.subscribe_server_callback(CallbackType.PostWrite, self._after_write)
        await self._server.start()

    async def _add(self, folder: Node, index: int, point: Point) -> None:
        """Add one variable with its description, unit and access."""
        node = await folder.add_variable(
            _node_id(point.name, index), f"{index}:{point.name}", point.initial, point.kind
        )
        self._nodes[point.name] = node.nodeid
        self._names[node.nodeid] = point.name
        await node.write_attribute(AttributeIds.Description, _text(point.description))
        if point.unit is not None:
            await node.add_property(0, "EngineeringUnits", _unit(point.unit))
        if point.writable:
            await node.set_writable()

    async def stop(self) -> None:
        """Close every session and the listener."""
        await self._server.stop()

    async def write(self, name: str, value: Scalar, status: int, time_ns: int) -> None:
        """Publish a value if it or its status has changed; a Bad one is published as null."""
        shown = None if status == BAD else value
        if self._last.get(name) == (shown, status):
            return
        self._last[name] = (shown, status)
        variant = ua.Variant(None, ua.VariantType.Null) if shown is None else ua.Variant(shown, _KINDS[name])
        time = _datetime(time_ns)
        await self._server.write_attribute_value(
            self._nodes[name],
            ua.DataValue(variant, ua.StatusCode(ua.UInt32(status)), time, time),  # type: ignore[arg-type]
        )
        self._log.write(name, time_ns, shown, status)

    def _before_write(self, event: Callback, _: object) -> None:
        """Check what a client writes to a switch, and stamp it with the plant's time. Raises ServiceError."""
        if not isinstance(event, ServerItemCallback):
            return
        for item in event.request_params.NodesToWrite:
            name = self._names.get(item.NodeId)
            if name in _WRITABLE and item.AttributeId == AttributeIds.Value:
                _check_switch(name, item.Value)
                time = _datetime(stamp())
                item.Value = replace(
                    item.Value, StatusCode=ua.StatusCode(ua.UInt32(GOOD)), SourceTimestamp=time, SourcePicoseconds=None
                )

    def _after_write(self, event: Callback, _: object) -> None:
        """Tell the plant what a client has switched."""
        if not isinstance(event, ServerItemCallback):
            return
        for item, result in zip(event.request_params.NodesToWrite, event.response_params, strict=True):
            name = self._names.get(item.NodeId)
            if name in _WRITABLE and item.AttributeId == AttributeIds.Value and result.is_good():
                value = item.Value.Value.Value
                if self._last.get(name) != (value, GOOD):
                    self._last[name] = (value, GOOD)
                    self._log.write(name, _ns(item.Value.SourceTimestamp), value, GOOD)
                self._switched(name, value)


def _check_switch(name: str, value: ua.DataValue) -> None:
    """Refuse what no switch can take: ServiceError with BadTypeMismatch or BadOutOfRange."""
    variant = value.Value
    if variant is None or variant.VariantType != _KINDS[name] or variant.is_array:
        raise ServiceError(StatusCodes.BadTypeMismatch)
    if name == "Speed" and not SPEED_MIN <= variant.Value <= SPEED_MAX:
        raise ServiceError(StatusCodes.BadOutOfRange)


def _unit(unit: Unit) -> ua.EUInformation:
    """The unit as OPC UA writes it (IEC 62541-8, 5.6.4.3)."""
    return ua.EUInformation(
        NamespaceUri=UNECE if unit.code else NAMESPACE,
        UnitId=ua.Int32(unit.id),
        DisplayName=ua.LocalizedText(unit.text),
        Description=ua.LocalizedText(unit.text),
    )


def _node_id(name: str, index: int) -> ua.NodeId:
    """A string NodeId of our namespace."""
    return ua.NodeId(ua.String(name), ua.Int16(index))


def _text(text: str) -> ua.DataValue:
    """A text as the value of an attribute."""
    return ua.DataValue(ua.Variant(ua.LocalizedText(text), ua.VariantType.LocalizedText))


def _datetime(time_ns: int) -> datetime:
    """A time of whole milliseconds as asyncua takes it."""
    return _EPOCH + timedelta(milliseconds=time_ns // 1_000_000)


def _ns(time: datetime) -> int:
    """The inverse of `_datetime`."""
    return (time - _EPOCH) // timedelta(milliseconds=1) * 1_000_000
