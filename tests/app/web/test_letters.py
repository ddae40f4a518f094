"""Dead letters over REST: who may do what, what is shown, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.letters.tasks import Replayer
from connectors import Refusal
from tests.app.letters.deadly import REFUSED, SCORES, model
from tests.app.web.conftest import Role
from tests.app.works import INPUTS, LENGTH, Works, record


@pytest.fixture
def works(admin: TestClient, engine: Engine, tmp_path: Path) -> Iterator[Works]:
    """A refused window and a refused reading in the database that the API asks."""
    del admin
    made = Works(str(engine.url), tmp_path, proto=model(), spec={"outputs": SCORES})
    refused = Refusal(address="ns=2;s=1", reason="wrong_type", detail="text", excerpt=b"x", readings=3)
    made.scorer.apply(made.message(1, made.block([2.0, REFUSED], 1), of=record(1, [1.0], refused=(refused,))))
    yield made
    made.close()


def test_they_are_listed_and_inspected(admin: TestClient, works: Works) -> None:
    """Those with windows by state and pipeline; one whole, with its inputs in short."""
    assert works.version
    (found,) = admin.get("/api/v1/dead-letters/windows").json()["items"]
    assert [found[name] for name in ("id", "address", "reason", "connection")] == [2, "watch", "input_refused", "field"]
    assert [found["windows"][name] for name in ("state", "pipeline", "version")] == ["open", "watch", 1]
    for query, count in (({"state": "open"}, 1), ({"state": "dropped"}, 0), ({"pipeline": "none"}, 0)):
        assert len(admin.get("/api/v1/dead-letters/windows", params=query).json()["items"]) == count
    whole = admin.get("/api/v1/dead-letters/2").json()
    assert [(one["tag"], one["mean"], one["cells"]) for one in whole["inputs"]] == [("t1", 0.0, LENGTH)] * INPUTS
    peer = admin.get("/api/v1/dead-letters/1").json()
    assert (peer["windows"], peer["inputs"], peer["readings"], peer["excerpt"]) == (None, [], 3, "eA==")
    assert admin.get("/api/v1/dead-letters/9").status_code == 404
    page = admin.get("/api/v1/dead-letters/windows", params={"limit": 1}).json()
    assert admin.get("/api/v1/dead-letters/windows", params={"cursor": page["next"]}).json()["items"] == []


def test_one_is_mended_and_replayed(admin: TestClient, works: Works) -> None:
    """What is shown is corrected and put back; the answer is asked for, and comes late."""
    inputs: dict[str, Any] = admin.get("/api/v1/dead-letters/2/inputs").json()
    assert inputs["inputs"] == ["t1"] * INPUTS
    inputs["windows"][0]["values"] = [[3.0] * INPUTS] * LENGTH
    mended = admin.put("/api/v1/dead-letters/2/inputs", json=inputs)
    assert mended.status_code == 200, mended.text
    assert (mended.json()["windows"]["mended"], mended.json()["inputs"][0]["mean"]) == (True, 3.0)
    asked = admin.post("/api/v1/dead-letters/2/replay", json={})
    assert (asked.status_code, asked.json()["windows"]["state"]) == (202, "waiting")
    assert admin.post("/api/v1/dead-letters/2/replay", json={}).json()["code"] == "letter_conflict"
    assert Replayer(works.engine, works.scorer.sessions, works.scorer.tell).once()
    assert admin.get("/api/v1/dead-letters/2").json()["windows"]["state"] == "replayed"
    (made,) = [one for one in admin.get("/api/v1/predictions").json()["items"] if one["late"]]
    assert (made["quality"], made["passport"]["journal"], made["passport"]["number"]) == ("Uncertain", "letter", 2)
    assert admin.post("/api/v1/dead-letters/2/replay", json={"version": "present"}).status_code == 202


def test_one_is_dropped(admin: TestClient, works: Works) -> None:
    """With a reason."""
    assert works.version
    assert admin.post("/api/v1/dead-letters/2/drop", json={"reason": ""}).status_code == 422
    assert admin.post("/api/v1/dead-letters/2/drop", json={"reason": "known"}).status_code == 204
    assert admin.get("/api/v1/dead-letters/2").json()["windows"]["said"] == "known"
    assert admin.get("/api/v1/dead-letters/2/inputs").status_code == 409
    assert admin.post("/api/v1/dead-letters/1/drop", json={"reason": "known"}).status_code == 204
    assert admin.get("/api/v1/dead-letters/1").status_code == 404


def test_what_does_not_fit_is_a_problem(admin: TestClient, works: Works) -> None:
    """Another shape is a conflict, what is no time or no number is invalid, and nothing is changed."""
    assert works.version
    end = admin.get("/api/v1/dead-letters/2/inputs").json()["windows"][0]["end"]
    for window, status in (
        ({"end": end, "values": [[1.0]]}, 409), ({"end": "today", "values": []}, 422), ({"end": end, "values": 1}, 422),
        ({"end": "1", "values": [[1.0] * INPUTS] * LENGTH}, 409),
    ):  # fmt: skip
        assert admin.put("/api/v1/dead-letters/2/inputs", json={"windows": [window]}).status_code == status
    assert admin.put("/api/v1/dead-letters/2/inputs", json={"windows": []}).status_code == 422
    assert admin.get("/api/v1/dead-letters/2").json()["windows"]["mended"] is False


@pytest.mark.parametrize(
    ("name", "may"), [("viewer", False), ("operator", False), ("auditor", False), ("engineer", True)]
)
def test_only_who_may_configure_may_change_them(role: Role, works: Works, name: str, *, may: bool) -> None:
    """Everybody may look; an engineer mends, replays and drops."""
    assert works.version
    client = role(name)
    assert client.get("/api/v1/dead-letters/2").status_code == 200
    inputs = client.get("/api/v1/dead-letters/2/inputs").json()
    answers = (
        client.put("/api/v1/dead-letters/2/inputs", json=inputs),
        client.post("/api/v1/dead-letters/1/drop", json={"reason": "known"}),
        client.post("/api/v1/dead-letters/2/replay", json={}),
    )
    assert [one.is_success for one in answers] == [may] * 3
    assert may or {one.status_code for one in answers} == {403}


def test_without_a_token_nothing_is_shown(web: TestClient) -> None:
    """Every route asks who it is."""
    reading = [("GET", path) for path in ("windows", "2", "2/inputs")]
    for method, path in (*reading, ("PUT", "2/inputs"), ("POST", "2/replay"), ("POST", "2/drop")):
        assert web.request(method, f"/api/v1/dead-letters/{path}", json={}).status_code == 401
