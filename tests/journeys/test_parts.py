"""A discrete station: every unit is accounted for, with its context, whether its curve arrived or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from examples.ownlog import read_log
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.journeys.box import Box

pytestmark = pytest.mark.asyncio(loop_scope="session")

RECIPES = {"M8-25Nm": 3, "M6-10Nm": 5}
MISSED_EVERY = 9
FIRST_MISSED = 1005


def _missed(unit: str) -> bool:
    return (int(unit.removeprefix("SN")) - FIRST_MISSED) % MISSED_EVERY == 0


async def test_every_unit_is_answered_or_refused_with_its_context(box: Box) -> None:
    """Units in = answered + refused; recipe and order are those of the unit; a unit without a curve has no answer."""

    async def both_kinds() -> list[dict[str, Any]] | None:
        found = await box.items("/predictions", pipeline="tightening")
        orders = {one["context"].get("order") for one in found}
        return found if len(orders) > 1 and any(one["reason"] for one in found) else None

    found = await wait_for(both_kinds, 60, "a change of order, and a missed part")
    assert found is not None
    log = read_log(box.data / "plant-log" / "station")
    about = {
        unit: (order, recipe)
        for (_, unit, _), (_, order, _), (_, recipe, _) in zip(log["unit_id"], log["order"], log["recipe"], strict=True)
    }
    newest, oldest = found[0]["unit_id"], found[-1]["unit_id"]
    units = [one["unit_id"] for one in found]
    assert sorted(units) == [unit for unit in sorted(map(str, about)) if oldest <= unit <= newest]
    assert len(set(units)) == len(units)
    for one in found:
        context = one["context"]
        assert (context["order"], context["recipe"]) == about[one["unit_id"]]
        assert context["recipe_revision"] == RECIPES[context["recipe"]]
        assert context["state"] == "EXECUTE"
        assert one["asset"] == "st10"
    refused = [one for one in found if one["reason"]]
    answered = [one for one in found if not one["reason"]]
    assert {one["unit_id"] for one in refused} == {unit for unit in units if _missed(unit)}
    assert all(one["reason"].startswith("no_data:") for one in refused)
    assert all(one["quality"] == "Bad" and one["outputs"] == {} for one in refused)
    assert all({"score", "verdict", "probabilities"} == set(one["outputs"]) for one in answered)


async def test_one_unit_is_found_by_its_serial_number(box: Box) -> None:
    """A serial number leads to exactly one prediction, and from there to its passport."""
    found = await wait_for(lambda: box.items("/predictions", pipeline="tightening", refused=False), 60, "a unit")
    unit = found[0]["unit_id"]
    (only,) = await box.items("/predictions", unit_id=unit)
    assert only == await box.get(f"/predictions/{found[0]['id']}")
    assert only["unit_id"] == unit
