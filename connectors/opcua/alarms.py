"""Events and conditions of a server (IEC 62541-9): asked for, refreshed, and made into events of the contract.

Nothing here acknowledges, confirms or comments: what an operator does to an alarm of the plant is done at the plant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes, get_name_and_doc
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaStatusCodeError

from connectors import NO_TIME, ConnectorError, Refusal, Status
from connectors._events import ConditionState, PlantEvent
from connectors.opcua.address import place, text_of
from connectors.opcua.binding import resolve
from connectors.opcua.border import border
from connectors.opcua.decode import unix_ns_of_value
from connectors.opcua.monitored import Monitored
from connectors.opcua.polling import Polling
from connectors.opcua.space import Space, ns0, target
from connectors.opcua.variant import Text

if TYPE_CHECKING:
    from connectors.opcua.notification import EventFields
    from connectors.opcua.options import EventOptions
    from connectors.opcua.session import Session
    from connectors.opcua.subscription import Subscription

BAD: Final = 2
"""Severity, the top two bits of a StatusCode."""
HANDLES: Final = 2**31
"""Client handles of event items begin here; those of tags count from 0."""
BASE: Final = ns0(ObjectIds.BaseEventType)
CONDITION: Final = ns0(ObjectIds.ConditionType)
ACKNOWLEDGEABLE: Final = ns0(ObjectIds.AcknowledgeableConditionType)
ALARM: Final = ns0(ObjectIds.AlarmConditionType)
REFRESH: Final = ns0(ObjectIds.ConditionType_ConditionRefresh)
HAS_SUBTYPE: Final = ns0(ObjectIds.HasSubtype)
REFRESH_REQUIRED: Final = ns0(ObjectIds.RefreshRequiredEventType)
MARKS: Final = frozenset({ns0(ObjectIds.RefreshStartEventType), ns0(ObjectIds.RefreshEndEventType)})
OVERFLOW: Final = ns0(ObjectIds.EventQueueOverflowEventType)
MOST_TYPES: Final = 2000
"""Subtypes of the chosen event types that are followed."""
LONGEST: Final = 2000
"""Characters of a text of an event."""
FIELDS: Final[tuple[tuple[str, ua.NodeId, tuple[str, ...]], ...]] = (
    ("event_id", BASE, ("EventId",)),
    ("type", BASE, ("EventType",)),
    ("source_node", BASE, ("SourceNode",)),
    ("source", BASE, ("SourceName",)),
    ("time", BASE, ("Time",)),
    ("receive_time", BASE, ("ReceiveTime",)),
    ("message", BASE, ("Message",)),
    ("severity", BASE, ("Severity",)),
    ("condition", CONDITION, ()),
    ("name", CONDITION, ("ConditionName",)),
    ("branch", CONDITION, ("BranchId",)),
    ("retain", CONDITION, ("Retain",)),
    ("enabled", CONDITION, ("EnabledState", "Id")),
    ("quality", CONDITION, ("Quality",)),
    ("comment", CONDITION, ("Comment",)),
    ("acked", ACKNOWLEDGEABLE, ("AckedState", "Id")),
    ("confirmed", ACKNOWLEDGEABLE, ("ConfirmedState", "Id")),
    ("active", ALARM, ("ActiveState", "Id")),
)
"""What is asked for of each event: our name, the type that has it, its browse path; without a path the NodeId."""


class Alarms:
    """The event items of one subscription."""

    def __init__(self, options: EventOptions, url: str) -> None:
        """Nothing is asked yet."""
        self._options = options
        self._url = url
        self._types: frozenset[ua.NodeId] | None = None
        self._refresh = False
        self.notes: tuple[str, ...] = ()
        """What the operator should know."""

    async def begin(self, session: Session, feed: Subscription | Polling, at_once: int, *, resumed: bool) -> None:
        """Have the events reported, unless the resumed subscription has them already, and ask for present states.

        Raises NotConnectedError. What the server refuses is said in `notes`: readings are worth having without events.
        """
        self.notes, self._refresh = (), False
        if isinstance(feed, Polling):
            self.notes = ("no events: they come with a subscription, and this server is polled",)
            return
        try:
            self._types = await self._chosen(session) if self._options.types else None
            if not resumed:
                await self._subscribe(session, feed, at_once)
        except ConnectorError as error:
            if not isinstance(error.__cause__, UaStatusCodeError):
                raise
            self.notes += (f"no events: {error}",)
            return
        self._refresh = True
        await self.refreshed(session, feed)

    async def _chosen(self, session: Session) -> frozenset[ua.NodeId]:
        """The chosen event types with all their subtypes: a server's own test of types may leave those out."""
        space, found = Space(session), dict[ua.NodeId, None]()
        resolved = await resolve(session, [place(text) for text in self._options.types])
        going = [one for one in resolved if not isinstance(one, int)]
        if len(going) < len(self._options.types):
            self.notes += ("an event type that is asked for is not known to the server: see `events.types`",)
        while going and len(found) < MOST_TYPES:
            found |= dict.fromkeys(going)
            below = await space.references(going, HAS_SUBTYPE)
            going = [kind for seen in below for one in seen.found if (kind := target(one)) not in found]
        return frozenset(found)

    async def _subscribe(self, session: Session, subscription: Subscription, at_once: int) -> None:
        places = await resolve(session, [place(text) for text in self._options.notifiers])
        nodes = {n: node for n, node in enumerate(places) if not isinstance(node, int)}
        items = Monitored(session)
        items.subscription = subscription.id
        results = await items.create([self._item(n, node) for n, node in nodes.items()], at_once)
        wrong = {n: code for n, code in enumerate(places) if isinstance(code, int)}
        wrong |= {n: code for n, code in zip(nodes, results, strict=True) if Status.severity(code) == BAD}
        for n, code in sorted(wrong.items()):
            name, said = get_name_and_doc(code)
            self.notes += (f"no events of {self._options.notifiers[n]}: the server answers {name}: {said}",)

    def _item(self, index: int, node: ua.NodeId) -> ua.MonitoredItemCreateRequest:
        item = ua.MonitoredItemCreateRequest()
        item.ItemToMonitor.NodeId, item.ItemToMonitor.AttributeId = node, AttributeIds.EventNotifier
        item.MonitoringMode = ua.MonitoringMode.Reporting
        item.RequestedParameters.ClientHandle = ua.UInt32(HANDLES + index)
        item.RequestedParameters.SamplingInterval = 0
        item.RequestedParameters.QueueSize = ua.UInt32(self._options.queue_size)
        item.RequestedParameters.DiscardOldest = True
        item.RequestedParameters.Filter = _filter(self._options.severity)
        return item

    async def refreshed(self, session: Session, subscription: Subscription | Polling) -> None:
        """Ask for the present state of every condition, if that is due (IEC 62541-9, 5.5.7)."""
        if not self._refresh or isinstance(subscription, Polling):
            return
        call = ua.CallMethodRequest()
        call.ObjectId, call.MethodId = CONDITION, REFRESH
        call.InputArguments = [ua.Variant(subscription.id, ua.VariantType.UInt32)]
        request = ua.CallRequest()
        request.Parameters.MethodsToCall = [call]
        try:
            async with border("asking for the states of conditions"):
                answer = struct_from_binary(ua.CallResponse, await session.request(request))
                answer.ResponseHeader.ServiceResult.check()
                code = int(answer.Results[0].StatusCode.value)
        except ConnectorError as error:
            if not isinstance(error.__cause__, UaStatusCodeError):
                raise
            code = int(error.__cause__.code)
        # Only now: a read that is cancelled while it asks is begun again, and asks again.
        self._refresh = False
        if Status.severity(code) == BAD and code != StatusCodes.BadRefreshInProgress:
            why = get_name_and_doc(code)[0]
            note = f"the server does not tell the present state of its alarms ({why}): only changes are known"
            self.notes = tuple(dict.fromkeys((*self.notes, note)))

    def events(
        self, arrived: Sequence[EventFields], namespaces: Sequence[str], now: int
    ) -> tuple[tuple[PlantEvent, ...], tuple[Refusal, ...]]:
        """Events of the contract, and what could not become one. `now`: ns, when they were received."""
        found: list[PlantEvent] = []
        overflows = broken = 0
        for one in arrived:
            if len(one.values) != len(FIELDS):
                broken += 1
                continue
            said = dict(zip((name for name, _, _ in FIELDS), one.values, strict=True))
            kind = _node(said["type"])
            self._refresh |= kind == REFRESH_REQUIRED
            overflows += kind == OVERFLOW
            if kind in MARKS or kind in (REFRESH_REQUIRED, OVERFLOW) or not self._is_wanted(kind, said["severity"]):
                continue
            found.append(_event(said, namespaces, now))
        return tuple(found), self._lost(overflows, broken)

    def _is_wanted(self, kind: ua.NodeId | None, severity: object) -> bool:
        """A server that knows no filter is held to ours."""
        if self._types is not None and kind not in self._types:
            return False
        return not isinstance(severity, int) or severity >= self._options.severity

    def _lost(self, overflows: int, broken: int) -> tuple[Refusal, ...]:
        """No reading is lost with an event: these count in no balance, and stand among the dead letters."""
        lost = []
        if overflows:
            why = f"the server's queue of events ran over {overflows} times: raise `events.queue_size` or the severity"
            lost.append(Refusal(self._url, "events_lost", why, readings=0))
        if broken:
            why = f"{broken} events without the fields that were asked for"
            lost.append(Refusal(self._url, "event_undecodable", why, readings=0))
        return tuple(lost)


