"""The launcher's broker as a peer for the conformance suite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from app.launcher import servers
from app.launcher.ports import Port
from app.selftest.gate import Gate
from connectors import TagBinding
from tests.connectors.message_gate import Framing
from tests.connectors.mqtt_publisher import publish
from tests.connectors.peering import Peer

VARIANTS: Final = ("3.1.1", "5")

KINDS: Final = (
    "", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE",
    "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
)  # fmt: skip
LENGTH_BYTES: Final = 4


def head(data: bytes) -> int:
    """Bytes of the fixed header (MQTT 5, 2.1); 0 while it has not come."""
    return next((n + 1 for n in range(1, LENGTH_BYTES + 1) if n < len(data) and data[n] < 0x80), 0)


def size(data: bytes) -> int:
    """Bytes of the packet that begins here."""
    end = head(data)
    return end + sum((data[n] & 0x7F) << 7 * (n - 1) for n in range(1, end)) if end else 0


PACKETS: Final = Framing(size, head, lambda data: KINDS[data[0] >> 4])


def peer(request: pytest.FixtureRequest, tmp_path: Path, variant: str = VARIANTS[0]) -> Peer:
    """The session's broker, reached through a gate."""
    broker: servers.Broker = request.getfixturevalue("broker")
    gate: Gate = request.getfixturevalue("broker_gate")
    topic = f"conformance/{tmp_path.name}"
    access = {"username": broker.user, "password": broker.password, "timeout_s": 3}
    options = {"url": f"mqtt://127.0.0.1:{gate.port}", "client_id": f"conformance-{tmp_path.name}", **access}
    options["version"] = variant

    async def emit(number: float, text: str) -> None:
        await publish(broker, topic, json.dumps({"number": number, "text": text}).encode())

    with Port() as nobody:
        return Peer(
            options,
            TagBinding(21, f"{topic}#/number"),
            TagBinding(22, f"{topic}#/text", "string"),
            emit,
            {**options, "url": f"mqtt://127.0.0.1:{nobody.number}"},
            ("plant/+/x#/y", "#/y", "a#y", "a#/~2", ""),
            {**options, "password": "wrong"},
            gate.cut,
            resends=True,
            tells_at_once=False,
            sink_options={"url": f"mqtt://127.0.0.1:{broker.port}", **access},
            framing=PACKETS,
        )
