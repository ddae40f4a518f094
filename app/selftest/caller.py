"""Somebody who uses the API of a box: what it has confirmed to him must be there after a power cut, too."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

import msgspec

ANSWER_S: Final = 20.0


class _Issued(msgspec.Struct):
    token: str


class Caller:
    """Logs in, again and again: each log-in is a commit of the API that nobody makes a second time."""

    def __init__(self, port: int, password: str) -> None:
        """Of `admin`. Nothing is asked yet."""
        self._port, self._password = port, password
        self._tokens: list[str] = []

    async def log_in(self) -> None:
        """Nothing is expected of a log-in that was not confirmed. Raises OSError, also when no answer comes in time."""
        body = msgspec.json.encode({"name": "admin", "password": self._password})
        status, answer = await self._asked("POST /api/v1/session", "Content-Type: application/json", body)
        if status == HTTPStatus.CREATED:
            self._tokens.append(msgspec.json.decode(answer, type=_Issued).token)

    async def forgotten(self) -> int:
        """How many of the log-ins that were confirmed the API does not know. Raises OSError."""
        answers = [await self._asked("GET /api/v1/me", f"Authorization: Bearer {one}", b"") for one in self._tokens]
        return sum(status == HTTPStatus.UNAUTHORIZED for status, _ in answers)

    async def _asked(self, what: str, header: str, body: bytes) -> tuple[int, bytes]:
        """Status and body."""
        head = f"{what} HTTP/1.0\r\nHost: 127.0.0.1\r\n{header}\r\nContent-Length: {len(body)}\r\n\r\n"
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                writer.write(head.encode() + body)
                answer = await reader.read()
            finally:
                writer.close()
        told, _, content = answer.partition(b"\r\n\r\n")
        words = told.split()
        return int(words[1]) if len(words) > 1 else 0, content
