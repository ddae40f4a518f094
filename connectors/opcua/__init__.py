"""OPC UA (IEC 62541): data changes in, predictions out as nodes of our own server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.opcua.address import check as check_address
from connectors.opcua.discovery import offer
from connectors.opcua.look import look
from connectors.opcua.options import Options, SinkOptions, TagOptions
from connectors.opcua.security import trust
from connectors.opcua.server import OpcUaSink
from connectors.opcua.source import OpcUaSource

if TYPE_CHECKING:
    from connectors import ConnectionConfig, Sink, Source

SCHEMES: Final[tuple[str, ...]] = ("opc.tcp",)


def source(config: ConnectionConfig) -> Source:
    """A source for this connection; nothing is opened yet."""
    return OpcUaSource(config)


def sink(config: ConnectionConfig) -> Sink:
    """Our own OPC UA server; it does not listen yet."""
    return OpcUaSink(config)


__all__ = [
    "SCHEMES", "Options", "SinkOptions", "TagOptions", "check_address", "look", "offer", "sink", "source", "trust",
]  # fmt: skip
