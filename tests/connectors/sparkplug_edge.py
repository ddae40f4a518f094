"""A Sparkplug B edge node of the tests' own: payloads put together byte by byte, sent by a client of its own."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from app.launcher import servers

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf."""
INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64 = range(1, 9)
FLOAT, DOUBLE, BOOLEAN, STRING, DATETIME, TEXT, UUID, DATASET, BYTES, FILE, TEMPLATE = range(9, 20)
INTEGERS: Final = {
    INT8: 32,
    INT16: 32,
    INT32: 32,
    INT64: 64,
    UINT8: 32,
    UINT16: 32,
    UINT32: 32,
    UINT64: 64,
    DATETIME: 64,
}
"""Datatype -> width of the field it travels in."""
SOON_S: Final = 10.0

Given = Any
"""A value of whatever the datatype says."""


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def number(at: int, value: int | None) -> bytes:
    """A field with a whole number; nothing for None."""
    return b"" if value is None else varint(at << 3 | VARINT) + varint(value)


def block(at: int, content: bytes | None) -> bytes:
    """A field with bytes, a text or a message; nothing for None."""
    return b"" if content is None else varint(at << 3 | LENGTH) + varint(len(content)) + content


def value(datatype: int, given: Given, first: int = 10) -> bytes:
    """The field that carries a value of this datatype; `first` is the number of `int_value` in its message."""
    if datatype in INTEGERS:
        wide = INTEGERS[datatype]
        return number(first + (wide == 64), given % (1 << wide))
    if datatype == FLOAT:
        return varint(first + 2 << 3 | FIXED32) + struct.pack("<f", given)
    if datatype == DOUBLE:
        return varint(first + 3 << 3 | FIXED64) + struct.pack("<d", given)
    if datatype == BOOLEAN:
        return number(first + 4, int(given))
    if datatype in (STRING, TEXT, UUID):
        return block(first + 5, given.encode())
    return block({DATASET: 17, TEMPLATE: 18}.get(datatype, 16), given)


def metric(  # noqa: PLR0913 - a metric has as many parts
    name: str | bytes | None,
    datatype: int | None = None,
    given: Given = None,
    *,
    alias: int | None = None,
    time: int | None = None,
    quality: int | None = None,
    flags: Mapping[int, bool] | None = None,
    said: bool = True,
    raw: bytes = b"",
) -> bytes:
    """One metric.

    `flags`: field number (5 historical, 6 transient, 7 null) -> value; `said`: whether the datatype is in it; `raw`: a
    value field put together elsewhere.
    """
    content = block(1, name.encode() if isinstance(name, str) else name)
    content += number(2, alias) + number(3, time) + number(4, datatype if said else None)
    content += b"".join(number(at, int(flag)) for at, flag in (flags or {}).items())
    if quality is not None:
        content += block(9, block(1, b"Quality") + block(2, number(1, INT32) + value(INT32, quality, 3)))
    if datatype is not None and given is not None:
        content += value(datatype, given)
    return content + raw


def payload(*metrics: bytes, seq: int | None = None, time: int | None = None) -> bytes:
    """A payload of these metrics."""
    return number(1, time) + b"".join(block(2, one) for one in metrics) + number(3, seq)


def bdseq(session: int) -> bytes:
    """The metric that names a session."""
    return metric("bdSeq", INT64, session)


@dataclass
class Edge:
    """An edge node that keeps the rules: will, births, data by alias, births again when it is asked."""

    broker: servers.Broker
    group: str
    node: str = "edge"
    metrics: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """Name -> datatype and value."""
    devices: dict[str, dict[str, tuple[int, Any]]] = field(default_factory=dict)
    obedient: bool = True
    session: int = -1
    seq: int = 0
    clock: int = 1_764_000_000_000
    """ms since 1970 UTC: the node's clock goes on by one with every payload."""
    commands: list[bytes] = field(default_factory=list)
    _client: paho.Client | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def connect(self) -> None:
        """Connect with a will and send the births."""
        self.session = (self.session + 1) % 256
        client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.username_pw_set(self.broker.user, self.broker.password)
        client.will_set(self.topic("NDEATH"), payload(bdseq(self.session)), qos=1)
        subscribed = threading.Event()
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = self._commanded
        client.connect(self.broker.host, self.broker.port)
        client.loop_start()
        client.subscribe(self.topic("NCMD"), 1)
        assert subscribed.wait(SOON_S)
        self._client = client
        self.births()

    @property
    def alive(self) -> bool:
        """Whether its broker has it."""
        return self._client is not None and self._client.is_connected()

    def _commanded(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        self.commands.append(bytes(message.payload))
        if self.obedient and self._client is not None:
            self.births()

    def topic(self, kind: str, device: str = "") -> str:
        """A topic of this node."""
        return f"spBv1.0/{self.group}/{kind}/{self.node}" + (f"/{device}" if device else "")

    def alias(self, device: str, name: str) -> int:
        """Unique over the node."""
        names = [("", one) for one in self.metrics]
        names += [(of, one) for of, metrics in self.devices.items() for one in metrics]
        return names.index((device, name))

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nothing is sent meanwhile by anyone else, not even births that a host asks for."""
        with self._lock:
            yield

    def births(self) -> None:
        """NBIRTH and a DBIRTH for each device."""
        with self._lock:
            self.seq = 0
            control = metric("Node Control/Rebirth", BOOLEAN, given=False)
            self.send("NBIRTH", bdseq(self.session), control, *self._all(""))
            for device in self.devices:
                self.send("DBIRTH", *self._all(device), device=device)

    def _all(self, device: str) -> Sequence[bytes]:
        metrics = self.devices[device] if device else self.metrics
        return [
            metric(name, datatype, given, alias=self.alias(device, name), time=self.clock)
            for name, (datatype, given) in metrics.items()
        ]

    def change(self, name: str, given: Given, device: str = "") -> None:
        """A new value, sent by its alias."""
        with self._lock:
            metrics = self.devices[device] if device else self.metrics
            metrics[name] = (metrics[name][0], given)
            made = metric(None, metrics[name][0], given, alias=self.alias(device, name), time=self.clock)
            self.send("DDATA" if device else "NDATA", made, device=device)

    def send(self, kind: str, *metrics: bytes, device: str = "") -> None:
        """A message in its turn."""
        with self._lock:
            self.publish(kind, payload(*metrics, seq=self.seq, time=self.clock), device=device)
            self.seq = (self.seq + 1) % 256
            self.clock += 1

    def publish(self, kind: str, content: bytes, device: str = "", *, retain: bool = False) -> None:
        """Any bytes."""
        assert self._client is not None
        self._client.publish(self.topic(kind, device), content, retain=retain)

    def die(self) -> None:
        """End without a farewell, so that the broker sends the will."""
        client = self._client
        if client is None:
            return
        own: Any = client.socket()
        if own is not None:
            own.shutdown(socket.SHUT_RDWR)
        client.loop_stop()
        self._client = None
