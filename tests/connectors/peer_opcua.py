"""The OPC UA server of the session as a peer for the conformance suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.launcher.ports import Port
from connectors import TagBinding
from tests.connectors.opcua_plant import URI, Plant
from tests.connectors.peering import Peer
from tests.connectors.tcp_gate import Gate


def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Peer:
    """The session's server, reached through a gate."""
    del tmp_path
    plant: Plant = request.getfixturevalue("plant")
    gate: Gate = request.getfixturevalue("plant_gate")
    options = {
        "url": f"opc.tcp://127.0.0.1:{gate.port}/tests",
        "security": "None",
        "publishing_interval_ms": 20,
        "timeout_s": 3,
    }

    async def emit(number: float, text: str) -> None:
        await plant.write("Level", number)
        await plant.write("State", text)

    with Port() as nobody, Port() as ours:
        return Peer(
            options,
            TagBinding(11, f"nsu={URI};s=Level"),
            TagBinding(12, f"nsu={URI};s=State", "string"),
            emit,
            {**options, "url": f"opc.tcp://127.0.0.1:{nobody.number}/tests"},
            ("Level", "ns=99999;s=x", "nsu=;s=x", "i=-1"),
            {**options, "username": "operator", "password": "wrong", "trusted_certificates": [plant.certificate]},
            gate.cut,
            resends=True,
            unacknowledged=lambda: len(plant.unacknowledged()),
            sink_options={"endpoint": f"opc.tcp://127.0.0.1:{ours.number}/north", "anonymous": True},
        )
