"""The transport under paho: packets come whole however the bytes are cut, and one too large is skipped, not stored."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.mqtt.wire import Wire

LIMIT = 300


def remaining(length: int) -> bytes:
    """The variable byte integer of MQTT 5, 1.5.5."""
    out = bytearray()
    while True:
        length, digit = divmod(length, 128)
        out.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(out)


def packet(kind: int, body: bytes) -> bytes:
    """A control packet."""
    return bytes([kind]) + remaining(len(body)) + body


def publish(topic: str, mid: int, size: int) -> bytes:
    """A QoS 1 PUBLISH."""
    name = topic.encode()
    return packet(0x32, len(name).to_bytes(2, "big") + name + mid.to_bytes(2, "big") + b"x" * size)


class Reader:
    """Drains a wire as paho does, and notes what is reported."""

    def __init__(self) -> None:
        """With an empty wire."""
        self.got = bytearray()
        self.skipped: list[tuple[str, int, int]] = []
        self.wire = Wire(
            LIMIT,
            self._drain,
            lambda _error: None,
            lambda topic, mid, qos, _size: self.skipped.append((topic, mid, qos)),
        )

    def _drain(self) -> None:
        while self.wire.has_packets:
            self.got += self.wire.recv(3)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("ab/", min_size=1, max_size=5), st.integers(1, 65_535), st.integers(0, 700)), max_size=8
    ),
    st.lists(st.integers(1, 400), min_size=1, max_size=20),
)
def test_any_cut(messages: list[tuple[str, int, int]], cuts: list[int]) -> None:
    """Small packets come whole and in order, large ones are reported and not stored, wherever the cuts are."""
    packets = [publish(*message) for message in messages]
    stream, reader, at, turn = b"".join(packets), Reader(), 0, 0
    while at < len(stream):
        reader.wire.data_received(stream[at : at + cuts[turn % len(cuts)]])
        at, turn = at + cuts[turn % len(cuts)], turn + 1
    assert bytes(reader.got) == b"".join(p for p in packets if len(p) <= LIMIT)
    assert reader.skipped == [(m[0], m[1], 1) for m, p in zip(messages, packets, strict=True) if len(p) > LIMIT]


def test_nothing_to_read() -> None:
    """An empty wire blocks as a socket would, and ends as one would."""
    reader = Reader()
    with pytest.raises(BlockingIOError):
        reader.wire.recv(1)
    reader.wire.connection_lost(None)
    assert reader.wire.recv(1) == b""
    with pytest.raises(ConnectionResetError):
        reader.wire.send(b"x")
    reader.wire.close()
    reader.wire.abort()


@given(st.binary(max_size=200))
def test_noise(noise: bytes) -> None:
    """Whatever bytes come, the wire hands on at most those."""
    reader = Reader()
    reader.wire.data_received(noise)
    assert len(reader.got) <= len(noise)
