"""Calls that block, in a thread: whoever is cancelled waits for the call to end, so that nothing is left half used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def blocking(
    call: Callable[Parameters, Result], *arguments: Parameters.args, **named: Parameters.kwargs
) -> Result:
    """Run the call in a thread of the loop's.

    A call to the database that were left behind on cancellation would keep its connection when the engine is closed.
    """
    work = asyncio.get_running_loop().run_in_executor(None, partial(call, *arguments, **named))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