def _filter(severity: int) -> ua.EventFilter:
    """What is asked for of each event, from this severity on (IEC 62541-4, 7.22.3)."""
    wanted = ua.EventFilter()
    wanted.SelectClauses = [_operand(kind, path) for _, kind, path in FIELDS]
    if severity > 1:
        element = ua.ContentFilterElement()
        element.FilterOperator = ua.FilterOperator.GreaterThanOrEqual
        element.FilterOperands = [
            _operand(BASE, ("Severity",)),
            ua.LiteralOperand(Value=ua.Variant(severity, ua.VariantType.UInt16)),
        ]
        wanted.WhereClause.Elements = [element]
    return wanted


def _operand(kind: ua.NodeId, path: Collection[str]) -> ua.SimpleAttributeOperand:
    operand = ua.SimpleAttributeOperand()
    operand.TypeDefinitionId = kind
    operand.BrowsePath = [ua.QualifiedName(name, 0) for name in path]
    operand.AttributeId = ua.UInt32(AttributeIds.Value if path else AttributeIds.NodeId)
    return operand


def _event(said: Mapping[str, object], namespaces: Sequence[str], now: int) -> PlantEvent:
    time = unix_ns_of_value(said["time"])
    message = said["message"]
    return PlantEvent(
        _identity(said),
        _address(said["type"], namespaces),
        _address(said["source_node"], namespaces),
        _text(said["source"]),
        now if time == NO_TIME else time,
        unix_ns_of_value(said["receive_time"]),
        {message.locale: message.text[:LONGEST]} if isinstance(message, Text) else {},
        severity if isinstance(severity := said["severity"], int) else 0,
        _condition(said, namespaces),
    )


