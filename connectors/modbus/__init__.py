"""Modbus TCP (Modbus Application Protocol V1.1b3): coils and registers polled on a steady beat, never written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.modbus.address import check as check_address
from connectors.modbus.options import Options, TagOptions
from connectors.modbus.source import ModbusSource

if TYPE_CHECKING:
    from connectors import ConnectionConfig, Source

SCHEMES: Final[tuple[str, ...]] = ("modbus",)


def source(config: ConnectionConfig) -> Source:
    """A source for this connection; nothing is opened yet. ValueError for what does not fit together."""
    return ModbusSource(config)


__all__ = ["SCHEMES", "Options", "TagOptions", "check_address", "source"]
