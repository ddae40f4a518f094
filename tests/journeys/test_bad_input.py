"""What cannot be a reading is a dead letter with its reason, counted as refused, and stops nothing else."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from app import times
from tests.waiting import wait_for, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.launcher.servers import Broker
    from tests.journeys.box import Box

pytestmark = pytest.mark.asyncio(loop_scope="session")

TANK = "yard/tank"
NOTE = "yard/note"
NEAR_THE_LIMIT = (1 << 20) - 100
BEYOND_IT = 5 << 20


def _tank(level: str, flow: str = "1.5", quality: str = '"Good"', when: int | None = None) -> bytes:
    now = time.time_ns() // 1_000_000 if when is None else when
    return f'{{"t": {now}, "quality": {quality}, "level": {level}, "flow": {flow}}}'.encode()


@contextmanager
def publisher(broker: Broker) -> Iterator[Callable[[str, bytes], None]]:
    """Publishes at QoS 1 and returns when the broker has it, or has cut the line."""
    gone: list[bool] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="journey-yard")
    client.on_disconnect = lambda *_: gone.append(True)
    client.username_pw_set(broker.user, broker.password)
    client.connect(broker.host, broker.port)
    client.loop_start()

    def publish(topic: str, payload: bytes) -> None:
        sent = client.publish(topic, payload, qos=1)
        wait_until(lambda: sent.is_published() or gone, 20, f"{len(payload)} bytes are published")
        if gone:
            raise ConnectionError

    yield publish
    client.disconnect()
    client.loop_stop()


async def balanced(box: Box, connection: str, read: int) -> dict[str, Any]:
    """The account of a connection once so many readings are in it and none is held. TimeoutError."""

    async def at_rest() -> dict[str, Any] | None:
        account = await box.account(connection)
        return account if account and account["read"] >= read and not account["held"] else None

    found = await wait_for(at_rest, 30, f"{read} readings of {connection} in the ledger")
    assert found is not None
    return found


def _reasons(account: dict[str, Any]) -> dict[str, int]:
    return {one["reason"]: one["readings"] for one in account["reasons"] if one["fate"] == "refused"}


BAD = (
    (TANK, b'{"t": 1, "level": ', "broken_json", 2),
    (TANK, '{"t": 1, "备注": "液位"}'.encode("gbk"), "wrong_charset", 2),
    (TANK, _tank("NaN"), "broken_json", 2),
    (TANK, b"x" * NEAR_THE_LIMIT, "broken_json", 2),
    (TANK, b'{"a":' * 200_000, "broken_json", 2),
    (TANK, _tank('"high"'), "wrong_type", 1),
    (TANK, _tank("true"), "wrong_type", 1),
    (TANK, _tank("null"), "missing_value", 1),
    (TANK, _tank("1", quality='"splendid"'), "unknown_quality", 2),
    (TANK, b'{"t": "yesterday", "quality": "Good", "level": 1, "flow": 2}', "bad_time", 2),
    (NOTE, "液位偏高".encode("gbk"), "wrong_charset", 1),
)
"""Topic, payload, the reason it is refused for, and for how many readings."""


async def test_bad_payloads_are_refused_with_a_reason_and_the_ledger_balances(box: Box) -> None:
    """Each is a dead letter that the operator sees; the same tags' good readings, and all others, go on."""
    before = await box.account("yard")
    others = await wait_for(lambda: box.account("process"), 60, "readings of the plant")
    was = {one["id"] for one in await box.items("/dead-letters")}
    with publisher(box.broker) as publish:
        for topic, payload, _, _ in BAD:
            publish(topic, payload)
        publish(TANK, _tank("null", "null", '"Bad"'))
        publish(TANK, _tank("4.25"))
        publish(NOTE, "液位偏高".encode())
        publish("yard/unknown", b"1")
    refused = sum(readings for *_, readings in BAD)
    good = sum(1 for _, _, _, readings in BAD if readings == 1) - 1 + 2 + 2 + 1
    account = await balanced(box, "yard", before.get("read", 0) + refused + good)
    assert account["balanced"]
    assert account["refused"] - before.get("refused", 0) == refused
    assert account["stored"] - before.get("stored", 0) == good
    wanted: dict[str, int] = {}
    for _, _, reason, readings in BAD:
        wanted[reason] = wanted.get(reason, 0) + readings
    earlier = _reasons(before) if before else {}
    assert {reason: n - earlier.get(reason, 0) for reason, n in _reasons(account).items()} == wanted
    letters = [one for one in await box.items("/dead-letters") if one["id"] not in was]
    assert sum(one["readings"] for one in letters) == refused
    assert {one["reason"] for one in letters} == set(wanted)
    assert {one["connection"] for one in letters} == {"yard"}
    assert all(one["detail"] for one in letters)
    assert (await balanced(box, "process", others["read"] + 100))["refused"] == 0


async def test_a_payload_too_large_for_the_broker_reaches_nobody(box: Box) -> None:
    """The broker cuts off who sends 5 MB; the gateway's own connections stay up, and its tags go on."""
    before = await box.account("yard")
    lost = len(box.logged("connection_lost"))
    with publisher(box.broker) as publish, pytest.raises(ConnectionError):
        publish(TANK, b"x" * BEYOND_IT)
    with publisher(box.broker) as publish:
        publish(TANK, _tank("4.5"))
    account = await balanced(box, "yard", before.get("read", 0) + 2)
    assert account["read"] == before.get("read", 0) + 2
    assert len(box.logged("connection_lost")) == lost


async def test_a_bad_value_is_stored_with_its_status_and_a_good_one_as_it_came(box: Box) -> None:
    """A Bad quality is a reading like any other: it has its status, and no value."""
    before = await box.account("yard")
    when = time.time_ns() // 1_000_000
    with publisher(box.broker) as publish:
        publish(TANK, _tank("null", "null", '"Bad"', when))
        publish(TANK, _tank("7.125", when=when + 1))
        publish(NOTE, "液位偏高".encode())
    await balanced(box, "yard", before.get("read", 0) + 5)
    bad, good = await box.items("/tags/yard_level/readings", **{"from": times.rfc3339(when * 1_000_000)})
    assert (bad["status"] >> 30, bad["value"]) == (2, None)
    assert (good["status"], good["value"]) == (0, 7.125)
    assert (await box.items("/tags/yard_note/readings"))[-1]["value"] == "液位偏高"