def _condition(said: Mapping[str, object], namespaces: Sequence[str]) -> ConditionState | None:
    """The condition of an event, if it is of one: then it has a name, and usually an id."""
    if not said["name"] and not said["condition"]:
        return None
    quality = said["quality"]
    return ConditionState(
        _address(said["condition"], namespaces),
        _text(said["name"]),
        _address(said["branch"], namespaces),
        said["retain"] is True,
        _state(said["enabled"]),
        _state(said["acked"]),
        _state(said["confirmed"]),
        _state(said["active"]),
        quality if isinstance(quality, int) else Status.GOOD,
        _text(said["comment"]),
    )


def _state(said: object) -> bool | None:
    return said if isinstance(said, bool) else None


def _identity(said: Mapping[str, object]) -> str:
    """The EventId; of a server that gives none, a digest of all it says."""
    given = said["event_id"]
    if isinstance(given, bytes) and given:
        return given.hex() if len(given) <= 64 else hashlib.sha256(given).hexdigest()  # noqa: PLR2004 - bytes of any digest
    return hashlib.sha256(repr(sorted(said.items(), key=lambda one: one[0])).encode()).hexdigest()


def _node(said: object) -> ua.NodeId | None:
    return ua.NodeId.from_string(said) if isinstance(said, str) else None


def _address(said: object, namespaces: Sequence[str]) -> str:
    """A NodeId by namespace URI; empty for a null one."""
    node = _node(said)
    return "" if node is None or node == ua.NodeId() else text_of(node, namespaces)[:LONGEST]


def _text(said: object) -> str:
    if isinstance(said, Text):
        return said.text[:LONGEST]
    return said[:LONGEST] if isinstance(said, str) else ""
