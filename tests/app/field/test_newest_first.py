"""Catching up newest first: the newest windows go to the workers before those behind, and all of them go once."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.db import writing
from app.gateway import Gateway
from app.pipelines.tables import PipelineVersionRow
from app.settings import Settings
from tests.app.field.doubles import SECOND
from tests.app.field.test_gateway import SPEC, Plant, Worker, _ends, _sequences, running
from tests.waiting import wait_for

FLIGHT = 4
BACKLOG = 60


def _settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(data_dir=tmp_path, database_url=database_url, in_flight_batches=FLIGHT)


def _choose(engine: Engine, catch_up: str) -> None:
    with writing(engine) as session:
        session.get_one(PipelineVersionRow, 1).spec = {**SPEC, "catch_up": catch_up}


async def _held_up(plant: Plant, gateway: Gateway) -> None:
    """More than a few flights lie in the journal, and no worker takes them."""
    plant.feed(BACKLOG)
    await wait_for(lambda: gateway.journal.head.number >= BACKLOG, 20)
    await wait_for(lambda: bool(gateway.dispatcher.unsent()), 20)


async def _all(worker: Worker, plant: Plant, windows: int) -> None:
    worker.start()
    try:
        await wait_for(lambda: len(_ends(worker)) >= windows, 60)
        await wait_for(lambda: plant.account()[1] == 2 * plant.sent, 60)
    finally:
        worker.stop.set()
        await asyncio.to_thread(worker.join)


@pytest.mark.parametrize("catch_up", ["newest_first", "in_order"])
async def test_the_newest_are_answered_before_those_behind(
    plant: Plant, redis: str, tmp_path: Path, database_url: str, catch_up: str
) -> None:
    """What was on its way goes first, then the newest, then the rest; each window once, with the number it has."""
    _choose(plant.engine, catch_up)
    worker = Worker(redis, plant.engine)
    async with running(plant, redis, _settings(tmp_path, database_url)) as gateway:
        await _held_up(plant, gateway)
        await _all(worker, plant, BACKLOG - 1)
        await wait_for(lambda: gateway.dispatcher.safe() == gateway.journal.head, 20)
    numbers, ends = _sequences(worker), _ends(worker)
    assert sorted(numbers) == list(range(1, BACKLOG))
    assert [end for _, end in sorted(zip(numbers, ends, strict=True))] == sorted(ends)
    newest = numbers.index(max(numbers))
    if catch_up == "newest_first":
        assert newest <= 4 * FLIGHT
        # Once for each time that it went to the newest.
        assert 1 <= sum(later < one for one, later in pairwise(numbers)) <= 3
    else:
        assert numbers == sorted(numbers)
    assert max(ends) == plant.start + plant.sent * SECOND


async def test_what_comes_meanwhile_does_not_wait(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """A gateway that starts behind answers what it reads now before what it finds; killed in between, all go once."""
    _choose(plant.engine, "newest_first")
    chosen, first, second = _settings(tmp_path, database_url), Worker(redis, plant.engine), Worker(redis, plant.engine)
    async with running(plant, redis, chosen) as gateway:
        await _held_up(plant, gateway)
    async with running(plant, redis, chosen) as gateway:
        await wait_for(gateway.dispatcher.busy, 20)
        plant.feed(5)
        await wait_for(lambda: gateway.journal.head.number >= 5, 20)
        first.start()
        await wait_for(lambda: max(_ends(first), default=0) == plant.start + plant.sent * SECOND, 30)
        early = len(_ends(first))
        first.stop.set()
        await asyncio.to_thread(first.join)
    assert early < BACKLOG // 2
    second.messages += first.messages
    async with running(plant, redis, chosen) as gateway:
        await _all(second, plant, BACKLOG + 4)
        await wait_for(lambda: gateway.dispatcher.safe() == gateway.journal.head, 20)
    numbers = _sequences(second)
    assert sorted(set(numbers)) == list(range(1, BACKLOG + 5))
