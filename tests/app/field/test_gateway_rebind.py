"""One more tag on a running plant: `headrace apply`, a running gateway and a real OPC UA server whose session stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from asyncua import ua

from app.db import upgrade
from app.field.runner import Standing
from app.gateway import Gateway
from app.journal import Journal, Position
from app.queue import Door
from app.records import decode_columns
from app.settings import Settings
from tests.app.commands.process import headrace
from tests.connectors.opcua_plant import URI, Plant, opcua_plant
from tests.waiting import wait_for

LINE = '  - {{name: {name}, connection: press, datatype: {datatype}, address: "nsu={uri};s={node}"}}\n'
HEAD = """\
version: 1
plant: {{enterprise: e, site: s}}
connections:
  - name: press
    connector: opcua
    options: {{url: "{url}", security: None, publishing_interval_ms: 20, queue_size: 1000}}
tags:
"""


@pytest.fixture
async def press(tmp_path: Path) -> AsyncIterator[Plant]:
    """A server that anybody may read."""
    async with opcua_plant(tmp_path / "plant", [ua.SecurityPolicyType.NoSecurity]) as running:
        yield running


def plant_file(folder: Path, press: Plant, *tags: tuple[str, str, str]) -> Path:
    """A plant file with tags of (name, node, datatype)."""
    lines = [LINE.format(name=name, node=node, datatype=kind, uri=URI) for name, node, kind in tags]
    file = folder / "plant.yaml"
    file.write_text(HEAD.format(url=press.url) + "".join(lines), encoding="utf-8")
    return file


@asynccontextmanager
async def gateway(data: Path, redis_url: str) -> AsyncIterator[Gateway]:
    """A running gateway on this folder."""
    door = Door(redis_url)
    made = await asyncio.to_thread(Gateway, Settings(data_dir=data), door)
    stop = asyncio.Event()
    running = asyncio.create_task(made.run(stop))
    try:
        yield made
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)
        door.close()


async def apply(data: Path, file: Path) -> None:
    """As an engineer does."""
    code, printed, complained = await headrace("--data", str(data), "--lang", "en", "apply", str(file), "--yes")
    assert code == 0, printed + complained


def sessions(press: Plant) -> set[str]:
    """The sessions that clients have at the server."""
    clients = press.server.bserver.clients if press.server.bserver is not None else []
    found = (one.processor.session for one in clients if one.processor)
    return {str(one.session_id) for one in found if one is not None}


def journaled(journal: Journal, tag: int) -> tuple[list[float], list[int]]:
    """Values of a tag in order, and the revision each was read under."""
    values, revisions, position = list[float](), list[int](), Position(journal.epoch, 0)
    while entries := journal.read_after(position):
        position = entries[-1].position
        for record in (one.record for one in entries if one.record is not None and one.record.count):
            tags, _, numbers, *_ = decode_columns(record.columns)
            found = numbers[tags == tag].tolist()
            values += found
            revisions += [record.revision] * len(found)
    return values, revisions


async def count_up(press: Plant, enough: asyncio.Event) -> int:
    """`Level` counts, a thousand times a second, until it is enough; returns how far it came."""
    number = 0
    while not enough.is_set():
        for _ in range(5):
            number += 1
            await press.write("Level", float(number))
        await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=0.005)
    return number


async def test_one_more_tag_costs_no_reconnect(press: Plant, redis_url: str, tmp_path: Path) -> None:
    """The session and the subscription stay, what flows goes on without a gap, and the new tag has its first value."""
    data = tmp_path / "box"
    data.mkdir()
    upgrade(Settings(data_dir=data).database())
    level, count = ("level", "Level", "float"), ("count", "Count", "integer")
    await press.write("Level", 0.0)
    await apply(data, plant_file(tmp_path, press, level))
    async with gateway(data, redis_url) as running:
        await wait_for(lambda: 1 in running.follower.standings, 20)
        standing: Standing = running.follower.standings[1]
        await wait_for(lambda: standing.state == "connected" and standing.readings, 20)
        before, held = sessions(press), set(press.subscriptions())
        assert len(before) == len(held) == 1
        enough = asyncio.Event()
        counting = asyncio.create_task(count_up(press, enough))
        await wait_for(lambda: standing.readings > 100, 20)
        await press.write("Count", 41)
        await apply(data, plant_file(tmp_path, press, level, count))
        await wait_for(lambda: 41.0 in journaled(running.journal, 2)[0], 20)
        at = standing.readings
        await wait_for(lambda: standing.readings > at + 100, 20)
        assert (sessions(press), set(press.subscriptions())) == (before, held)
        enough.set()
        end = float(await counting)
        await wait_for(lambda: end in journaled(running.journal, 1)[0], 20)
        values, revisions = journaled(running.journal, 1)
        assert values == [float(n) for n in range(int(end) + 1)]
        old, new = revisions[0], revisions[-1]
        assert (new, revisions) == (old + 1, sorted(revisions))
        assert journaled(running.journal, 2) == ([41.0], [new])
        assert (standing.reconnects, standing.state) == (0, "connected")
        await apply(data, plant_file(tmp_path, press, count))
        await wait_for(lambda: running.follower.revision_of(1) == new + 1, 20)
        await press.write("Level", -1.0)
        await press.write("Count", 42)
        await wait_for(lambda: journaled(running.journal, 2) == ([41.0, 42.0], [new, new + 1]), 20)
        assert sessions(press) == before
