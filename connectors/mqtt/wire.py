"""An asyncio transport under paho, which sees a socket: MQTT packets come whole, none larger than allowed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

PINGREQ: Final = b"\xc0\x00"
PUBLISH: Final = 0x30
TYPE_BITS: Final = 0xF0
LENGTH_BYTES: Final = 4
"""The remaining length has at most this many bytes (MQTT 5, 1.5.5)."""
MORE: Final = 0x80
FLUSH_BYTES: Final = 65_536


class Wire(asyncio.Protocol):
    """One connection. paho reads complete packets from it with `recv` and writes with `send`, neither of which blocks.

    `on_packets` is called when packets can be read, `on_lost` once when the connection has ended, `on_oversize` with
    topic, message id, QoS and size of a PUBLISH that is too large and was skipped.
    """

    def __init__(
        self,
        most_bytes: int,
        on_packets: Callable[[], None],
        on_lost: Callable[[Exception | None], None],
        on_oversize: Callable[[str, int, int, int], None],
    ) -> None:
        """`most_bytes` is the largest packet handed on."""
        self._most = most_bytes
        self._on_packets, self._on_lost, self._on_oversize = on_packets, on_lost, on_oversize
        self._transport: asyncio.Transport | None = None
        self._raw = bytearray()
        self._skip = 0
        self._ready = bytearray()
        self._read_at = 0
        self._unsent = bytearray()
        self._full = False
        self._paused = False
        self._ended = False
        self._leaving = False
        self._gone = asyncio.Event()
        self.heard = time.monotonic()
        self.bytes_received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._leaving:
            return
        self.heard = time.monotonic()
        self.bytes_received += len(data)
        self._raw += data
        self._cut()
        self._hand_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._ended = True
        self._transport = None
        self._gone.set()
        self._on_lost(exc)

    def pause_writing(self) -> None:
        """Called by asyncio when much is waiting to be sent."""
        self._full = True

    def resume_writing(self) -> None:
        """Called by asyncio when there is room again."""
        self._full = False
        self._on_packets()

    def _cut(self) -> None:
        """Move whole packets from what has arrived to what paho may read."""
        at = min(self._skip, len(self._raw))
        self._skip -= at
        while (header := _header(self._raw, at)) is not None:
            size, length = header
            if length < 0:
                self.close()
                break
            if size + length > self._most:
                taken = self._oversize(at, size, length)
                if taken == 0:
                    break
                at += taken
            elif at + size + length > len(self._raw):
                break
            else:
                self._ready += self._raw[at : at + size + length]
                at += size + length
        del self._raw[:at]

    def _oversize(self, at: int, size: int, length: int) -> int:
        """Report and skip a packet that is too large; 0 while its beginning has not arrived yet."""
        start, kind = at + size, self._raw[at]
        if kind & TYPE_BITS != PUBLISH:
            self.close()
            return 0
        if len(self._raw) < start + 2:
            return 0
        topic_end = start + 2 + int.from_bytes(self._raw[start : start + 2], "big")
        if len(self._raw) < topic_end + 2:
            return 0
        topic = self._raw[start + 2 : topic_end].decode(errors="replace")
        qos = (kind >> 1) & 3
        mid = int.from_bytes(self._raw[topic_end : topic_end + 2], "big") if qos else 0
        self._on_oversize(topic, mid, qos, length)
        here = min(size + length, len(self._raw) - at)
        self._skip = size + length - here
        return here

    def _hand_on(self) -> None:
        if not self._paused and self.has_packets:
            self._on_packets()

    @property
    def has_packets(self) -> bool:
        """Whether `recv` has something to give."""
        return self._read_at < len(self._ready)

    @property
    def paused(self) -> bool:
        """Whether reading stands still."""
        return self._paused

    def pause(self) -> None:
        """Read no more from the peer."""
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            self.heard = time.monotonic()
            if self._transport is not None:
                self._transport.resume_reading()
            self._hand_on()

    def ping(self) -> None:
        """Ask for a sign of life (MQTT 5, 3.12)."""
        if self._transport is not None and not self._full:
            self.send(PINGREQ)

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; BlockingIOError when there are none, b"" once the connection has ended."""
        chunk = bytes(self._ready[self._read_at : self._read_at + size])
        self._read_at += len(chunk)
        if self._read_at == len(self._ready):
            self._ready.clear()
            self._read_at = 0
        if not chunk and not self._ended:
            raise BlockingIOError
        return chunk

    def send(self, data: bytes | bytearray) -> int:
        """Send soon, all of this turn of the loop in one system call; BlockingIOError while too much is waiting."""
        if self._transport is None:
            raise ConnectionResetError
        if self._full:
            raise BlockingIOError
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent += data
        if len(self._unsent) >= FLUSH_BYTES:
            self._flush()
        return len(data)

    def _flush(self) -> None:
        if self._unsent and self._transport is not None:
            self._transport.write(bytes(self._unsent))
        self._unsent.clear()

    def leave(self) -> None:
        """From now on take nothing and do not close: the last words are being written."""
        self._leaving = True
        if self._transport is not None:
            self._transport.resume_reading()

    async def left(self, within_s: float) -> None:
        """Send the last words and wait until the peer has read them and closes; then close whether it did or not.

        A broker that finds us connected again before it has read what came with the goodbye throws that away.
        """
        self._flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._gone.wait()
        self._leaving = False
        self.close()

    def close(self) -> None:
        """Close once what was written has been sent."""
        if self._transport is not None and not self._leaving:
            self._flush()
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def fileno(self) -> int:
        """Paho wants one to select on, which it never does here."""
        return -1

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket's own signature
        """Nothing here ever blocks."""


def _header(raw: bytearray, at: int) -> tuple[int, int] | None:
    """Size of the fixed header and remaining length of the packet at `at`; None until it is there, -1 if malformed."""
    length = 0
    for n in range(LENGTH_BYTES):
        if at + 1 + n >= len(raw):
            return None
        byte = raw[at + 1 + n]
        length |= (byte & ~MORE) << (7 * n)
        if not byte & MORE:
            return n + 2, length
    return LENGTH_BYTES + 1, -1
