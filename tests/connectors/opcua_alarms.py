"""Events and alarms of a real asyncua server, as a plant would raise them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from tests.connectors.opcua_plant import URI, Plant, string_node

LEVEL = "液位过高"


@dataclass
class Alarm:
    """One alarm of a tank."""

    plant: Plant
    generator: Any
    name: str

    async def tell(
        self, *, active: bool, acked: bool, retain: bool = True, severity: int = 700, at: datetime | None = None
    ) -> str:
        """Another state of it; returns the id of the event."""
        event = self.generator.event
        event.Retain, event.Severity = retain, severity
        event.Message = ua.LocalizedText(LEVEL, "zh-CN")
        for state, value in (("ActiveState", active), ("AckedState", acked), ("EnabledState", True)):
            setattr(event, f"{state}/Id", value)
        await self.generator.trigger(time_attr=at)
        return str(event.EventId.Value.hex())


async def alarm(plant: Plant, name: str) -> Alarm:
    """An alarm that the server tells of."""
    index = await plant.server.get_namespace_index(URI)
    generator = await plant.server.get_event_generator(ObjectIds.AlarmConditionType, plant.server.nodes.server.nodeid)
    event = generator.event
    event.NodeId, event.ConditionName = string_node(f"{name}.Alarm", index), f"{name} high"
    event.SourceName, event.SourceNode = name, plant.nodes["Level"].nodeid
    event.Quality, event.Comment = ua.StatusCode(), ua.LocalizedText("")
    event.BranchId = ua.NodeId()
    return Alarm(plant, generator, name)


async def tell(plant: Plant, text: str, severity: int = 500, kind: Any = ObjectIds.BaseEventType) -> str:  # noqa: ANN401
    """A plain event; returns its id."""
    generator = await plant.server.get_event_generator(kind, plant.server.nodes.server.nodeid)
    generator.event.Severity = severity
    generator.event.Message = ua.LocalizedText(text, "en")
    await generator.trigger()
    return str(generator.event.EventId.Value.hex())
