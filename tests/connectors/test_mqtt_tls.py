"""MQTT over TLS against a real Mosquitto: the right authority, the wrong one, and none."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from connectors import ConnectionConfig, NotConnectedError, Publication, RefusedError, TagBinding
from connectors.mqtt.sink import MqttSink
from connectors.mqtt.source import MqttSource
from tests.connectors.tls_broker import TlsBroker, tls_broker

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(MOSQUITTO is None, reason="the broker of the wheel has no TLS: only Mosquitto is tried"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TlsBroker]:
    """One TLS broker for this file."""
    async with tls_broker(str(MOSQUITTO), tmp_path_factory.mktemp("tls")) as running:
        yield running


def config(broker: TlsBroker, data_dir: str, *tags: TagBinding, **options: object) -> ConnectionConfig:
    """A connection with the right certificates unless told otherwise."""
    given = {
        "url": f"mqtts://127.0.0.1:{broker.port}",
        "ca_file": broker.ca,
        "certificate_file": broker.certificate,
        "key_file": broker.key,
    }
    return ConnectionConfig(Path(data_dir).parent.name, {**given, "timeout_s": 3, **options}, tags, 1, data_dir)


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_both_ways(secured: TlsBroker, data_dir: str, version: str) -> None:
    """With the right authority and our own certificate, readings come and publications go."""
    source = MqttSource(config(secured, data_dir, TagBinding(1, "tls/x"), version=version))
    await source.connect()
    sink = MqttSink(config(secured, data_dir, version=version))
    await sink.connect()
    await sink.publish([Publication("1", "k", "tls/x", b"2.5", "application/json")] * 300)
    received = 0
    async with asyncio.timeout(10):
        while received < 300:
            batch = await source.read()
            received += len(batch)
            await batch.ack()
    await sink.close()
    await source.close()


async def test_wrong_authority(secured: TlsBroker, data_dir: str) -> None:
    """A broker that our authorities do not vouch for is refused, not connected to anyway."""
    with pytest.raises(RefusedError, match="not trusted"):
        await MqttSource(config(secured, data_dir, ca_file=None)).connect()


async def test_wrong_host(secured: TlsBroker, data_dir: str) -> None:
    """A certificate for another host is refused."""
    with pytest.raises(RefusedError, match="not trusted"):
        await MqttSource(config(secured, data_dir, url=f"mqtts://localhost:{secured.port}")).connect()


async def test_without_our_certificate(secured: TlsBroker, data_dir: str) -> None:
    """A broker that wants a certificate of ours and gets none does not let us in."""
    with pytest.raises((NotConnectedError, RefusedError)):
        await MqttSource(config(secured, data_dir, certificate_file=None, key_file=None)).connect()
