"""Every kind of outage between the field and the gateway: it recovers by itself, and what is missing is said to be."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from app import times
from app.db import reading
from app.ledger.service import gaps
from app.readings.tables import BatchRow
from app.sources.tables import ConnectionRow
from connectors.opcua.resume import FILE
from examples.tep.compare import compare, read_log
from tests.journeys.box import Box, plants, running
from tests.journeys.history import stored
from tests.journeys.test_kills import PLANTS, at_rest
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from examples.ownlog import Entry

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

CONNECTIONS = {"opcua": ("process",), "mqtt": ("analysers", "station")}
LATE_S = 0.2


async def states(box: Box, kind: str) -> set[str]:
    """How the connections of this kind stand."""
    return {one["state"] for one in await box.get("/connections") if one["name"] in CONNECTIONS[kind]}


async def connected(box: Box, kind: str) -> bool:
    """Whether all of them are shown to be connected."""
    return await states(box, kind) == {"connected"}


async def lost(box: Box, kind: str) -> None:
    """Wait until the gateway has noticed."""

    async def all_lost() -> bool:
        return await states(box, kind) == {"lost"}

    await wait_for(all_lost, 30, f"{kind} is seen to be lost")


def newest(box: Box, connection: str) -> int:
    """The newest source time that is stored, ns."""
    with reading(box.engine) as session:
        query = (
            select(func.max(BatchRow.last_time))
            .join(ConnectionRow, ConnectionRow.id == BatchRow.connection_id)
            .where(ConnectionRow.name == connection)
        )
        return session.scalar(query) or 0


async def fresh(box: Box, kind: str) -> None:
    """Wait until something is stored of each connection that happened after now."""
    now = times.now()
    await wait_for(
        lambda: all(newest(box, one) > now for one in CONNECTIONS[kind]), 60, f"new readings over {kind}"
    )


async def cut(box: Box, kind: str) -> None:
    """Every connection is broken and none is taken; then the way is open again."""
    gate = box.gates[kind]
    await gate.cut()
    await lost(box, kind)
    await gate.start()


async def stalled(box: Box, kind: str) -> None:
    """Nothing is closed and nothing comes: the watchdog has to notice. Then all of it flows again."""
    gate = box.gates[kind]
    gate.freeze()
    await lost(box, kind)
    gate.thaw()


async def half_closed(box: Box, kind: str) -> None:
    """The peer's side ends while ours could still send."""
    before = len(box.logged("connection_lost"))
    box.gates[kind].half_close()
    await wait_for(lambda: len(box.logged("connection_lost")) > before, 30, "the end of the peer's side is noticed")


async def delayed(box: Box, kind: str) -> None:
    """Everything comes, late: no connection is lost over it."""
    before = len(box.logged("connection_lost"))
    box.gates[kind].delay_s = LATE_S
    await fresh(box, kind)
    box.gates[kind].delay_s = 0.0
    assert len(box.logged("connection_lost")) == before


def tell(box: Box, figures: list[tuple[str, str, float]], logs: Mapping[str, Mapping[str, list[Entry]]]) -> None:
    """Seconds to recover of each outage; readings sent, stored, and gaps of each connection."""
    for outage, kind, seconds in figures:
        sys.stdout.write(f"\n{outage:12} {kind:6} {seconds:5.1f} s until new readings are stored")
    for name, log in logs.items():
        found = stored(box.engine, name)
        sent, count = compare(log, found).compared, sum(map(len, found.values()))
        sys.stdout.write(f"\n{name:12} sent {sent}, stored {count}, gaps {len(gaps(box.engine, connection=name))}\n")


def missing_outside_gaps(box: Box, connection: str, log: Mapping[str, list[Entry]]) -> list[tuple[str, Entry]]:
    """What the plant published and the gateway has neither stored nor said to be missing."""
    spans = [(one.since, one.until) for one in gaps(box.engine, connection=connection)]
    found = stored(box.engine, connection)
    last = max(entry[0] for entries in found.values() for entry in entries)
    compared = compare(log, found, end=last - 1)
    assert compared.extra == ()
    return [
        (tag, entry)
        for tag, entry in compared.missing
        if not any(since <= entry[0] <= until for since, until in spans)
    ]


async def test_whatever_happens_on_the_way_it_recovers_and_nothing_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut, stalled, half-closed and slow lines to OPC UA and MQTT: nothing is lost, because both peers kept it.

    One line in the log when a connection is lost and one when it is back.
    """
    figures = []
    async with running(folder / "outages", gated=True) as box:
        async with plants(box) as there:
            for kind in CONNECTIONS:
                await fresh(box, kind)
            before = len(box.logged("connection_lost"))
            for outage in (cut, stalled, half_closed, delayed):
                for kind in CONNECTIONS:
                    await outage(box, kind)
                    begin = time.monotonic()
                    await fresh(box, kind)
                    figures.append((outage.__name__, kind, time.monotonic() - begin))
                    await wait_for(partial(connected, box, kind), 10, f"{kind} is shown to be connected")
            losses, returns = len(box.logged("connection_lost")) - before, len(box.logged("connection_back"))
            assert losses == returns == 3 * len(await box.get("/connections")), "three of the outages lose each of them"
        logs = {name: read_log(there.log / plant) for name, plant in PLANTS.items()}
        await wait_for(lambda: at_rest(box), 30, "the ledger balances with nothing held")
        with capsys.disabled():
            tell(box, figures, logs)
        for name, log in logs.items():
            assert gaps(box.engine, connection=name) == [], name
            assert missing_outside_gaps(box, name, log) == [], name


async def test_what_a_peer_could_not_keep_is_a_gap(folder: Path) -> None:
    """A gateway that was killed and cannot take up its session says from when to when; nothing else is missing."""
    async with running(folder / "gap") as box:
        async with plants(box) as there:
            await fresh(box, "opcua")
            for kept in (box.data / "connections").glob(f"*/{FILE}"):
                kept.unlink()
            began = times.now()
            await box.kill("gateway")
            await fresh(box, "opcua")
            (gap,) = await box.items("/gaps", connection="process")
        log = read_log(there.log / "tep")
        await wait_for(lambda: at_rest(box), 30, "the ledger balances with nothing held")
        assert abs(times.parse_time(gap["since"]) - began) < 3 * times.NANOS
        assert times.parse_time(gap["until"]) > began
        assert 0 < gap["seconds"] < 60
        assert missing_outside_gaps(box, "process", log) == []
        assert gaps(box.engine, connection="analysers") == gaps(box.engine, connection="station") == []
