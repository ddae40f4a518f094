"""The Sink of an MQTT broker: publications at QoS 1, taken when the broker says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from connectors import ConnectionConfig, NotConnectedError, RefusedError
from connectors.mqtt.link import FAILURE, Link
from connectors.mqtt.naming import client_id
from connectors.mqtt.options import SinkOptions

if TYPE_CHECKING:
    from connectors import Publication


class MqttSink:
    """Publishes bodies on their topics, many under way at once, in order."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Nothing is opened yet. Raises ValueError for options that `SinkOptions` refuses."""
        self._config = config
        self._options = SinkOptions.model_validate(config.options)
        self._link: Link | None = None

    async def connect(self) -> None:
        """Log in. Raises NotConnectedError, RefusedError. No session is kept: what was not taken is published again."""
        await self.close()
        self._link = Link(self._options, client_id(self._options, self._config.name, "-north"), clean=True)
        try:
            await self._link.open()
        except BaseException:
            await self.close()
            raise

    async def publish(self, items: Sequence[Publication]) -> None:
        """Return when the broker has taken every item.

        NotConnectedError when it is lost, RefusedError names a topic it does not take.
        """
        link = self._link
        if link is None:
            message = "not connected"
            raise NotConnectedError(message)
        link.check()
        step = self._options.in_flight
        for start in range(0, len(items), step):
            await self._some(link, items[start : start + step])

    async def _some(self, link: Link, items: Sequence[Publication]) -> None:
        sent = [link.publish(i.topic, i.body, i.content_type, retain=i.retain or self._options.retain) for i in items]
        try:
            async with asyncio.timeout(self._options.timeout_s * 2):
                await link.wait_all(sent)
        except TimeoutError as error:
            message = f"{self._options.url}: the broker has not taken {len(items)} messages in time"
            raise NotConnectedError(message) from error
        for item, taken in zip(items, sent, strict=True):
            code = taken.result()[0]
            if code.value >= FAILURE:
                message = f"the broker does not take {item.topic!r}: {code}"
                raise RefusedError(message)

    async def close(self) -> None:
        """Let go of the broker."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()
