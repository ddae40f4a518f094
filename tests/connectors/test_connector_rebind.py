"""What every connector that takes other tags alive is held to, found by its file name like the whole suite."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import connectors
from connectors import Batch, ConnectionConfig, NotConnectedError, Rebindable, Source
from tests.connectors.peering import Peer

pytestmark = pytest.mark.asyncio(loop_scope="session")
SOON_S = 10.0


@pytest.fixture(params=connectors.names())
def name(request: pytest.FixtureRequest) -> str:
    """Each connector in turn."""
    return str(request.param)


@pytest.fixture
def peer(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Peer:
    """The connector's real peer."""
    made: Peer = importlib.import_module(f"tests.connectors.peer_{name}").peer(request, tmp_path)
    return made


async def test_rebind(name: str, peer: Peer, data_dir: str) -> None:
    """Other tags on the connection that stands: a new one comes, one that stays goes on, one that is gone is gone."""
    connector = connectors.load(name)
    whole = ConnectionConfig("conformance", peer.options, (peer.number, peer.text), 7, data_dir)
    source = connector.source(replace(whole, tags=(peer.number,)))
    if not isinstance(source, Rebindable):
        pytest.skip("takes other tags with a new connection only")
    if peer.ends:
        pytest.skip("a recording has no next value")
    with pytest.raises(NotConnectedError):
        await source.read()
    await source.connect()
    await peer.emit(2.5, "A")
    assert {b.revision for b in await _until(source, lambda b: 2.5 in b.values)} == {7}
    assert await source.rebind(replace(whole, revision=8))
    batches = await _until(source, lambda b: peer.text.id in b.tags) if peer.tells_at_once else []
    await peer.emit(3.5, "B")
    batches += await _until(source, lambda b: "B" in b.others.values())
    assert {b.revision for b in batches if peer.text.id in b.tags} == {8}
    assert 3.5 in [v for b in batches for v in b.values[b.tags == peer.number.id]]
    assert [b.revision for b in batches] == sorted(b.revision for b in batches)
    assert await source.rebind(replace(whole, tags=(peer.text,), revision=9))
    await peer.emit(4.5, "C")
    batches = await _until(source, lambda b: "C" in b.others.values())
    assert not [b for b in batches if b.revision == 9 and peer.number.id in b.tags]
    assert batches[-1].revision == 9
    assert not [one for b in batches for one in b.refused]
    assert all(b.continues for b in batches)
    await source.close()


async def _until(source: Source, enough: Callable[[Batch], object]) -> list[Batch]:
    """Acknowledged batches up to the first that is enough."""
    batches: list[Batch] = []
    async with asyncio.timeout(SOON_S):
        while not batches or not enough(batches[-1]):
            batches.append(await source.read())
            await batches[-1].ack()
    return batches
