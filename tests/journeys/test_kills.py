"""kill -9 of worker, Redis and gateway while the plants run: what is stored equals what the plants published."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from app import times
from app.db import reading
from app.history.tables import ChunkRow
from app.sources.tables import ConnectionRow, TagRow
from examples.tep.compare import Comparison, compare, read_log
from tests.examples.peers import Listener
from tests.journeys.box import Box, plants, running
from tests.journeys.history import stored, twice, windows
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from examples.ownlog import Entry

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

KILLED = ("worker", "redis", "gateway", "worker", "gateway")
ENOUGH = 500
"""Readings of each connection, so that equality means something."""
RETAINED = {"state"}
"""A broker sends a retained message again to whoever subscribes again, so that a new reading of it is no repeat."""
PLANTS = {"process": "tep", "analysers": "tep", "station": "station"}


async def predicts(box: Box) -> None:
    """Wait until a window that closed after now has its prediction."""
    now = times.rfc3339(times.now())

    async def newer() -> bool:
        found = await box.items("/predictions", pipeline="tep-faults", refused="false")
        return any(one["passport"]["received"] > now for one in found[:5])

    await wait_for(newer, 60, "a prediction of now")


def held_against(box: Box, connection: str, log: Mapping[str, list[Entry]]) -> Comparison:
    """What is stored of a connection against its plant's log.

    A server that stops does not publish its last changes: of OPC UA the last instant that arrived is left out.
    """
    found = stored(box.engine, connection)
    last = max(entry[0] for entries in found.values() for entry in entries)
    return compare(log, found, end=last - 1 if connection == "process" else None)


async def at_rest(box: Box) -> bool:
    """Whether every account balances with nothing held, and nothing waits to be published."""
    accounts = (await box.get("/ledger"))["connections"]
    return bool(accounts) and all(one["balanced"] and one["held"] == 0 for one in accounts)


async def counted(box: Box, connection: str) -> bool:
    """Whether the ledger, which is written once in a while, says of a connection what is stored of it."""
    account, entries = await box.account(connection), stored(box.engine, connection).values()
    return bool(account["read"] == account["stored"] == sum(map(len, entries)))


def at_places(box: Box, connection: str) -> dict[str, int]:
    """How many readings are stored of the one place where all tags of a connection are, counted in the history."""
    mine = select(TagRow.place).join(ConnectionRow, ConnectionRow.id == TagRow.connection_id)
    with reading(box.engine) as session:
        (place,) = session.scalars(mine.where(ConnectionRow.name == connection).distinct())
    return {place: sum(map(len, stored(box.engine, connection).values()))}


async def enough(box: Box) -> bool:
    """Whether so many readings of each plant are stored that equality means something."""
    accounts = [await box.account(name) for name in PLANTS]
    return all(one["stored"] > ENOUGH for one in accounts)


async def compacted(box: Box) -> bool:
    """Whether some of what is stored lies in chunks."""
    with reading(box.engine) as session:
        return session.scalar(select(ChunkRow.id).limit(1)) is not None


def published(listener: Listener) -> set[str]:
    """The ids of the predictions that have arrived over MQTT; one may arrive more than once."""
    bodies = []
    while not listener.messages.empty():
        topic, body = listener.messages.get_nowait()
        if "/prediction/" in topic:
            bodies.append(json.loads(body)["id"])
    return set(bodies)


async def until_equal(box: Box, logs: Mapping[str, Mapping[str, list[Entry]]]) -> dict[str, Comparison]:
    """Each connection against its log, once nothing is missing any more, or after a while."""

    def compared() -> dict[str, Comparison]:
        return {name: held_against(box, name, log) for name, log in logs.items()}

    with suppress(TimeoutError):
        await wait_for(lambda: not any(one.missing for one in compared().values()), 30)
    return compared()


async def test_what_is_stored_equals_the_plants_own_logs_whatever_was_killed(folder: Path) -> None:
    """No reading is lost, doubled or changed, no window is missing or computed twice, and the ledger balances."""
    async with running(folder / "killed") as box:
        with closing(Listener(box.broker, "headrace/#")) as listener:
            async with plants(box) as there:
                await predicts(box)
                for name in KILLED:
                    await box.kill(name)
                    await predicts(box)
                await wait_for(lambda: enough(box), 120, "enough readings of every connection")
                await wait_for(lambda: compacted(box), 90, "beat has compacted some of the history")
            logs = {name: read_log(there.log / plant) for name, plant in PLANTS.items()}
            for name, found in (await until_equal(box, logs)).items():
                assert found.compared > ENOUGH, name
                assert found.missing == (), name
                assert found.extra == (), name
                assert [one for one in twice(stored(box.engine, name)) if one[0] not in RETAINED] == [], name
            await wait_for(lambda: at_rest(box), 30, "the ledger balances with nothing held")
            for name in PLANTS:
                await wait_for(partial(counted, box, name), 30, f"the ledger of {name} says what is stored")
                account = await box.account(name)
                assert account["lost_by_peer"] == 0
                assert {one["place"]: one["stored"] for one in account["places"]} == at_places(box, name), name
            made = windows(box.engine)
            assert len(made) == len({"tep-faults", "tightening"})
            for of_version in made.values():
                assert [sequence for sequence, _, _ in of_version] == list(range(1, len(of_version) + 1))
                assert len({end for _, _, end in of_version}) == len(of_version)
            ids = {key for of_version in made.values() for _, key, _ in of_version}
            arrived: set[str] = set()

            def all_arrived() -> bool:
                arrived.update(published(listener))
                return arrived >= ids

            await wait_for(all_arrived, 30, "every prediction on MQTT")
            assert arrived == ids
            cycles = logs["station"]["unit_id"]
            tightened = {one["unit_id"] for one in await box.items("/predictions", pipeline="tightening")}
            assert tightened == {str(unit) for _, unit, _ in cycles[len(cycles) - len(tightened) :]}
            assert all(box.status(name).restarts == KILLED.count(name) for name in set(KILLED))
