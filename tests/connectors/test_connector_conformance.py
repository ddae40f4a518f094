"""What every connector is held to, found by its file name: a new one needs a `peer_<name>.py` and no line here."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from pydantic import BaseModel, ValidationError

import connectors
from connectors import (
    Batch,
    Browser,
    ConnectionConfig,
    Connector,
    EndOfInput,
    Node,
    NotConnectedError,
    RefusedError,
    Sink,
    Source,
    Status,
    TagBinding,
    Tended,
    Trust,
)
from tests.connectors.peering import Peer

pytestmark = pytest.mark.asyncio(loop_scope="session")
SOON_S = 10.0
LISTEN_S = 2.0


@pytest.fixture(params=connectors.names())
def name(request: pytest.FixtureRequest) -> str:
    """Each connector in turn."""
    return str(request.param)


@pytest.fixture
def connector(name: str) -> Connector:
    """The connector's module."""
    return connectors.load(name)


@pytest.fixture
def peer(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Peer:
    """The connector's real peer."""
    made: Peer = importlib.import_module(f"tests.connectors.peer_{name}").peer(request, tmp_path)
    return made


def config(peer: Peer, data_dir: str, **options: object) -> ConnectionConfig:
    """A connection to this peer with its two tags."""
    return ConnectionConfig("conformance", {**peer.options, **options}, (peer.number, peer.text), 7, data_dir)


@pytest_asyncio.fixture(loop_scope="session")
async def source(connector: Connector, peer: Peer, data_dir: str) -> AsyncIterator[Source]:
    """A source that is closed in the end."""
    made = connector.source(config(peer, data_dir))
    yield made
    await made.close()


async def read_until(source: Source, wanted: int) -> list[Batch]:
    """Batches with `wanted` readings or more altogether; heartbeats are passed over."""
    batches: list[Batch] = []
    async with asyncio.timeout(SOON_S):
        while sum(len(b) for b in batches) < wanted:
            batch = await source.read()
            if len(batch):
                batches.append(batch)
    return batches


async def test_surface(connector: Connector) -> None:
    """A connector module offers what the contract names, and its models refuse unknown keys."""
    assert isinstance(connector, Connector)
    assert connector.SCHEMES
    for model in (connector.Options, connector.TagOptions):
        assert issubclass(model, BaseModel)
        assert model.model_config.get("extra") == "forbid"


async def test_unknown_option(connector: Connector, peer: Peer) -> None:
    """A wrong key is refused before anything is opened."""
    with pytest.raises(ValidationError, match="no_such_key"):
        connector.Options.model_validate({**peer.options, "no_such_key": 1})
    with pytest.raises(ValidationError, match="no_such_key"):
        connector.TagOptions.model_validate({"no_such_key": 1})


async def test_addresses(connector: Connector, peer: Peer) -> None:
    """A right address passes, a wrong one gets a sentence that names it."""
    assert connector.check_address(peer.number.address) is None
    for address in peer.wrong_addresses:
        problem = connector.check_address(address)
        assert problem is not None
        assert repr(address)[:20] in problem


async def test_source_is_a_source(source: Source) -> None:
    """What `source` gives satisfies the protocol."""
    assert isinstance(source, Source)


async def test_columns(source: Source, peer: Peer) -> None:
    """Readings arrive as columns of the contract's types, numbers as numbers and text as text, under the right tags."""
    if peer.ends:
        await peer.emit(2.5, "RUNNING")
    await source.connect()
    if not peer.ends:
        await peer.emit(2.5, "RUNNING")
    batches = await read_until(source, 2)
    for batch in batches:
        assert (batch.tags.dtype.str, batch.source_time.dtype.str) == ("<i8", "<i8")
        assert (batch.values.dtype.str, batch.status.dtype.str) == ("<f8", "<u4")
        assert len(batch.tags) == len(batch.source_time) == len(batch.values) == len(batch.status)
        assert batch.revision == 7
        assert batch.alive_until <= batch.received_time <= time.time_ns()
    assert 2.5 in [v for b in batches for v in b.values[b.tags == peer.number.id].tolist()]
    texts = [b.others[row] for b in batches for row in np.flatnonzero(b.tags == peer.text.id).tolist()]
    assert "RUNNING" in texts
    assert all(np.isnan(b.values[row]) for b in batches for row in b.others)


async def test_unreachable(connector: Connector, peer: Peer, data_dir: str) -> None:
    """Nobody there is NotConnectedError within the time-out, and closing afterwards is safe."""
    nobody = connector.source(replace(config(peer, data_dir), options=peer.unreachable))
    async with asyncio.timeout(SOON_S):
        with pytest.raises(NotConnectedError):
            await nobody.connect()
    await nobody.close()


async def test_wrong_password(connector: Connector, peer: Peer, data_dir: str) -> None:
    """A wrong password is RefusedError: nobody tries again without the operator; the password is in no message."""
    if peer.wrong_password is None:
        pytest.skip("the protocol knows no password")
    stranger = connector.source(replace(config(peer, data_dir), options=peer.wrong_password))
    with pytest.raises(RefusedError) as refused:
        await stranger.connect()
    assert str(peer.wrong_password["password"]) not in str(refused.value)
    await stranger.close()


async def test_tended(source: Source, peer: Peer) -> None:
    """What an operator tends can be asked of before connecting, while connected, and after: sentences, or nothing."""
    if not isinstance(source, Tended):
        pytest.skip("there is nothing to tend")
    assert source.tend() == ()
    await source.connect()
    await peer.emit(1.0, "a")
    assert all(isinstance(note, str) and note for note in source.tend())
    await source.close()
    assert source.tend() == ()
    assert source.mended() in {True, False}


async def test_trust(connector: Connector, peer: Peer, data_dir: str) -> None:
    """Where a connector knows certificates, there are none before first use, and looking for them makes nothing."""
    if not hasattr(connector, "trust"):
        pytest.skip("the protocol knows no certificates that a person decides about")
    keys: Trust = connector.trust(config(peer, data_dir))
    assert (keys.peers(), keys.own()) == ((), ())
    assert not Path(data_dir).exists()
    with pytest.raises(KeyError):
        keys.decide("ab" * 32, "trusted")
    with pytest.raises(KeyError):
        keys.forget("ab" * 32)
    with pytest.raises(RefusedError):
        keys.switch()


async def test_read_before_connect(source: Source) -> None:
    """Reading what is not connected says so."""
    with pytest.raises(NotConnectedError):
        await source.read()


async def test_close_twice(source: Source, peer: Peer) -> None:
    """Closing is safe before connecting, twice, and then one may connect again."""
    await source.close()
    if peer.ends:
        await peer.emit(1.0, "a")
    await source.connect()
    await source.close()
    await source.close()
    await source.connect()
    if not peer.ends:
        await peer.emit(3.0, "b")
    assert await read_until(source, 2)


async def test_cancel(source: Source, peer: Peer) -> None:
    """A read that is cancelled loses nothing: the next one gets what came meanwhile."""
    if peer.ends:
        pytest.skip("a recording never makes a reader wait")
    await source.connect()
    reading = asyncio.create_task(_read_for_ever(source))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await peer.emit(41.5, "after")
    async with asyncio.timeout(SOON_S):
        while 41.5 not in (await source.read()).values:
            pass


async def _read_for_ever(source: Source) -> None:
    while True:
        await source.read()


async def test_heartbeat(source: Source, peer: Peer) -> None:
    """A peer that is alive and silent gives empty batches whose `alive_until` advances."""
    if peer.ends:
        pytest.skip("a recording is never silent")
    await source.connect()
    beats: list[Batch] = []
    async with asyncio.timeout(SOON_S):
        while len(beats) < 2:
            batch = await source.read()
            await batch.ack()
            if not len(batch):
                beats.append(batch)
    assert beats[0].alive_until < beats[1].alive_until


async def test_peer_lost(source: Source, peer: Peer) -> None:
    """A peer that is killed ends the read with NotConnectedError, and an acknowledgement after that is void."""
    if peer.cut is None:
        pytest.skip("the peer cannot be lost")
    await source.connect()
    await peer.emit(5.0, "x")
    (batch, *_) = await read_until(source, 1)
    await peer.cut()
    async with asyncio.timeout(SOON_S):
        with pytest.raises(NotConnectedError):
            await _read_for_ever(source)
    await batch.ack()


async def test_not_acknowledged_is_sent_again(connector: Connector, source: Source, peer: Peer, data_dir: str) -> None:
    """What was read but not acknowledged comes again after a reconnect; what was acknowledged does not."""
    if not peer.resends:
        pytest.skip("the protocol does not send again")
    await source.connect()
    await peer.emit(6.5, "once")
    await read_until(source, 2)
    await source.close()
    again = connector.source(config(peer, data_dir))
    await again.connect()
    batches = await read_until(again, 2)
    assert 6.5 in [v for b in batches for v in b.values.tolist()]
    for batch in batches:
        await batch.ack()
    await again.close()
    await again.connect()
    assert len(await again.read()) == 0
    await again.close()


async def test_peer_keeps_until_acknowledged(source: Source, peer: Peer) -> None:
    """The peer keeps what we have not acknowledged, and lets go of it once we have."""
    if peer.unacknowledged is None:
        pytest.skip("the peer does not tell")
    await source.connect()
    await peer.emit(7.5, "kept")
    kept = await read_until(source, 2)
    assert peer.unacknowledged() > 0
    for batch in kept:
        await batch.ack()
    async with asyncio.timeout(SOON_S):
        while peer.unacknowledged() > 0:
            await (await source.read()).ack()


async def test_end(source: Source, peer: Peer) -> None:
    """A recording ends with EndOfInput, again and again."""
    if not peer.ends:
        pytest.skip("the peer does not end")
    await peer.emit(1.0, "a")
    await source.connect()
    await read_until(source, 2)
    for _ in range(2):
        with pytest.raises(EndOfInput):
            await source.read()


async def test_wrong_type(connector: Connector, peer: Peer, data_dir: str) -> None:
    """A text where a number is configured is refused with a reason, counted, and harms no other tag."""
    if peer.ends:
        pytest.skip("a recording is believed")
    wrong = TagBinding(99, peer.text.address, "float")
    source = connector.source(replace(config(peer, data_dir), tags=(peer.number, wrong)))
    await source.connect()
    await peer.emit(8.5, "no number")
    refused, values = 0, list[float]()
    async with asyncio.timeout(SOON_S):
        while not (refused and 8.5 in values):
            batch = await source.read()
            values += batch.values.tolist()
            refused += sum(r.readings for r in batch.refused if r.reason == "wrong_type" and r.address == wrong.address)
            assert 99 not in batch.tags
            await batch.ack()
    await source.close()


async def test_sink(connector: Connector, peer: Peer, data_dir: str) -> None:
    """A sink satisfies the protocol, refuses to publish unconnected, and closes twice."""
    if peer.sink_options is None:
        assert not hasattr(connector, "sink")
        return
    sink = connector.sink(ConnectionConfig("north", peer.sink_options, (), 1, data_dir))  # type: ignore[attr-defined]
    assert isinstance(sink, Sink)
    with pytest.raises(NotConnectedError):
        await sink.publish([])
    await sink.connect()
    await sink.publish([])
    await sink.close()
    await sink.close()


def browser(connector: Connector, options: Mapping[str, object]) -> Browser:
    """The connector's browser of this peer."""
    browse = getattr(connector, "browse", None)
    if browse is None:
        pytest.skip("does not browse")
    known = {key: options[key] for key in ("username", "password", "security", "timeout_s") if key in options}
    made: Browser = browse(str(options["url"]), LISTEN_S, **known)
    return made


async def test_browse_finds_what_a_tag_is_bound_to(connector: Connector, peer: Peer) -> None:
    """Level by level a walk comes to the number: a tag's address, of a datatype that takes it; reading it works."""
    looking = browser(connector, peer.options)
    assert isinstance(looking, Browser)
    await looking.connect()
    emitting = asyncio.create_task(again_and_again(peer))
    try:
        found, level = dict[str, Node](), [""]
        while level and peer.number.address not in found:
            branches = await looking.children(level)
            fresh = {n.address: n for b in branches for n in b.nodes if n.address not in found and not n.of_peer}
            found |= fresh
            level = [address for address, node in fresh.items() if node.has_children]
        number = found[peer.number.address]
        wrong, right = await looking.read([peer.wrong_addresses[0], peer.number.address])
        (branch,) = await looking.children([peer.wrong_addresses[0]])
    finally:
        emitting.cancel()
        await asyncio.gather(emitting, return_exceptions=True)
        await looking.close()
        await looking.close()
    assert (number.datatype, number.readable, connector.check_address(number.address)) == ("float", True, None)
    connector.TagOptions.model_validate(dict(number.options))
    assert (right.address, float(right.value), right.status) == (peer.number.address, 2.5, Status.GOOD)
    assert (Status.severity(wrong.status), branch.nodes, len(branch.notes)) == (2, (), 1)


async def again_and_again(peer: Peer) -> None:
    """Let the peer speak while it is listened to."""
    while True:
        await peer.emit(2.5, "RUNNING")
        await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=LISTEN_S / 10)


async def test_browse_of_nobody(connector: Connector, peer: Peer) -> None:
    """A peer that is not there is NotConnectedError; closing after that is safe, and asking too."""
    looking = browser(connector, peer.unreachable)
    with pytest.raises(NotConnectedError):
        await looking.connect()
    await looking.close()
    with pytest.raises(NotConnectedError):
        await looking.children([""])
