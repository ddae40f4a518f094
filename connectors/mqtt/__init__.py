"""MQTT 3.1.1 and 5: payloads of many layouts in, predictions and events out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.mqtt.address import check as check_address
from connectors.mqtt.browse import MqttBrowser
from connectors.mqtt.command import MqttCommands
from connectors.mqtt.learn import learn
from connectors.mqtt.look import look
from connectors.mqtt.options import Options, SinkOptions, TagOptions
from connectors.mqtt.sink import MqttSink
from connectors.mqtt.source import MqttSource

if TYPE_CHECKING:
    from connectors import Browser, ConnectionConfig, Sink, Source
    from connectors._commands import Writing

SCHEMES: Final[tuple[str, ...]] = ("mqtt", "mqtts", "ws", "wss")


def source(config: ConnectionConfig) -> Source:
    """A source for this connection; nothing is opened yet."""
    return MqttSource(config)


def sink(config: ConnectionConfig) -> Sink:
    """A publisher to this broker; nothing is opened yet."""
    return MqttSink(config)


def plant_writer(config: ConnectionConfig) -> Writing:
    """Publishes to devices; nothing is opened yet. Not for the service: see `connectors._commands`."""
    return MqttCommands(config)


def browse(url: str, seconds: float = 10, **credentials: object) -> Browser:
    """The topics that speak within so many seconds, or are retained."""
    return MqttBrowser(url, seconds, **credentials)


__all__ = [
    "SCHEMES",
    "Options",
    "SinkOptions",
    "TagOptions",
    "browse",
    "check_address",
    "learn",
    "look",
    "plant_writer",
    "sink",
    "source",
]
