"""The OPC UA server of the session as a peer for the conformance suite."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from app.launcher.ports import Port
from app.selftest.gate import Gate
from connectors import TagBinding
from tests.connectors.message_gate import Framing
from tests.connectors.opcua_plant import PASSWORD, URI, Plant
from tests.connectors.peering import Peer

VARIANTS: Final = ("None", "SignAndEncrypt")
HEAD: Final = 8
"""Kind and size of a message chunk (IEC 62541-6, 7.1.2.2)."""
CHUNKS: Final = Framing(
    lambda data: int.from_bytes(data[4:HEAD], "little") if len(data) >= HEAD else 0,
    lambda _data: HEAD,
    lambda data: data[:3].decode(),
)


def peer(request: pytest.FixtureRequest, tmp_path: Path, variant: str = VARIANTS[0]) -> Peer:
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
    if variant != "None":
        options |= {"security": "Basic256Sha256", "mode": variant, "trusted_certificates": [plant.certificate]}
        options |= {"username": "operator", "password": PASSWORD}

    async def emit(number: float, text: str) -> None:
        await plant.write("Level", number)
        await plant.write("State", text)

    async def forget() -> None:
        await plant.server.iserver.subscription_service.delete_subscriptions(list(plant.subscriptions()))

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
            # The answer to ActivateSession carries the nonce that the next one has to sign.
            forgotten=int(variant != "None"),
            unacknowledged=lambda: len(plant.unacknowledged()),
            sink_options={"endpoint": f"opc.tcp://127.0.0.1:{ours.number}/north", "anonymous": True},
            framing=CHUNKS,
            forget=forget,
        )
