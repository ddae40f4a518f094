"""A plant that was cut off and could keep nothing for us: what was missed is read from its history, and scored late."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from app import times
from connectors.opcua.resume import FILE
from examples.tep.compare import read_log
from tests.journeys.box import Box, plants, running
from tests.journeys.history import stored, twice
from tests.journeys.outages import Way
from tests.journeys.test_kills import at_rest, held_against, predicts
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

AWAY_S = 6.0


async def cut_off(way: Way, *, killed: bool) -> None:
    """For some seconds nothing comes, and the session that the server keeps for us is forgotten."""
    box = way.box
    await way.line.cut()
    await way.lost()
    for kept in (box.data / "connections").glob(f"*/{FILE}"):
        kept.unlink()
    if killed:
        await box.kill("gateway")
    end = time.monotonic() + AWAY_S
    await wait_for(lambda: time.monotonic() > end)
    await way.line.start()
    await way.fresh()


async def filled(box: Box, number: int) -> list[dict[str, Any]]:
    """The gaps of the plant's connection, once there are so many and everything about them is done."""

    async def done() -> list[dict[str, Any]]:
        found = await box.items("/gaps", connection="process")
        ended = [one for one in found if one["state"] != "open" and not one["windows_open"]]
        return ended if len(ended) == len(found) >= number else []

    return await wait_for(done, 90, f"{number} gaps are filled and their windows computed again")


async def test_what_was_missed_comes_from_the_plants_history(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The readings stored equal the plant's own log, gaps or not, and the windows of a gap are there again, late.

    Once the way is cut, once the gateway is killed as well; each prediction keeps its id and is there once.
    """
    async with running(folder / "backfill", gated=True) as box:
        async with plants(box) as there:
            way = Way(box, ("process",), box.gates["opcua"])
            await way.fresh()
            await predicts(box)
            for number, killed in enumerate((False, True), 1):
                begin = time.monotonic()
                await cut_off(way, killed=killed)
                await predicts(box)
                gaps = await filled(box, number)
                seconds = time.monotonic() - begin
        log = read_log(there.log / "tep")
        await wait_for(lambda: at_rest(box), 30, "the ledger balances with nothing held")
        found = held_against(box, "process", log)
        assert found.missing == ()
        assert found.extra == ()
        assert found.compared > 0
        # What has not changed for long comes again with a new subscription: that is the present, not the past.
        spans = [(times.parse_time(gap["since"]), times.parse_time(gap["until"])) for gap in gaps]
        inside = [one for one in twice(stored(box.engine, "process")) if any(a <= one[1][0] <= b for a, b in spans)]
        assert inside == []
        account = await box.account("process")
        assert account["stored"] == sum(len(one) for one in stored(box.engine, "process").values())
        for gap in gaps:
            assert (gap["state"], gap["reason"]) == ("filled", "")
            assert gap["readings"] > 0
            assert gap["windows"] >= int(gap["seconds"]), "a window a second"
        assert sum(gap["seconds"] > AWAY_S for gap in gaps) >= len((False, True))
        await late_predictions(box, gaps)
        with capsys.disabled():
            for gap in gaps:
                sys.stdout.write(
                    f"\ngap of {gap['seconds']:.1f} s: {gap['readings']} readings, {gap['windows']} windows again"
                )
            sys.stdout.write(f"\nall of the last one {seconds:.1f} s after the cut\n")


async def late_predictions(box: Box, gaps: list[dict[str, Any]]) -> None:
    """Each window of a gap has one more revision, without a number, from the readings that were missed."""
    since, until = min(one["since"] for one in gaps), max(one["until"] for one in gaps)
    made = await box.items("/predictions", pipeline="tep-faults", **{"from": since, "to": until})
    late = [one for one in made if one["late"]]
    assert {(one["revision"], one["sequence"]) for one in late} == {(1, None)}
    assert [one["reason"] for one in late if one["reason"].startswith(("gap", "no_data"))] == []
    for gap in gaps:
        first, last = times.parse_time(gap["since"]), times.parse_time(gap["until"])
        ends = {times.parse_time(one["passport"]["end"]) for one in late}
        whole = range(first // times.NANOS + 1, last // times.NANOS + 1)
        assert {end * times.NANOS for end in whole} <= ends
    every = [one for one in made if not one["late"]]
    assert len({one["id"] for one in made}) == len(made)
    assert all(one["revision"] == 0 and one["sequence"] is not None for one in every)
