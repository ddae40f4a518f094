"""Real peers for the connectors: one OPC UA server for the session, the launcher's broker, gates before both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import ua

from app.launcher import servers
from app.selftest.gate import Gate
from tests.connectors.opcua_plant import Plant, opcua_plant


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """An OPC UA server with endpoints None and Basic256Sha256."""
    policies = [
        ua.SecurityPolicyType.NoSecurity,
        ua.SecurityPolicyType.Basic256Sha256_Sign,
        ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ]
    async with opcua_plant(tmp_path_factory.mktemp("plant"), policies) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def plant_gate(plant: Plant) -> AsyncIterator[Gate]:
    """A gate before the OPC UA server."""
    gate = Gate(plant.host, plant.port)
    await gate.start()
    yield gate
    await gate.cut()


@pytest_asyncio.fixture(loop_scope="session")
async def broker_gate(broker: servers.Broker) -> AsyncIterator[Gate]:
    """A gate before the broker."""
    gate = Gate(broker.host, broker.port)
    await gate.start()
    yield gate
    await gate.cut()


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    """A connection's own folder."""
    return str(tmp_path / "connection")
