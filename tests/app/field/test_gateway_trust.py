"""From a stranger's certificate to readings: a running gateway, a real secured server, a person at the console."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from asyncua import ua

from app.db import make_engine, upgrade, writing
from app.field.runner import Standing
from app.gateway import Gateway
from app.plant.tables import PlantRevisionRow
from app.queue import Door
from app.settings import Settings
from app.sources.tables import ConnectionRow, TagRow
from tests.app.commands.process import headrace
from tests.connectors.opcua_plant import PASSWORD, URI, Plant, opcua_plant
from tests.waiting import wait_for


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Plant]:
    """A server that wants SignAndEncrypt."""
    policies = [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
    async with opcua_plant(tmp_path / "plant", policies) as running:
        yield running


async def test_a_gateway_connects_when_a_person_has_accepted(secured: Plant, redis_url: str, tmp_path: Path) -> None:
    """Refused, accepted, connected; rejected, cut; without a restart and without another configuration."""
    data = tmp_path / "box"
    data.mkdir()
    url = f"sqlite:///{data / 'headrace.db'}"
    upgrade(url)
    engine = make_engine(url)
    options = {"url": secured.url, "timeout_s": 3}
    with writing(engine) as session:
        session.add(ConnectionRow(name="press", connector="opcua", options=options, revision=1))
        session.flush()
        address = f"nsu={URI};s=Level"
        session.add(TagRow(name="level", connection_id=1, address=address, datatype="float", options={}))
        session.add(PlantRevisionRow(number=1, document="", digest="", applied_at=0, applied_by=""))
    engine.dispose()
    door = Door(redis_url)
    gateway = await asyncio.to_thread(Gateway, Settings(data_dir=data, database_url=url), door)
    stop = asyncio.Event()
    running = asyncio.create_task(gateway.run(stop))
    try:
        await wait_for(lambda: 1 in gateway.follower.standings, 20)
        await _decided(gateway.follower.standings[1], data)
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)
        door.close()


async def _decided(standing: Standing, data: Path) -> None:
    common = ("--data", str(data), "--lang", "en", "trust")
    await wait_for(lambda: standing.state == "refused", 20)
    assert "headrace trust accept" in standing.error
    code, printed, complained = await headrace(*common, "--json")
    assert code == 0, complained
    (pending,) = json.loads(printed)
    assert (pending["connection"], pending["state"]) == ("press", "pending")
    assert pending["fingerprint"] in standing.error
    code, printed, complained = await headrace(*common, "accept", pending["fingerprint"][:12])
    assert (code, complained) == (0, ""), printed
    await wait_for(lambda: standing.state == "connected" and standing.readings > 0, 20)
    assert standing.notes == ()
    code, _, complained = await headrace(*common, "reject", pending["fingerprint"])
    assert code == 0, complained
    await wait_for(lambda: standing.state == "refused", 20)
    assert "was rejected here" in standing.error
    assert PASSWORD not in standing.error
