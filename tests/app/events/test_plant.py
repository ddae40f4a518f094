"""What a plant reports is stored once, tells its present state, goes north under one id, and is no reading."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from sqlalchemy import select

from app.db import reading, writing
from app.events import queries, service
from app.events.queries import Wanted
from app.events.tables import EventRow
from app.health.service import active_events
from app.journal import service as journal
from app.ledger.tables import LedgerRow
from app.northbound.tables import OutboxRow
from app.records import Record
from connectors import ConditionState, PlantEvent
from tests.app.works import REFUSED, SECOND, START, Works, record

if TYPE_CHECKING:
    from sqlalchemy import Engine

OPEN = ConditionState("nsu=urn:x;s=T1.High", "High", "", True, True, False, None, True, 0, "")  # noqa: FBT003
RAISED = PlantEvent(
    "0a01", "i=2915", "nsu=urn:x;s=T1", "T1", START, START + 1, {"zh-CN": "液位过高"}, 700, OPEN
)  # fmt: skip
SEEN = replace(RAISED, id="0a02", time=START + SECOND, condition=replace(OPEN, acked=True))
OVER = replace(RAISED, id="0a03", time=START + 2 * SECOND, condition=replace(OPEN, acked=True, active=False))
PLAIN = replace(RAISED, id="0b01", type="i=2041", message={"": "pump started"}, severity=10, condition=None)


def told(*events: PlantEvent, values: tuple[float, ...] = ()) -> Record:
    """A record that brings them."""
    return record(1, values, events=events)


def stored(works: Works) -> list[EventRow]:
    """In the order of their times."""
    with reading(works.engine) as session:
        found = list(session.scalars(select(EventRow).order_by(EventRow.raised_at, EventRow.id)))
        session.expunge_all()
    return found


def outbox(engine: Engine) -> list[OutboxRow]:
    """In the order they were written."""
    with reading(engine) as session:
        found = list(session.scalars(select(OutboxRow).order_by(OutboxRow.id)))
        session.expunge_all()
    return found


def ledger(works: Works) -> dict[tuple[str, str], int]:
    """(fate, reason) → number."""
    with reading(works.engine) as session:
        return {(one.fate, one.reason): one.readings for one in session.scalars(select(LedgerRow))}


def test_states(works: Works) -> None:
    """Each state of a condition is a row of its own with its ISA-18.2 state; a plain event has merely occurred."""
    assert works.scorer.apply(works.message(1, of=told(RAISED, SEEN, OVER, PLAIN)))
    rows = {one.plant["event_id"]: one for one in stored(works)}
    assert {key: row.state for key, row in rows.items()} == {
        "0a01": "unack_active", "0a02": "ack_active", "0a03": "normal", "0b01": "occurred",
    }  # fmt: skip
    first, plain = rows["0a01"], rows["0b01"]
    assert (first.source, first.connection_id, first.rule, first.priority) == ("plant", 1, "High", 2)
    assert first.message == {"zh-CN": "液位过高"}
    assert (plain.message, plain.priority, plain.rule, plain.condition_key) == ({"und": "pump started"}, 4, "T1", None)
    assert (first.cleared_at, rows["0a03"].cleared_at) == (None, OVER.time)
    assert first.condition_key == rows["0a03"].condition_key is not None
    assert first.plant["condition"] == {
        "id": OPEN.id, "name": "High", "branch": "", "retain": True, "enabled": True, "acked": False,
        "confirmed": None, "active": True, "quality": 0,
    }  # fmt: skip


def test_only_the_newest_is_in_a_state(works: Works) -> None:
    """Asked for what is active, the API finds a condition only while that is its newest state."""
    works.scorer.apply(works.message(1, of=told(RAISED)))

    def active() -> list[str]:
        found = queries.events(works.engine, Wanted(state="unack_active", source="plant"), after=None, limit=10)
        return [row.plant["event_id"] for row, _, _ in found]

    assert active() == ["0a01"]
    works.scorer.apply(works.message(2, of=told(OVER)))
    assert active() == []
    # What was held up on the way changes nothing about the present.
    works.scorer.apply(works.message(3, of=told(SEEN)))
    assert not queries.events(works.engine, Wanted(state="ack_active"), after=None, limit=10)
    everything = queries.events(works.engine, Wanted(connection="field"), after=None, limit=10)
    assert [(row.plant["event_id"], pipeline, connection) for row, pipeline, connection in everything] == [
        ("0a03", None, "field"), ("0a02", None, "field"), ("0a01", None, "field"),
    ]  # fmt: skip
    assert not queries.events(works.engine, Wanted(source="rule"), after=None, limit=10)


def test_once(works: Works) -> None:
    """The same event told again, in the same message or another, is neither stored nor published again."""
    works.scorer.apply(works.message(1, of=told(RAISED, PLAIN)))
    before = [(row.publication_id, row.subscription_id) for row in outbox(works.engine)]
    assert works.scorer.apply(works.message(2, of=told(RAISED, RAISED, SEEN)))
    assert len(stored(works)) == 3
    after = [(row.publication_id, row.subscription_id) for row in outbox(works.engine)]
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == len(before) + 2


def test_no_reading(works: Works) -> None:
    """Events stand in the ledger by themselves: what was read, stored and refused knows nothing of them."""
    taken = record(1, (1.0, 2.0), refused=(REFUSED,), events=(RAISED, PLAIN))
    assert taken.readings() == 2 + REFUSED.readings
    works.scorer.apply(works.message(1, of=taken))
    works.scorer.apply(works.message(2, of=told(RAISED)))
    found = ledger(works)
    assert (found["event", "stored"], found["event", "repeated"]) == (2, 1)
    assert (found["stored", ""], found["refused", "wrong_type"]) == (2, REFUSED.readings)
    with reading(works.engine) as session:
        account = dict(journal._accounts(session, "gw"))  # noqa: SLF001 - what the scan reads
    assert (account[1].stored, account[1].refused) == (2, REFUSED.readings)
    assert active_events(works.engine) == 0


def test_north(works: Works) -> None:
    """Consumers are told under the id of the row; nodes show a condition, and only its newest state."""
    works.scorer.apply(works.message(1, of=told(RAISED, PLAIN)))
    works.scorer.apply(works.message(2, of=told(OVER)))
    works.scorer.apply(works.message(3, of=told(SEEN)))
    rows = {row.plant["event_id"]: row for row in stored(works)}
    sent: dict[str, dict[str, OutboxRow]] = {}
    for row in outbox(works.engine):
        sent.setdefault(row.publication_id, {})["opcua" if not row.body else "mqtt"] = row
    assert set(sent) == {row.id for row in rows.values()}
    body: dict[str, Any] = msgspec.json.decode(sent[rows["0a01"].id]["mqtt"].body)
    assert (body["id"], body["type"]) == (rows["0a01"].id, "com.headrace.event.plant")
    assert (body["source"], body["subject"]) == ("urn:headrace:connection:field", "T1/High")
    data = body["data"]
    assert (data["event_id"], data["peer_event_id"], data["state"]) == (rows["0a01"].id, "0a01", "unack_active")
    assert (data["message"], data["severity"]) == ({"zh-CN": "液位过高"}, 700)
    assert sent[rows["0a01"].id]["mqtt"].topic == "up/acme/line1/field/event/T1/High"
    nodes = {key: {one["path"]: one["value"] for one in sent[rows[key].id]["opcua"].nodes} for key in rows}
    assert nodes["0a01"]["Headrace/field/events/T1/High/active"] is True
    assert nodes["0a03"]["Headrace/field/events/T1/High/state"] == "normal"
    assert nodes["0a02"] == nodes["0b01"] == {}


def test_the_bell_rings(works: Works) -> None:
    """A publisher is told of events although no window closed with them."""
    works.scorer.apply(works.message(1, of=told(RAISED)))
    assert works.rung == 1


def test_never_acknowledged_by_us(works: Works) -> None:
    """An alarm of the plant is acknowledged at the plant."""
    works.scorer.apply(works.message(1, of=told(RAISED)))
    (row,) = stored(works)
    with pytest.raises(service.OfPlantError):
        service.acknowledge(works.engine, row.id, "operator", "")
    assert stored(works)[0].acked_at is None


def test_old_records_are_read(works: Works) -> None:
    """A record that was journaled before there were events is read as one without any."""
    fields = list(msgspec.structs.astuple(record(1, (1.0,))))
    old = msgspec.msgpack.encode([[] if one == () else one for one in fields[:-1]])
    assert msgspec.msgpack.decode(old, type=Record).events == ()
    whole = told(RAISED, PLAIN, values=(1.0,))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(whole), type=Record) == whole
    assert works.scorer.apply(works.message(9, of=whole))


def test_foreign_text(works: Works) -> None:
    """What no database holds is cut or replaced, never refused: the alarm matters more than its text."""
    wild = replace(RAISED, message={"x" * 99: "a\x00b" + "长" * 5000}, source="s" * 999, source_node="n" * 999)
    works.scorer.apply(works.message(1, of=told(wild)))
    (row,) = stored(works)
    (text,) = row.message.values()
    assert text.startswith("a\ufffdb")
    assert len(text) <= 2000
    with writing(works.engine) as session:
        assert session.get(EventRow, row.id) is not None
