"""Somebody who listens to a broker beside us: what was really published, at which QoS, and what was retained."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from app.launcher import servers
from connectors.mqtt.link import Link
from connectors.mqtt.options import Broker


class Heard(NamedTuple):
    """A message that somebody published."""

    topic: str
    body: bytes
    qos: int
    retain: bool


@asynccontextmanager
async def listening(broker: servers.Broker, topic: str) -> AsyncIterator[list[Heard]]:
    """What is published on a topic meanwhile, and what was retained there before."""
    access = {"url": f"mqtt://{broker.host}:{broker.port}", "username": broker.user, "password": broker.password}
    link = Link(Broker.model_validate(access), f"listener-{secrets.token_hex(4)}", clean=True)
    heard: list[Heard] = []
    link.on_message = lambda m: heard.append(Heard(m.topic, bytes(m.payload), m.qos, m.retain))
    await link.open()
    await link.subscribe([(topic, 1)])
    try:
        yield heard
    finally:
        await link.close()
