"""Every kind of outage between the field and the gateway: it recovers by itself, and what is missing is said to be."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from app import times
from app.ledger.service import gaps
from connectors.opcua.resume import FILE
from examples.tep.compare import compare, read_log
from tests.journeys.box import Box, plants, running
from tests.journeys.history import stored
from tests.journeys.outages import Report, Way, cut, delayed, half_closed, stalled
from tests.journeys.test_kills import PLANTS, at_rest
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from examples.ownlog import Entry

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

CONNECTIONS = {"opcua": ("process",), "mqtt": ("analysers", "station")}


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
    async with running(folder / "outages", gated=True) as box:
        ways = [Way(box, names, box.gates[kind]) for kind, names in CONNECTIONS.items()]
        async with plants(box) as there:
            for way in ways:
                await way.fresh()
            before = ways[0].losses()
            logs = {name: partial(read_log, there.log / plant) for name, plant in PLANTS.items()}
            report = Report(box, logs)
            for outage in (cut, stalled, half_closed, delayed):
                for way in ways:
                    await report.tried(outage, way)
                    await way.reached("connected")
            losses, returns = ways[0].losses() - before, len(box.logged("connection_back"))
            assert losses == returns == 3 * len(await box.get("/connections")), "three of the outages lose each of them"
        await wait_for(lambda: at_rest(box), 30, "the ledger balances with nothing held")
        with capsys.disabled():
            report.tell()
        for name, log in logs.items():
            assert gaps(box.engine, connection=name) == [], name
            assert missing_outside_gaps(box, name, log()) == [], name


async def test_what_a_peer_could_not_keep_is_a_gap(folder: Path) -> None:
    """A gateway that was killed and cannot take up its session says from when to when; nothing else is missing."""
    async with running(folder / "gap") as box:
        async with plants(box) as there:
            way = Way(box, ("process",))
            await way.fresh()
            for kept in (box.data / "connections").glob(f"*/{FILE}"):
                kept.unlink()
            began = times.now()
            await box.kill("gateway")
            await way.fresh()
            (gap,) = await box.items("/gaps", connection="process")
        log = read_log(there.log / "tep")
        await wait_for(lambda: at_rest(box), 30, "the ledger balances with nothing held")
        assert abs(times.parse_time(gap["since"]) - began) < 3 * times.NANOS
        assert times.parse_time(gap["until"]) > began
        assert 0 < gap["seconds"] < 60
        assert missing_outside_gaps(box, "process", log) == []
        assert gaps(box.engine, connection="analysers") == gaps(box.engine, connection="station") == []
