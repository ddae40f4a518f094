"""An alarm of the plant's own server is found in the API and on the broker under one id, once, whatever breaks."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
import pytest
from asyncua import ua
from paho.mqtt.enums import CallbackAPIVersion

from app.selftest.gate import Gate
from tests.connectors.opcua_alarms import LEVEL, alarm
from tests.connectors.opcua_plant import opcua_plant
from tests.journeys.test_configuration import apply
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.launcher.servers import Broker
    from tests.journeys.box import Box

pytestmark = pytest.mark.asyncio(loop_scope="session")

TANKS = """\
  - name: tanks
    connector: opcua
    options: {{url: "{url}", security: None, publishing_interval_ms: 50, timeout_s: 3, events: {{severity: 100}}}}
"""


@contextmanager
def listening(broker: Broker, topics: str) -> Iterator[list[dict[str, Any]]]:
    """Bodies of what arrives on these topics, as they arrive."""
    heard: list[dict[str, Any]] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="journey-alarms")
    client.on_message = lambda _client, _data, message: heard.append(json.loads(message.payload))
    client.on_connect = lambda client, *_: client.subscribe(topics, qos=1)
    client.username_pw_set(broker.user, broker.password)
    client.connect(broker.host, broker.port)
    client.loop_start()
    yield heard
    client.disconnect()
    client.loop_stop()


async def test_one_id_from_the_plant_to_every_consumer(box: Box, tmp_path: Path) -> None:
    """Raised, acknowledged at the plant, cleared over an outage: each state once, in the API and on the broker."""
    none = [ua.SecurityPolicyType.NoSecurity]
    async with opcua_plant(tmp_path, none, conditions=True) as plant:
        gate = Gate(plant.host, plant.port)
        await gate.start()
        high = await alarm(plant, "Tank7")
        before = await high.tell(active=True, acked=False)
        text = box.plant.read_text(encoding="utf-8")
        file = box.data / "alarms.yaml"
        url = f"opc.tcp://127.0.0.1:{gate.port}/tests"
        file.write_text(text.replace("\ntags:\n", TANKS.format(url=url) + "\ntags:\n", 1), encoding="utf-8")
        with listening(box.broker, "headrace/+/+/+/tanks/event/#") as heard:
            await apply(box, file)

            async def stored() -> list[str]:
                found = await box.items("/events", source="plant", connection="tanks")
                return [one["plant"]["event_id"] for one in reversed(found)]

            await wait_for(stored, 60, "the alarm that was active before we came")
            seen = await high.tell(active=True, acked=True)
            await wait_for(lambda: _has(stored, seen), 30, "its acknowledgement")
            await gate.cut()
            over = await high.tell(active=False, acked=True, retain=True)
            await gate.start()
            await wait_for(lambda: _has(stored, over), 60, "what happened while the connection was cut")
            await wait_for(lambda: len(heard) >= 3, 30, "all of it on the broker")
            assert await stored() == [before, seen, over]
            rows = {one["plant"]["event_id"]: one for one in await box.items("/events", source="plant")}
            assert [(one["id"], one["data"]["peer_event_id"]) for one in heard] == [
                (rows[one]["id"], one) for one in (before, seen, over)
            ]
        first = rows[before]
        assert (first["message"], first["state"], first["connection"]) == ({"zh-CN": LEVEL}, "unack_active", "tanks")
        assert not await box.items("/events", source="plant", state="unack_active")
        answer = await box.api.post(f"/api/v1/events/{first['id']}/acknowledge", json={})
        assert answer.status_code == 409
        fates = {one["reason"]: one["readings"] for one in (await box.account("tanks")).get("reasons", [])}
        assert fates.get("stored") == 3
        assert (await box.get("/ledger"))["balanced"]
        await gate.cut()
    await apply(box, box.plant)


async def _has(stored: Any, wanted: str) -> bool:  # noqa: ANN401 - a coroutine function
    return wanted in await stored()
