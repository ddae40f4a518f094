"""Whether we are online, as edge nodes see it (Sparkplug 3.0, 5.13, 5.14 and 6.4.27): STATE birth and will."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from connectors.mqtt.link import Will
from connectors.sparkplug.address import state_topic

DAY_MS: Final = 86_400_000
JSON: Final = "application/json"


class _State(msgspec.Struct):
    online: bool
    timestamp: int


class Host:
    """One host application on one broker. Times are ms since 1970 UTC."""

    def __init__(self, host_id: str) -> None:
        """Nothing is said yet."""
        self.topic = state_topic(host_id)
        self._began = 0
        self._newest = 0
        """The newest time on the topic: nodes believe no older one."""

    def begin(self) -> Will:
        """The will to connect with."""
        self._began = self._newest = max(time.time_ns() // 1_000_000, self._newest + 1)
        return Will(self.topic, _body(online=False, timestamp=self._began))

    def online(self) -> bytes:
        """Our birth: the will's time again."""
        return _body(online=True, timestamp=self._began)

    def offline(self) -> bytes:
        """A clean farewell."""
        self._newest = max(time.time_ns() // 1_000_000, self._newest)
        return _body(online=False, timestamp=self._newest)

    def set_offline(self, content: bytes) -> bool:
        """Whether this message on our topic says that we are offline."""
        try:
            said = msgspec.json.decode(content, type=_State)
        except (msgspec.DecodeError, RecursionError):
            return False
        if self._newest < said.timestamp < time.time_ns() // 1_000_000 + DAY_MS:
            self._newest = said.timestamp
        return not said.online

    @property
    def outdone(self) -> bool:
        """Whether nodes have seen a newer time than our birth's, which only a new connection can outdo."""
        return self._newest > self._began


def _body(*, online: bool, timestamp: int) -> bytes:
    """Exactly the two keys of 4.2.3."""
    return msgspec.json.encode({"online": online, "timestamp": timestamp})
