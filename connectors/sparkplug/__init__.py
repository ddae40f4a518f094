"""Sparkplug B 3.0 as a host application: births, data and deaths of edge nodes in; nothing out but rebirth requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.sparkplug.address import check as check_address
from connectors.sparkplug.look import look
from connectors.sparkplug.options import Options, TagOptions
from connectors.sparkplug.source import SparkplugSource

if TYPE_CHECKING:
    from connectors import ConnectionConfig, Source

SCHEMES: Final[tuple[str, ...]] = ("sparkplug", "sparkplugs")


def source(config: ConnectionConfig) -> Source:
    """A source for this connection; nothing is opened yet. ValueError for what does not fit together."""
    return SparkplugSource(config)


__all__ = ["SCHEMES", "Options", "TagOptions", "check_address", "look", "source"]
