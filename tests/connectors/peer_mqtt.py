"""The launcher's broker as a peer for the conformance suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.launcher import servers
from app.launcher.ports import Port
from connectors import TagBinding
from tests.connectors.mqtt_publisher import publish
from tests.connectors.peering import Peer
from tests.connectors.tcp_gate import Gate


def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Peer:
    """The session's broker, reached through a gate."""
    broker: servers.Broker = request.getfixturevalue("broker")
    gate: Gate = request.getfixturevalue("broker_gate")
    topic = f"conformance/{tmp_path.name}"
    access = {"username": broker.user, "password": broker.password, "timeout_s": 3}
    options = {"url": f"mqtt://127.0.0.1:{gate.port}", "client_id": f"conformance-{tmp_path.name}", **access}

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
        )
