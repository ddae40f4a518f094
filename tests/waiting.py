"""Waiting for what must come, with an end: the one place where tests let time pass."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

POLL_S = 0.02

T = TypeVar("T")


@overload
async def wait_for(condition: Callable[[], Coroutine[Any, Any, T]], timeout_s: float = ..., what: str = ...) -> T: ...
@overload
async def wait_for(condition: Callable[[], T], timeout_s: float = ..., what: str = ...) -> T: ...
async def wait_for(condition: Callable[[], Any], timeout_s: float = 10.0, what: str = "") -> Any:
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
