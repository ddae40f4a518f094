"""Asks a server whether it serves, in its own protocol: a port that is open is no server yet."""

from __future__ import annotations

import asyncio
import secrets
import struct
from typing import TYPE_CHECKING, Final

from app.launcher.process import Probe

if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER_S: Final = 2.0
"""Longer than this is no answer."""
KEEPALIVE_S: Final = 5
CONNACK_ACCEPTED: Final = b"\x20\x02\x00\x00"
"""MQTT 3.1.1, section 3.2: no session present, connection accepted."""


def redis_answers(port: int, password: str) -> Probe:
    """AUTH and PING over RESP2: +OK, +PONG."""
    request = command("AUTH", password) + command("PING")
    return _exchange(port, request, b"+OK\r\n+PONG\r\n")


def mqtt_answers(port: int, user: str | None, password: str | None) -> Probe:
    """CONNECT with a clean session, CONNACK, DISCONNECT (MQTT 3.1.1, sections 3.1, 3.2 and 3.14)."""
    return _exchange(port, _connect(user, password), CONNACK_ACCEPTED, b"\xe0\x00")


def http_answers(port: int, path: str, host: str = "127.0.0.1") -> Probe:
    """GET answers with status 200."""
    request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()

    async def ask() -> bool:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(request)
            line = await asyncio.wait_for(reader.readline(), ANSWER_S)
            return line.split(b" ")[1:2] == [b"200"]
        finally:
            writer.close()

    return ask


def listens(port: int) -> Probe:
    """Somebody listens on this port of 127.0.0.1; for servers of protocols that we do not ask in."""

    async def ask() -> bool:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True

    return ask


def postgres_answers(url: str) -> Probe:
    """SELECT 1."""
    # Loaded only where PostgreSQL is in use: it costs 60 ms.
    import psycopg  # noqa: PLC0415

    async def ask() -> bool:
        try:
            async with await psycopg.AsyncConnection.connect(url, connect_timeout=2) as connection:
                await connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    return ask


def _exchange(port: int, request: bytes, expected: bytes, goodbye: bytes = b"") -> Probe:
    async def ask() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            answer = await asyncio.wait_for(reader.readexactly(len(expected)), ANSWER_S)
            writer.write(goodbye)
            return answer == expected
        finally:
            writer.close()

    return ask


def command(*words: str) -> bytes:
    """A command as Redis reads it (RESP2: an array of bulk strings)."""
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(w.encode())}\r\n{w}\r\n".encode() for w in words)


def _connect(user: str | None, password: str | None) -> bytes:
    flags = 0x02 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    texts: Sequence[str] = [t for t in (f"probe-{secrets.token_hex(6)}", user, password) if t is not None]
    payload = b"".join(struct.pack(">H", len(t.encode())) + t.encode() for t in texts)
    body = struct.pack(">H4sBBH", 4, b"MQTT", 4, flags, KEEPALIVE_S) + payload
    if len(body) > 0x7F:  # noqa: PLR2004 - the largest remaining length that fits one byte
        message = "user name and password of a broker must be shorter than 100 bytes together"
        raise ValueError(message)
    return bytes((0x10, len(body))) + body
