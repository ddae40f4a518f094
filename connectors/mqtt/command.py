"""Publishing to devices of a broker at QoS 1: see `connectors._commands`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from connectors import Publication
from connectors.mqtt.sink import MqttSink

if TYPE_CHECKING:
    from connectors import ConnectionConfig, Value

LONGEST: Final = 1024 * 1024
"""Bytes of one payload."""
LONGEST_TOPIC: Final = 65_535


class MqttCommands:
    """See `connectors._commands.Writing`: an address is a topic."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Nothing is opened yet. Raises ValueError for options that `SinkOptions` refuses."""
        self._sink = MqttSink(replace(config, name=f"{config.name}-commands"))

    async def connect(self) -> None:
        """See `Writing.connect`."""
        await self._sink.connect()

    async def close(self) -> None:
        """See `Writing.close`."""
        await self._sink.close()

    async def write(self, address: str, value: Value) -> None:
        """See `Writing.write`. Text and bytes go as they are, numbers and truth values as JSON."""
        if not address or any(one in address for one in "+#\0") or len(address.encode()) > LONGEST_TOPIC:
            message = f"{address!r} is no topic to publish on: it has no + and no #"
            raise ValueError(message)
        body, kind = _body(value)
        if len(body) > LONGEST:
            message = f"{address}: a payload of {len(body)} bytes, more than {LONGEST}"
            raise ValueError(message)
        await self._sink.publish([Publication("", address, address, body, kind)])


def _body(value: Value) -> tuple[bytes, str]:
    if isinstance(value, bytes):
        return value, "application/octet-stream"
    if isinstance(value, str):
        return value.encode(), "text/plain; charset=utf-8"
    if isinstance(value, bool | int) or (isinstance(value, float) and value - value == 0):
        return msgspec.json.encode(value), "application/json"
    message = f"a payload is text, bytes, a finite number or a truth value, not {value!r}"
    raise ValueError(message)
