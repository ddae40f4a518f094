"""An edge node behind the launcher's broker as a peer for the conformance suite."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from app.launcher import servers
from app.launcher.ports import Port
from app.selftest.gate import Gate
from connectors import TagBinding
from tests.connectors.peer_mqtt import PACKETS
from tests.connectors.peering import Peer
from tests.connectors.sparkplug_edge import DOUBLE, STRING, Edge

VARIANTS: Final = ("3.1.1",)


def peer(request: pytest.FixtureRequest, tmp_path: Path, variant: str = VARIANTS[0]) -> Peer:
    """The session's broker, reached through a gate, and a node that goes straight to it."""
    broker: servers.Broker = request.getfixturevalue("broker")
    gate: Gate = request.getfixturevalue("broker_gate")
    group = f"conformance-{tmp_path.name}"
    edge = Edge(broker, group, metrics={"Press/number": (DOUBLE, 0.0), "Press/text": (STRING, "")})
    request.addfinalizer(edge.die)
    options = {
        "url": f"sparkplug://127.0.0.1:{gate.port}",
        "client_id": group,
        "version": variant,
        "username": broker.user,
        "password": broker.password,
        "timeout_s": 3,
        "birth_wait_s": 2,
    }

    def produce(number: float, text: str) -> None:
        if edge.session < 0:
            edge.metrics |= {"Press/number": (DOUBLE, number), "Press/text": (STRING, text)}
            edge.connect()
        else:
            edge.change("Press/number", number)
            edge.change("Press/text", text)

    async def emit(number: float, text: str) -> None:
        await asyncio.to_thread(produce, number, text)

    with Port() as nobody:
        return Peer(
            options,
            TagBinding(31, f"{group}/edge#Press/number"),
            TagBinding(32, f"{group}/edge#Press/text", "string"),
            emit,
            {**options, "url": f"mqtt://127.0.0.1:{nobody.number}"},
            ("group#m", "group/node", "group/node#", "g/n/d/e#m", "g+/n#m", "#m", ""),
            {**options, "password": "wrong"},
            gate.cut,
            framing=PACKETS,
        )
