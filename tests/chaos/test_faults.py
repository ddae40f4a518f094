"""How faults are done: each has an action, and one that takes longer than planned is waited for."""

from __future__ import annotations

import asyncio

from app.selftest.faults import ACTIONS, Holds
from app.selftest.schedule import KINDS
from tests.waiting import wait_for


def test_somebody_can_do_each_fault() -> None:
    """No kind is without its action, no action without its kind."""
    assert set(ACTIONS) == {one.name for one in KINDS}


async def test_what_shares_something_waits_and_the_rest_does_not() -> None:
    """A slow host keeps a process down for longer than the schedule thinks: the next fault of it comes later."""
    holds, order, free = Holds(), list[str](), asyncio.Event()

    async def fault(name: str, *takes: str) -> None:
        async with holds.taken(takes):
            order.append(name)
            if name == "first":
                await free.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(fault("first", "gateway", "broker"))
        await wait_for(lambda: order == ["first"])
        group.create_task(fault("same", "device", "gateway"))
        group.create_task(fault("other", "worker"))
        await wait_for(lambda: len(order) == 2)
        free.set()
    assert order == ["first", "other", "same"]
