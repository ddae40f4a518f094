"""Publishing to the broker of the tests, through the connector's own sink."""

from __future__ import annotations

import tempfile

from app.launcher import servers
from connectors import ConnectionConfig, Publication
from connectors.mqtt.sink import MqttSink


def north(broker: servers.Broker, name: str, **options: object) -> ConnectionConfig:
    """The configuration of a sink on this broker."""
    access = {"url": f"mqtt://{broker.host}:{broker.port}", "username": broker.user, "password": broker.password}
    return ConnectionConfig(name, {**access, **options}, (), 1, tempfile.gettempdir())


async def publish(broker: servers.Broker, topic: str, *bodies: bytes, retain: bool = False) -> None:
    """Publish these bodies in order; returns when the broker has them."""
    sink = MqttSink(north(broker, "tests-publisher"))
    await sink.connect()
    try:
        await sink.publish(
            [
                Publication(str(n), topic, topic, body, "application/json", retain=retain)
                for n, body in enumerate(bodies)
            ]
        )
    finally:
        await sink.close()
