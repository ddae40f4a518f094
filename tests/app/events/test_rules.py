"""Rules take predictions by their number, whoever brings them, and tell every consumer with the prediction's id."""

from __future__ import annotations

import json
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from app.db import reading
from app.events import service
from app.events.service import Memory, step
from app.events.tables import EventRow, RuleStateRow
from app.northbound.tables import OutboxRow
from app.pipelines.schemas import RuleSpec
from app.scoring.tables import PredictionRow
from tests.app.works import SECOND, START, Works, rule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from app.records import WindowBlock

FRESH = Memory(0, 0, 0, active=False, streak=0, event_id=None)


def happenings(limits: RuleSpec, values: Sequence[object]) -> str:
    """One letter a value: what the rule did."""
    memory, found = FRESH, ""
    for value in values:
        memory, happened = step(limits, memory, value)
        found += {"raise": "R", "clear": "C", "": "."}[happened]
    return found


def spec(**changes: object) -> RuleSpec:
    """A rule above 1."""
    return RuleSpec.model_validate(rule(**changes))


@pytest.mark.parametrize(
    ("changes", "values", "expected"),
    [
        ({}, [0.5, 1.0, 1.1, 1.2, 1.0, 0.9], "..R.C."),
        ({"above": None, "below": 0.2}, [0.5, 0.2, 0.1, 0.2], "..RC"),
        ({"below": -1.0}, [0.0, -2.0, 0.0, 2.0, 1.0], ".RCRC"),
        ({"clear": 0.8}, [1.1, 0.9, 1.05, 0.81, 0.8], "R...C"),
        ({"above": None, "below": 0.2, "clear": 0.4}, [0.1, 0.3, 0.4], "R.C"),
        ({"on_delay": 3}, [2, 2, 0, 2, 2, 2, 2], ".....R."),
        ({"off_delay": 2}, [2, 0, 2, 0, 0], "R...C"),
        ({"on_delay": 2}, [2, None, 2, 0], "..RC"),
        ({"on_delay": 2}, [2, "text", True, [9.0], 2], "....R"),
    ],
)
def test_limits_delays_and_deadband(changes: dict[str, object], values: list[object], expected: str) -> None:
    """Above, below, both, deadband, on- and off-delay; what is no number changes nothing, not even the streak."""
    assert happenings(spec(**changes), values) == expected


@given(st.lists(st.floats(-3, 3)), st.integers(1, 4), st.integers(1, 4), st.sampled_from([None, 0.0, 0.5]))
def test_raising_and_clearing_take_turns(values: list[float], on: int, off: int, clear: float | None) -> None:
    """An alarm is never raised twice before it clears, and never clears before it was raised."""
    found = happenings(spec(on_delay=on, off_delay=off, clear=clear), values).replace(".", "")
    assert found == ("RC" * len(found))[: len(found)]


def test_texts_are_filled_in_every_language() -> None:
    """Outputs and the part's id stand where the text names them; what nobody knows stays as it is written."""
    limits = spec(message={"en": "{unit_id}: {score} {other}", "zh-CN": "工件 {unit_id} {kind}"})
    found = service.texts(limits, {"score": 1.23456, "kind": 7}, "SN1")
    assert found == {"en": "SN1: 1.235 {other}", "zh-CN": "工件 SN1 7"}
    assert service.texts(spec(), {"score": 2.0}, None) == {"en": "high: 2", "zh-CN": "high：2"}


def events(works: Works) -> list[EventRow]:
    """In the order they were raised."""
    with reading(works.engine) as session:
        found = list(session.scalars(select(EventRow).order_by(EventRow.raised_at)))
        session.expunge_all()
        return found


def prediction(works: Works, sequence: int) -> str:
    """The id of one of the version in force."""
    mine = (PredictionRow.sequence == sequence) & (PredictionRow.version_id == works.version)
    query = select(PredictionRow.id).where(mine).order_by(PredictionRow.end_time.desc())
    with reading(works.engine) as session:
        return session.scalars(query).first() or ""


def told(works: Works, subscription: int) -> list[OutboxRow]:
    """What one consumer is told of events, in order."""
    query = select(OutboxRow).where(OutboxRow.subscription_id == subscription, OutboxRow.key.startswith("rule:"))
    with reading(works.engine) as session:
        found = list(session.scalars(query.order_by(OutboxRow.id)))
        session.expunge_all()
        return found


def send(works: Works, *blocks: WindowBlock) -> None:
    """A message each, numbered on."""
    for block in blocks:
        works.number += 1
        assert works.scorer.apply(works.message(works.number, block))


