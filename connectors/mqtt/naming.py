"""The client id under which a broker keeps our session."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from connectors.mqtt.options import Broker

ODD: Final = re.compile(r"[^0-9A-Za-z_-]+")


def client_id(broker: Broker, name: str, suffix: str = "") -> str:
    """The configured id, else one made of the connection's name: the same after every restart."""
    return broker.client_id or f"headrace-{ODD.sub('-', name)}{suffix}"
