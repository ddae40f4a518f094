"""Health checks: `python -m app.launcher.alive gateway|worker|beat|api` ends with 0, or says what is wrong and why.

Each asks from outside what only a working process keeps true, without loading what the process itself loads.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import unquote, urlsplit

from app.launcher.probes import command, http_answers
from app.settings import Settings, settings

ANSWER_S: Final = 3.0
LIVE_MS: Final = 60_000
"""How long a gateway's figures live after it has written them (`app.queue.LIVE_TTL_S`)."""
FRESH_MS: Final = 15_000
SCHEDULE_FRESH_S: Final = 900
"""Celery's beat writes its schedule down every three minutes."""
MAX_ANSWER: Final = 1 << 20
WILDCARDS: Final = frozenset(("0.0.0.0", "::", ""))  # noqa: S104 - compared with, not listened on

Redis = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def main() -> int:
    """Exit status 0 when the process named on the command line works."""
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:  # noqa: PLR2004 - one argument
        sys.stderr.write(f"one of {', '.join(CHECKS)} is to be checked\n")
        return 2
    wrong = asyncio.run(_asked(CHECKS[sys.argv[1]]))
    sys.stderr.write(f"{wrong}\n" if wrong else "")
    return 1 if wrong else 0


async def _asked(check: Callable[[Settings], Awaitable[str]]) -> str:
    try:
        return await asyncio.wait_for(check(settings()), ANSWER_S)
    except (OSError, EOFError, TimeoutError, ValueError) as error:
        return f"no answer: {type(error).__name__}"


async def gateway(chosen: Settings) -> str:
    """It has written its live figures within the last seconds."""
    answer = await _redis(chosen, "PTTL", f"headrace:gateway:{chosen.gateway_id}")
    left_ms = int(answer[1:])
    return "" if left_ms > LIVE_MS - FRESH_MS else "the gateway has written no live figures within the last seconds"


async def worker(chosen: Settings) -> str:
    """A client from this address other than ourselves holds a connection to the queue."""
    ourselves = _fields(await _redis(chosen, "CLIENT", "INFO"))
    host = ourselves.get("addr", "").rpartition(":")[0]
    clients = (await _redis(chosen, "CLIENT", "LIST", "TYPE", "normal")).splitlines()
    others = (c for c in map(_fields, clients) if c.get("addr", "").rpartition(":")[0] == host)
    return (
        "" if any(c.get("cmd") != "client|list" for c in others) else "no worker of this host is connected to the queue"
    )


async def beat(chosen: Settings) -> str:
    """Its schedule has been written down within the last minutes."""
    found = [p.stat().st_mtime for p in chosen.data_dir.glob("beat-schedule*")]
    return "" if found and time.time() - max(found) < SCHEDULE_FRESH_S else "beat has not written its schedule lately"


async def api(chosen: Settings) -> str:
    """It answers."""
    host = "127.0.0.1" if chosen.api_host in WILDCARDS else chosen.api_host
    return "" if await http_answers(chosen.api_port, "/healthz", host)() else "the API does not answer with 200"


async def _redis(chosen: Settings, *words: str) -> str:
    """The answer of Redis to one command. OSError, EOFError, ValueError."""
    if chosen.redis_url is None:
        message = "no queue is configured"
        raise ValueError(message)
    url = urlsplit(chosen.redis_url.get_secret_value())
    secure = ssl.create_default_context() if url.scheme == "rediss" else None
    reader, writer = await asyncio.open_connection(url.hostname, url.port or 6379, ssl=secure, limit=MAX_ANSWER)
    try:
        if url.password:
            writer.write(command("AUTH", *((unquote(url.username),) if url.username else ()), unquote(url.password)))
            await _answer(reader)
        writer.write(command(*words))
        return await _answer(reader)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> str:
    """One answer of RESP2: a line, or a text of announced length."""
    line = (await reader.readuntil(b"\r\n")).decode().rstrip("\r\n")
    if line.startswith("-"):
        message = "Redis refuses"
        raise ValueError(message)
    if not line.startswith("$"):
        return line
    length = int(line[1:])
    if not 0 <= length <= MAX_ANSWER:
        message = f"an answer of {length} bytes"
        raise ValueError(message)
    return (await reader.readexactly(length + 2)).decode()


def _fields(line: str) -> dict[str, str]:
    """`a=1 b=2` as Redis describes a client."""
    return {name: value for name, _, value in (word.partition("=") for word in line.split())}


CHECKS: Final = {"gateway": gateway, "worker": worker, "beat": beat, "api": api}


if __name__ == "__main__":
    sys.exit(main())