def test_an_alarm_rises_and_clears_with_the_predictions_that_did_it(works: Works) -> None:
    """The event names both predictions; consumers are told in the same order, with the very same ids."""
    send(works, works.block([0.5, 2.0, 3.0, 0.5], 1))
    (event,) = events(works)
    assert (event.prediction_id, event.cleared_by) == (prediction(works, 2), prediction(works, 4))
    assert (event.raised_at, event.cleared_at) == (START + 2 * SECOND, START + 4 * SECOND)
    assert (event.state, event.value, event.limit) == ("rtn_unack", 2.0, "> 1")
    raised, cleared = (json.loads(one.body) for one in told(works, 1))
    assert raised["specversion"] == "1.0"
    assert (raised["type"], cleared["type"]) == ("com.headrace.event.raised", "com.headrace.event.cleared")
    assert raised["data"]["prediction_id"] == event.prediction_id
    assert cleared["data"]["prediction_id"] == event.cleared_by
    assert raised["data"]["event_id"] == cleared["data"]["event_id"] == event.id
    assert {one.topic for one in told(works, 1)} == {"up/acme/line1/press/event/high"}
    nodes = [{node["path"].rpartition("/")[2]: node["value"] for node in one.nodes} for one in told(works, 2)]
    assert [one["active"] for one in nodes] == [True, False]
    assert [one["state"] for one in nodes] == ["unack_active", "rtn_unack"]
    assert [one["prediction_id"] for one in nodes] == [event.prediction_id, event.cleared_by]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_order_of_messages_does_not_matter(here: str, tmp_path: Path, order: tuple[int, ...]) -> None:
    """Whatever order workers finish in, the same events are raised by the same predictions."""
    works = Works(here, tmp_path, spec={"rules": [rule(on_delay=2, off_delay=2)]})
    values = [2.0, 2.0, 0.5, 2.0, 0.5, 0.5, 2.0, 2.0]
    blocks = [works.block(values[at : at + 2], at + 1) for at in range(0, 8, 2)]
    send(works, *(blocks[at] for at in order))
    first, second = events(works)
    assert (first.prediction_id, first.cleared_by) == (prediction(works, 2), prediction(works, 6))
    assert (second.prediction_id, second.cleared_by) == (prediction(works, 8), None)
    works.close()


def test_a_tombstone_moves_the_number_on_and_nothing_else(works: Works) -> None:
    """A window that was refused neither raises, clears nor breaks a streak, and nothing waits for it."""
    works.version = works.put_in_force(rules=[rule(on_delay=2)])
    send(works, works.block([2.0, 0.0, 2.0], 1, refused=((1, "gap:1"),)))
    (event,) = events(works)
    assert event.prediction_id == prediction(works, 3)


def test_an_alarm_is_carried_over_to_the_next_version(works: Works) -> None:
    """A new version of the pipeline raises no second alarm for what is still wrong, and clears the one there is."""
    send(works, works.block([2.0], 1))
    works.version = works.put_in_force(rules=[rule()])
    send(works, works.block([2.0, 2.0], 1, at=START + 60 * SECOND))
    (event,) = events(works)
    assert event.state == "unack_active"
    send(works, works.block([0.5], 3, at=START + 60 * SECOND))
    (event,) = events(works)
    assert (event.state, event.cleared_by) == ("rtn_unack", prediction(works, 3))


def test_an_alarm_without_its_rule_is_cleared(works: Works) -> None:
    """A version that no longer has the rule clears what it had raised, and says so."""
    send(works, works.block([2.0], 1))
    works.version = works.put_in_force(rules=[rule(name="other", above=100.0)])
    send(works, works.block([2.0], 1, at=START + 60 * SECOND))
    (event,) = events(works)
    assert (event.state, event.cleared_by) == ("rtn_unack", prediction(works, 1))
    assert [json.loads(one.body)["subject"] for one in told(works, 1)] == ["high", "high"]


def test_rolling_back_starts_numbers_again(works: Works) -> None:
    """A version that is put in force a second time counts from 1 again, and its rules go on."""
    first = works.version
    send(works, works.block([0.5, 0.5, 0.5], 1))
    works.version = works.put_in_force(rules=[rule()])
    send(works, works.block([2.0], 1, at=START + 60 * SECOND))
    works.version = first
    send(works, works.block([2.0, 0.5, 2.0], 1, at=START + 120 * SECOND))
    carried, raised = events(works)
    assert (carried.state, carried.cleared_at) == ("rtn_unack", START + 122 * SECOND)
    assert (raised.version_id, raised.raised_at) == (first, START + 123 * SECOND)


def test_many_stored_predictions_are_caught_up_with(here: str, tmp_path: Path) -> None:
    """When the missing message comes at last, everything that waited behind it is taken."""
    works = Works(here, tmp_path, spec={"rules": [rule()]})
    later = [works.block([2.0 if at % 100 == 0 else 0.0] * 20, at) for at in range(21, 621, 20)]
    send(works, *later)
    assert events(works) == []
    send(works, works.block([0.0] * 20, 1))
    with reading(works.engine) as session:
        assert session.scalars(select(RuleStateRow.sequence)).all() == [620]
    works.close()


def test_acknowledging_is_told_and_never_clears(works: Works) -> None:
    """ISA-18.2: an active alarm that was seen stays active; the first who saw it is kept; consumers are told once."""
    send(works, works.block([2.0], 1))
    (event,) = events(works)
    assert service.acknowledge(works.engine, event.id, "li", "on my way")
    assert service.acknowledge(works.engine, event.id, "wang", "me too")
    (seen,) = events(works)
    assert (seen.state, seen.acked_by, seen.comment) == ("ack_active", "li", "on my way")
    send(works, works.block([0.5], 2))
    assert events(works)[0].state == "normal"
    kinds = [json.loads(one.body)["type"].rpartition(".")[2] for one in told(works, 1)]
    assert kinds == ["raised", "acknowledged", "cleared"]
    assert not service.acknowledge(works.engine, "no such event", "li", "")


def test_what_returned_and_is_then_seen_is_normal(works: Works) -> None:
    """Acknowledged after it cleared: normal, and the node says it is not active."""
    send(works, works.block([2.0, 0.5], 1))
    assert service.acknowledge(works.engine, events(works)[0].id, "li", "")
    assert events(works)[0].state == "normal"
    last: dict[str, Any] = {node["path"].rpartition("/")[2]: node["value"] for node in told(works, 2)[-1].nodes}
    assert (last["active"], last["state"]) == (False, "normal")
