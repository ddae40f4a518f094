"""OPC UA (IEC 62541): data changes in, predictions out as nodes of our own server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.opcua.address import check as check_address
from connectors.opcua.browse import OpcUaBrowser
from connectors.opcua.command import OpcUaCommands
from connectors.opcua.discovery import offer
from connectors.opcua.look import look
from connectors.opcua.options import Options, SinkOptions, TagOptions
from connectors.opcua.security import trust
from connectors.opcua.server import OpcUaSink
from connectors.opcua.source import OpcUaSource

if TYPE_CHECKING:
    from connectors import Browser, ConnectionConfig, Sink, Source
    from connectors._commands import Calling, Writing

SCHEMES: Final[tuple[str, ...]] = ("opc.tcp",)


def source(config: ConnectionConfig) -> Source:
    """A source for this connection; nothing is opened yet."""
    return OpcUaSource(config)


def sink(config: ConnectionConfig) -> Sink:
    """Our own OPC UA server; it does not listen yet."""
    return OpcUaSink(config)


def plant_writer(config: ConnectionConfig) -> Writing:
    """Writes to the server; nothing is opened yet. Not for the service: see `connectors._commands`."""
    return OpcUaCommands(config)


def plant_caller(config: ConnectionConfig) -> Calling:
    """Calls methods of the server; nothing is opened yet. Not for the service either."""
    return OpcUaCommands(config)


def browse(url: str, seconds: float = 0, **credentials: object) -> Browser:
    """A walk through the server's address space; a server tells when it is asked, so `seconds` are not needed."""
    del seconds
    return OpcUaBrowser(url, **credentials)


__all__ = [
    "SCHEMES", "Options", "SinkOptions", "TagOptions", "browse", "check_address", "look", "offer", "plant_caller",
    "plant_writer", "sink", "source", "trust",
]  # fmt: skip
