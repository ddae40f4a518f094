"""A driver that is replaced under a running pipeline: it runs on, Uncertain, until somebody certifies it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from app import times
from app.launcher.stack import SOURCE
from connectors import Status
from tests.inference.plugins import needs_compiler
from tests.journeys.box import Box, plants, running
from tests.journeys.test_devices import EACH, compared, on_device, written
from tests.journeys.test_kills import at_rest
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400), needs_compiler]


async def standing(box: Box, state: str) -> list[dict[str, Any]]:
    """Some predictions of windows that closed after now, made while the certificate stood so."""
    now = times.rfc3339(times.now())

    async def made() -> list[dict[str, Any]]:
        found = await box.items("/predictions", pipeline="moved", refused="false")
        there = [one["passport"] | one for one in found if one["passport"]["received"] > now]
        so = [one for one in there if one["certificate"] == state]
        return so if len(so) >= EACH else []

    return await wait_for(made, 90, f"{EACH} predictions while the certificate is {state}")


async def alarm(box: Box, *states: str) -> dict[str, Any]:
    """The box's own event of the pipeline's certificate, in one of these states."""

    async def raised() -> dict[str, Any]:
        found = await box.items("/events", source="box", pipeline="moved")
        return next((one for one in found if one["rule"] == "certificate" and one["state"] in states), {})

    return await wait_for(raised, 90, f"the event is {' or '.join(states)}")


async def certified(box: Box) -> list[dict[str, Any]]:
    """What `headrace certify` says, run as an operator does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "app.cli", "certify", "--pipeline", "moved", "--json"),
        env={**os.environ, **box.variables, "HEADRACE_DATA_DIR": str(box.data), "PYTHONPATH": str(SOURCE)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    assert process.returncode == 0, (said + complained).decode()
    found: list[dict[str, Any]] = json.loads(said)
    return found


async def test_a_driver_is_replaced_while_data_flows(folder: Path) -> None:
    """The worker comes back on the new driver: it runs on, says so, and is Good again once the check has passed."""
    try:
        async with running(folder / "drivers", plant=lambda own: written(own, "simnpu:0")) as box:
            async with plants(box):
                before = await on_device(box, "simnpu:0")
                assert {one["passport"]["certificate"] for one in before} == {"valid"}
                os.environ["SIMNPU_VERSION"] = "2.0.0"
                await box.kill("worker")
                for one in await standing(box, "changed"):
                    assert one["driver"].startswith("2.0.0, sha256:")
                    assert (one["device"], one["quality"]) == ("simnpu:0", "Uncertain")
                    assert one["status"] == Status.UNCERTAIN_CONFIGURATION_ERROR
                raised = await alarm(box, "unack_active")
                assert "headrace certify --pipeline 'moved'" in raised["message"]["en"]
                (row,) = await certified(box)
                assert (row["device"], row["outcome"]) == ("simnpu:0", "passed")
                assert (await alarm(box, "rtn_unack"))["id"] == raised["id"]
                after = await standing(box, "valid")
                assert {one["quality"] for one in after} == {"Good"}
                (shown,) = [one for one in await box.get("/running") if one["pipeline"] == "moved"]
                assert (shown["certificate"], shown["driver"]) == ("valid", after[0]["driver"])
            await wait_for(lambda: at_rest(box), 30, "the ledger balances with nothing held")
            windows, _ = await compared(box)
            assert windows >= 3 * EACH
    finally:
        os.environ.pop("SIMNPU_VERSION", None)
