"""A fault in the plant is one alarm on every way north, under one prediction id."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from asyncua import ua
from asyncua.client.client import Client

from tests.examples.peers import Listener
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.journeys.box import Box

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAULT = "IDV_04"
NORTH = "urn:headrace:north"
EVENT = "Headrace/tep/tep-faults/events/plant-fault"


async def switch(url: str, fault: str, *, on: bool) -> None:
    """Throw a fault switch of the plant, as an operator's client does."""
    async with Client(url) as client:
        index = await client.get_namespace_index("urn:headrace:examples:tep")
        node = client.get_node(f"ns={index};s={fault}")
        await node.write_value(ua.DataValue(ua.Variant(on, ua.VariantType.Boolean)))


async def shown(url: str, path: str) -> object:
    """The value of a node of the gateway's own server; None while there is none."""
    async with Client(url) as client:
        index = await client.get_namespace_index(NORTH)
        found = await client.get_node(f"ns={index};s={path}").read_data_value(raise_on_bad_status=False)
        return None if found.Value is None else found.Value.Value


def raised(listener: Listener, rule: str) -> list[dict[str, Any]]:
    """The events this rule raised among what has arrived since the last look, each with its `topic`."""
    found = []
    while not listener.messages.empty():
        topic, payload = listener.messages.get_nowait()
        event = json.loads(payload)
        if topic.endswith(f"/event/{rule}") and event["type"] == "com.headrace.event.raised":
            found.append({**event, "topic": topic})
    return found


async def test_a_fault_reaches_mqtt_rest_and_opcua_under_one_prediction_id(box: Box) -> None:
    """IDV_04 switched on over OPC UA is an alarm on MQTT, in REST and as a node, and its prediction has a passport."""
    await wait_for(lambda: box.items("/predictions", pipeline="tep-faults", refused=False), 60, "a first prediction")
    with closing(Listener(box.broker, "headrace/#")) as listener:
        await switch(box.plant_url, FAULT, on=True)
        try:
            event, *others = await wait_for(lambda: raised(listener, "plant-fault"), 60, "the alarm on MQTT")
        finally:
            await switch(box.plant_url, FAULT, on=False)
    assert others == []
    assert event["topic"] == "headrace/example/works/reaction/tep/event/plant-fault"
    assert event["specversion"] == "1.0"
    data = event["data"]
    listed = {one["id"]: one for one in await box.items("/events", pipeline="tep-faults")}
    assert listed[data["event_id"]]["prediction_id"] == data["prediction_id"]
    assert listed[data["event_id"]]["rule"] == "plant-fault"
    assert listed[data["event_id"]]["message"]["zh-CN"].startswith("装置偏离正常")

    async def node_tells() -> bool:
        return bool(await shown(box.north_url, f"{EVENT}/prediction_id") == data["prediction_id"])

    await wait_for(node_tells, 20, "the prediction's id as a node")
    found = await box.get(f"/predictions/{data['prediction_id']}")
    assert found["pipeline"] == "tep-faults"
    assert found["quality"] in {"Good", "Uncertain"}
    assert found["outputs"]["score"] > 1.0
    assert found["outputs"]["score"] == pytest.approx(data["value"])
    passport = found["passport"]
    assert passport["model_digest"].startswith("sha256:")
    assert passport["input_digest"].startswith("sha256:")
    assert passport["start"] < passport["newest"] <= passport["end"] < passport["created"]
    assert passport["nodes_on_device"] == passport["nodes"] > 0
    assert passport["latency_ms"] > 0
