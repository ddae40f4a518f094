"""The publisher against a real outbox: it looks when it is told to, not only when it is time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.errors import QueueError
from app.field.publisher import Publisher
from app.northbound.service import subscriptions
from tests.app.field.doubles import Consumer, Plug
from tests.app.northbound.test_outbox import MES, put
from tests.app.works import Works
from tests.waiting import wait_for

NEVER_S = 3600.0


@pytest.fixture
def works(tmp_path: Path) -> Works:
    """An outbox."""
    return Works(f"sqlite:///{tmp_path / 'outbox.db'}", tmp_path)


@asynccontextmanager
async def publishing(works: Works, bell: asyncio.Queue[Exception | None]) -> AsyncIterator[Consumer]:
    """A publisher that never looks of its own accord, and its connected consumer."""
    consumer = Consumer()
    consumer.up.set()

    async def rung() -> None:
        said = await bell.get()
        if said is not None:
            raise said

    load = Plug(sinks={"mes": consumer}).load
    made = Publisher(
        works.engine, str(works.folder), lambda *_: None, rung=rung, load=load, cap_s=0.01, look_s=NEVER_S
    )
    await made.configure({MES: subscriptions(works.engine)[MES]}, {})
    await wait_for(lambda: made.outlets["mes"].ready)
    task = asyncio.create_task(made.run())
    try:
        yield consumer
    finally:
        task.cancel()
        await asyncio.wait([task])
        works.close()


async def test_what_is_announced_goes_out_at_once(works: Works) -> None:
    """Each ring is a look; an outlet that is done asks for another by itself."""
    bell: asyncio.Queue[Exception | None] = asyncio.Queue()
    async with publishing(works, bell) as consumer:
        put(works, MES, 1)
        bell.put_nowait(None)
        await wait_for(lambda: consumer.ids() == ["p1"])
        put(works, MES, 2)
        bell.put_nowait(None)
        await wait_for(lambda: consumer.ids() == ["p1", "p2"])


async def test_a_bell_that_was_not_heard_is_no_reason_to_wait(works: Works) -> None:
    """When it cannot be heard something may have been missed: look, and listen again."""
    bell: asyncio.Queue[Exception | None] = asyncio.Queue()
    async with publishing(works, bell) as consumer:
        put(works, MES, 1)
        bell.put_nowait(QueueError("Redis is away"))
        await wait_for(lambda: consumer.ids() == ["p1"])
        put(works, MES, 2)
        bell.put_nowait(None)
        await wait_for(lambda: consumer.ids() == ["p1", "p2"])


async def test_a_fault_of_the_bell_ends_the_publisher(works: Works) -> None:
    """It is not swallowed: the process ends with its traceback and is started again."""
    bell: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def rung() -> None:
        said = await bell.get()
        assert said is not None
        raise said

    made = Publisher(
        works.engine, str(works.folder), lambda *_: None, rung=rung, load=Plug().load, cap_s=0.01, look_s=0.01
    )
    task = asyncio.create_task(made.run())
    bell.put_nowait(RuntimeError("a fault of ours"))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await asyncio.wait_for(task, 10)
    works.close()
