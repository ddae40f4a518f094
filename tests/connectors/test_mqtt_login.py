"""What a broker that was asked for our session may have done, and what we see of its answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from app.launcher import servers
from connectors import NotConnectedError, RefusedError, TagBinding
from connectors.mqtt.link import Link
from connectors.mqtt.options import Options
from tests.connectors.message_gate import MessageGate
from tests.connectors.mqtt_publisher import publish
from tests.connectors.peer_mqtt import PACKETS
from tests.connectors.test_mqtt_source import connected, gather, numbers, source_of, topic, values, version

__all__ = ["topic", "version"]

pytestmark = pytest.mark.asyncio(loop_scope="session")
TIMEOUT_S = 0.5


@asynccontextmanager
async def swallowing(broker: servers.Broker) -> AsyncIterator[int]:
    """The port of a way on which the broker hears us, and nothing comes back."""
    gate = MessageGate(broker.host, broker.port, PACKETS)
    gate.fail("stalled", 1)
    await gate.start()
    try:
        yield gate.port
    finally:
        await gate.close()


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_login_whose_answer_is_not_seen(
    broker: servers.Broker, data_dir: str, topic: str, version: str, *, keeps: bool
) -> None:
    """A broker that had forgotten us begins anew with it, and says afterwards that it has our session: that is a gap.

    One that has kept it gives what came meanwhile, and nothing is missing.
    """
    tags, options = [TagBinding(1, f"{topic}#/x")], {"version": version, "timeout_s": TIMEOUT_S}
    async with connected(broker, data_dir, tags, **options) as source:
        await (await source.read()).ack()
    if not keeps:
        async with connected(broker, data_dir + "-other", tags, **options, clean_session=True, session_expiry_s=0):
            pass
    async with swallowing(broker) as port:
        lost = source_of(broker, data_dir, tags, **options, url=f"mqtt://127.0.0.1:{port}")
        with pytest.raises(NotConnectedError):
            await lost.connect()
    await publish(broker, topic, *numbers(5))
    async with connected(broker, data_dir, tags, **options) as source:
        await publish(broker, topic, json.dumps({"x": 99}).encode())
        batches = await gather(source, lambda b: 99.0 in values(b))
    assert values(batches) == [*(float(n) for n in range(5) if keeps), 99.0]
    assert [one.continues for one in batches] == [keeps, *(True for _ in batches[1:])]
    async with connected(broker, data_dir, tags, **options) as source:
        assert (await source.read()).continues, "and it is said once"


async def test_a_login_that_is_refused_leaves_no_doubt(
    broker: servers.Broker, data_dir: str, topic: str, version: str
) -> None:
    """The broker has begun nothing with it: the next one takes up where the last one ended, though nothing comes."""
    tags = [TagBinding(1, f"{topic}#/x")]
    async with connected(broker, data_dir, tags, version=version) as source:
        await (await source.read()).ack()
    with pytest.raises(RefusedError):
        await source_of(broker, data_dir, tags, version=version, password="wrong").connect()  # noqa: S106 - meant to be
    async with connected(broker, data_dir, tags, version=version) as source:
        assert (await source.read()).continues


async def test_an_answer_that_came_in_time_counts(broker: servers.Broker, topic: str, version: str) -> None:
    """Where the process was too busy to look at it before the time was up."""
    access = {"username": broker.user, "password": SecretStr(broker.password or "")}
    options = Options.model_validate(
        {"url": f"mqtt://{broker.host}:{broker.port}", **access, "timeout_s": TIMEOUT_S, "version": version}
    )
    link = Link(options, topic.replace("/", "-"), clean=True)

    def busy() -> None:
        until = time.monotonic() + 2 * TIMEOUT_S
        while time.monotonic() < until:
            pass

    def once_it_is_sent() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, busy)

    link.on_login = once_it_is_sent
    try:
        assert not await link.open(), "a session that is new"
    finally:
        await link.close()
