"""MQTT over WebSocket (MQTT 5, 6; RFC 6455): the client's side of the frames, between a transport and a `Wire`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Final

from connectors import ConnectorError, NotConnectedError, RefusedError

if TYPE_CHECKING:
    from connectors.mqtt.wire import Wire

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What a server mixes with our key to show that it is one (RFC 6455, 1.3)."""
MOST_HEADERS: Final = 16_384
CONTINUATION, BINARY, CLOSE, PING, PONG = 0x0, 0x2, 0x8, 0x9, 0xA
FINAL: Final = 0x80
MASKED: Final = 0x80
SHORT, LENGTH_16, LENGTH_64 = 125, 126, 127
"""Lengths up to the first stand for themselves; the others announce 2 and 8 bytes (RFC 6455, 5.2)."""
SWITCHING: Final = 101
NO_ENTRY: Final = frozenset({401, 403})


def masked(data: bytes, key: bytes) -> bytes:
    """The payload as a client sends it (RFC 6455, 5.3)."""
    whole = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(whole)).to_bytes(len(data))


def frame(code: int, data: bytes) -> bytes:
    """One whole masked frame."""
    key, size = secrets.token_bytes(4), len(data)
    if size <= SHORT:
        head = bytes((FINAL | code, MASKED | size))
    elif size < 2**16:
        head = bytes((FINAL | code, MASKED | LENGTH_16)) + size.to_bytes(2)
    else:
        head = bytes((FINAL | code, MASKED | LENGTH_64)) + size.to_bytes(8)
    return head + key + masked(data, key)


class Frames(asyncio.Transport):
    """What a `Wire` writes to: every write is a binary frame."""

    def __init__(self, below: asyncio.Transport) -> None:
        """`below`: TCP or TLS."""
        super().__init__()
        self._below = below

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """One frame."""
        self._below.write(frame(BINARY, bytes(data)))

    def pause_reading(self) -> None:
        """See asyncio."""
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """See asyncio."""
        self._below.resume_reading()

    def close(self) -> None:
        """Close once what was written has been sent."""
        if not self._below.is_closing():
            self._below.write(frame(CLOSE, (1000).to_bytes(2)))
        self._below.close()

    def abort(self) -> None:
        """Close at once."""
        self._below.abort()


class WebSocket(asyncio.Protocol):
    """Asks for the upgrade, then hands the payload of frames on, in pieces as they arrive."""

    def __init__(self, wire: Wire, authority: str, path: str) -> None:
        """`authority`: host and port; `path`: with what belongs to it. Nothing is sent yet."""
        self._wire, self._authority, self._path = wire, authority, path
        self._key = base64.b64encode(secrets.token_bytes(16))
        self._transport: asyncio.Transport | None = None
        self._raw = bytearray()
        self._left = 0
        """Bytes of the present data frame that have not come yet."""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when frames may flow. NotConnectedError, RefusedError."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        if not isinstance(transport, asyncio.Transport):
            return
        self._transport = transport
        lines = (
            f"GET {self._path} HTTP/1.1",
            f"Host: {self._authority}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self._key.decode()}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: mqtt",
        )
        transport.write("\r\n".join((*lines, "", "")).encode())

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._raw += data
        if not self.opened.done():
            self._upgrade()
        if self.opened.done() and self.opened.exception() is None:
            self._unframe()

    def _upgrade(self) -> None:
        head, end, rest = bytes(self._raw).partition(b"\r\n\r\n")
        if not end:
            if len(self._raw) > MOST_HEADERS:
                self._fail(NotConnectedError(f"an answer of more than {MOST_HEADERS} bytes before the upgrade"))
            return
        error = self._wrong(head)
        if error is not None:
            self._fail(error)
            return
        self._raw = bytearray(rest)
        if self._transport is not None:
            self._wire.connection_made(Frames(self._transport))
        self.opened.set_result(None)

    def _wrong(self, head: bytes) -> ConnectorError | None:
        """What speaks against the answer to our upgrade, or None (RFC 6455, 4.1; MQTT 5, 6)."""
        first, *lines = head.decode("latin-1").split("\r\n")
        code = first.partition(" ")[2][:3]
        status = int(code) if code.isdigit() else 0
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if status in NO_ENTRY:
            return RefusedError(f"the server does not let us in: {first[:100]}")
        if status != SWITCHING:
            return NotConnectedError(f"{self._path} is no WebSocket of a broker ({first[:100]!r}): see the URL's path")
        wanted = base64.b64encode(hashlib.sha1(self._key + GUID).digest()).decode()  # noqa: S324 - as RFC 6455 says
        if fields.get("sec-websocket-accept") != wanted:
            return NotConnectedError("the server did not understand the upgrade to WebSocket")
        if fields.get("sec-websocket-protocol") != "mqtt":
            return NotConnectedError("the server speaks WebSocket, but not MQTT on it")
        return None

    def _fail(self, error: ConnectorError) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
        if self._transport is not None:
            self._transport.abort()

    def _unframe(self) -> None:
        while self._raw:
            if self._left:
                some = bytes(self._raw[: self._left])
                del self._raw[: len(some)]
                self._left -= len(some)
                self._wire.data_received(some)
            elif not self._next():
                return

    def _next(self) -> bool:
        """Read the head of one frame, and a control frame whole; False until enough has come, or when it is the end."""
        raw = self._raw
        if len(raw) < 2:  # noqa: PLR2004 - the shortest head
            return False
        code, size, head = raw[0] & 0x0F, raw[1], 2
        if size in (LENGTH_16, LENGTH_64):
            head += 2 if size == LENGTH_16 else 8
            if len(raw) < head:
                return False
            size = int.from_bytes(raw[2:head])
        if size >= 2**63 or raw[1] & MASKED or code not in (CONTINUATION, BINARY, CLOSE, PING, PONG):
            self._end()
            return False
        if code in (CONTINUATION, BINARY):
            del raw[:head]
            self._left = size
            return True
        return self._control(code, size, head)

    def _control(self, code: int, size: int, head: int) -> bool:
        if size > SHORT or code == CLOSE:
            self._end()
            return False
        if len(self._raw) < head + size:
            return False
        body = bytes(self._raw[head : head + size])
        del self._raw[: head + size]
        if code == PING and self._transport is not None:
            self._transport.write(frame(PONG, body))
        return True

    def _end(self) -> None:
        """The peer ends it, or sends what is no WebSocket."""
        self._raw.clear()
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if not self.opened.done():
            why = f"closed before the upgrade to WebSocket: {exc or 'no reason given'}"
            self.opened.set_exception(NotConnectedError(why))
        self._wire.connection_lost(exc)

    def pause_writing(self) -> None:
        """Called by asyncio."""
        self._wire.pause_writing()

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._wire.resume_writing()
