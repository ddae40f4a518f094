"""Subscriptions and retention over REST: how they stand, what is sent again, and who may ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update

from app.db import writing
from app.northbound.tables import OutboxRow
from app.retention.service import KINDS, piece
from tests.app.web.conftest import Role
from tests.app.works import START, Works

DAY = 86_400 * 10**9
PATH = "/api/v1/subscriptions/mes/replays"


@pytest.fixture
def works(admin: TestClient, engine: Engine, tmp_path: Path) -> Iterator[Works]:
    """Three predictions that both consumers have taken, and one that they have not."""
    del admin
    made = Works(str(engine.url), tmp_path)
    made.scorer.apply(made.message(1, made.block([0.1, 0.2, 0.3], 1)))
    with writing(engine) as session:
        session.execute(update(OutboxRow).values(sent_at=START))
    made.scorer.apply(made.message(2, made.block([0.4], 4)))
    yield made
    made.close()


def test_they_are_listed(admin: TestClient, works: Works) -> None:
    """With what is due and since when what was sent is kept; never with their options."""
    assert works.version
    mes, scada = admin.get("/api/v1/subscriptions").json()
    assert (mes["name"], mes["connector"], mes["due"], scada["due"]) == ("mes", "mqtt", 1, 1)
    assert mes["oldest_sent"] == "2023-11-14T22:13:20.000000000Z"
    assert "options" not in mes


def test_one_is_sent_again(admin: TestClient, works: Works) -> None:
    """From a time or from an id; one at a time; it can be stopped; all of it is listed."""
    assert works.version
    asked = admin.post(PATH, json={"from": "2023-11-14T00:00:00Z", "rate": 10})
    assert asked.status_code == 202, asked.text
    found = asked.json()
    assert [found[name] for name in ("rows", "keys", "rate", "asked_by", "outcome")] == [3, 1, 10, "admin", ""]
    assert admin.post(PATH, json={"from": "0"}).json()["code"] == "replay_conflict"
    assert admin.delete(f"{PATH}/current").status_code == 204
    assert admin.delete(f"{PATH}/current").status_code == 404
    second = admin.get("/api/v1/predictions").json()["items"][2]["id"]
    assert admin.post(PATH, json={"from_id": second}).json()["rows"] == 2
    assert [one["outcome"] for one in admin.get(PATH).json()] == ["", "stopped"]


def test_what_makes_no_sense_is_a_problem(admin: TestClient, works: Works) -> None:
    """No begin or two, no time, no such consumer, nodes, or a rate beyond the bounds."""
    assert works.version
    rates = ({"from": "0", "rate": 0}, {"from": "0", "rate": 9**9})
    for body in ({}, {"from": "0", "from_id": "x"}, {"from": "today"}, *rates):
        assert admin.post(PATH, json=body).status_code == 422, body
    assert admin.post("/api/v1/subscriptions/none/replays", json={"from": "0"}).status_code == 404
    assert admin.get("/api/v1/subscriptions/none/replays").status_code == 404
    assert admin.post("/api/v1/subscriptions/scada/replays", json={"from": "0"}).status_code == 409


@pytest.mark.parametrize(("name", "status"), [("viewer", 403), ("operator", 403), ("auditor", 403), ("engineer", 202)])
def test_only_who_may_configure_may_ask_for_it(role: Role, works: Works, name: str, status: int) -> None:
    """Everybody may look."""
    assert works.version
    client = role(name)
    assert client.get(PATH).status_code == 200
    assert client.post(PATH, json={"from": "0"}).status_code == status
    assert client.delete(f"{PATH}/current").status_code == (204 if status == 202 else 403)


def test_what_left_is_told(admin: TestClient, works: Works) -> None:
    """Per kind how long it is kept and how much has left; the counter of predictions never goes back."""
    before = {one["kind"]: one for one in admin.get("/api/v1/retention").json()}
    assert (before["outbox"]["keep_days"], before["predictions"]["keep_days"]) == (1.0, None)
    assert (before["outbox"]["removed"], before["events"]["oldest"]) == (0, None)
    keep = dict.fromkeys((kind.name for kind in KINDS), 1.0)
    piece(works.engine, keep, START + 10 * DAY, 60)
    after = {one["kind"]: one for one in admin.get("/api/v1/retention").json()}
    assert (after["outbox"]["removed"], after["predictions"]["removed"]) == (6, 2)
    text = admin.get("/metrics").text
    assert 'headrace_predictions_total{pipeline="watch",result="answered"} 4.0' in text
    assert 'headrace_removed_rows_total{kind="outbox"} 6.0' in text
