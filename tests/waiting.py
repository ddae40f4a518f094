"""Waiting for what must come, with an end: the one place where tests let time pass."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

POLL_S = 0.02

T = TypeVar("T")


async def wait_for(condition: Callable[[], T | Awaitable[T]], timeout_s: float = 10.0, what: str = "") -> T:
    """Ask `condition` until its answer is true; return that answer. TimeoutError with `what` if it never is."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        found = await answer if inspect.isawaitable(answer) else answer
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(_never(condition, timeout_s, what))
        await asyncio.sleep(POLL_S)


def wait_until(condition: Callable[[], T], timeout_s: float = 10.0, what: str = "") -> T:
    """`wait_for` where there is no event loop."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(_never(condition, timeout_s, what))
        time.sleep(POLL_S)
    return found


def _never(condition: object, timeout_s: float, what: str) -> str:
    return f"not within {timeout_s:g} s: {what or getattr(condition, '__name__', condition)}"
