"""What the API answers of a line that ran: predictions with their passport, events, ledger, values, plant."""

from __future__ import annotations

import msgspec
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, select

from app import queue, settings, times, workers
from app.access import service
from app.access.tables import UserRow
from app.db import reading, writing
from app.ledger.tables import GapRow, HeldRow, JournalStateRow, PlaceRow
from app.northbound.tables import OutboxRow
from connectors import Refusal
from tests.app.web.line import FILE, GOOD, SECOND, START, STRIPPED, Line, expected


def test_a_prediction_has_its_passport(admin: TestClient, line: Line) -> None:
    """Every answer names its exact input, model, device, backend and part."""
    line.part(1000)
    line.part(1001)
    (found,) = admin.get("/api/v1/predictions").json()["items"]
    assert found["pipeline"] == "tightening"
    assert found["unit_id"] == "SN1001"
    assert found["quality"] == "Good"
    assert set(found["outputs"]) == {"score", "verdict", "probabilities"}
    assert expected(found["passport"]) == set()
    assert found["passport"]["nodes"] == found["passport"]["nodes_on_device"] > 0
    assert admin.get(f"/api/v1/predictions/{found['id']}").json() == found
    assert admin.get("/api/v1/predictions/none").status_code == 404


def test_a_missed_part_is_a_tombstone(admin: TestClient, line: Line) -> None:
    """A part without a curve, and one nobody saw, are refused with the reason; neither has an output."""
    for counter, curve in ((1000, GOOD), (1001, GOOD), (1002, None), (1004, GOOD)):
        line.part(counter, curve)
    items = admin.get("/api/v1/predictions", params={"refused": True}).json()["items"]
    assert {one["reason"].split(":")[0] for one in items} == {"no_data", "part_missed"}
    assert all(one["outputs"] == {} and one["quality"] == "Bad" for one in items)
    tags = {one["reason"].split(":")[0]: one["reason_tag"] for one in items}
    assert tags == {"no_data": "torque", "part_missed": None}
    missed = next(one for one in items if one["reason_tag"])
    assert admin.get(f"/api/v1/predictions/{missed['id']}").json() == missed
    answered = admin.get("/api/v1/predictions", params={"refused": False}).json()["items"]
    assert [one["unit_id"] for one in answered] == ["SN1004", "SN1001"]


def test_pages_walk_through_everything_once(admin: TestClient, line: Line) -> None:
    """Following `next` shows each prediction once, newest first."""
    for counter in range(1000, 1008):
        line.part(counter)
    seen: list[str] = []
    cursor = None
    while True:
        page = admin.get("/api/v1/predictions", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [one["unit_id"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [f"SN{counter}" for counter in range(1007, 1000, -1)]


def test_a_foreign_cursor_and_a_bad_time_are_problems(admin: TestClient, line: Line) -> None:
    """What the client got wrong is said, not guessed."""
    assert line.number == 0
    assert admin.get("/api/v1/predictions", params={"cursor": "nonsense!"}).json()["code"] == "bad_cursor"
    answer = admin.get("/api/v1/predictions", params={"from": "yesterday"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/query/from"


def test_an_event_is_raised_acknowledged_and_told(admin: TestClient, line: Line, engine: Engine) -> None:
    """A bad part raises an alarm that carries the prediction's id everywhere, and stays acknowledged once it is."""
    line.part(1000)
    line.part(1001, STRIPPED)
    (event,) = admin.get("/api/v1/events").json()["items"]
    (prediction,) = admin.get("/api/v1/predictions").json()["items"]
    assert event["prediction_id"] == prediction["id"]
    assert (event["state"], event["unit_id"]) == ("unack_active", "SN1001")
    assert event["message"]["zh-CN"] == "工件 SN1001"
    acked = admin.post(f"/api/v1/events/{event['id']}/acknowledge", json={"comment": "seen"}).json()
    again = admin.post(f"/api/v1/events/{event['id']}/acknowledge", json={"comment": "again"}).json()
    assert (acked["state"], acked["acked_by"], acked["comment"]) == ("ack_active", "admin", "seen")
    assert again == acked
    assert admin.get(f"/api/v1/events/{event['id']}").json() == acked
    line.part(1002)
    assert admin.get("/api/v1/events").json()["items"][0]["state"] == "normal"
    assert admin.post("/api/v1/events/none/acknowledge", json={}).status_code == 404
    with reading(engine) as session:
        bodies = [bytes(body) for body in session.scalars(select(OutboxRow.body))]
        nodes = [node for row in session.scalars(select(OutboxRow.nodes)) for node in row or ()]
    assert any(prediction["id"].encode() in body and b"com.headrace.event.raised" in body for body in bodies)
    assert prediction["id"] in {node["value"] for node in nodes if node["path"].endswith("events/bad/prediction_id")}


def test_a_repeated_message_changes_nothing(admin: TestClient, line: Line) -> None:
    """The queue may bring a batch as often as it likes."""
    line.part(1000)
    line.part(1001)
    before = admin.get("/api/v1/predictions").json()
    assert line.apply(line.message) is False
    assert admin.get("/api/v1/predictions").json() == before


def test_values_and_history_of_a_tag(admin: TestClient, line: Line) -> None:
    """The newest value of each tag, and the readings of one in the order of time; outputs are tags too."""
    line.part(1000)
    line.part(1001)
    values = {one["name"]: one for one in admin.get("/api/v1/values").json()["items"]}
    assert values["counter"]["value"] == 1001
    assert values["serial"]["value"] == "SN1001"
    assert values["torque"]["unit"] == "N.m"
    span: dict[str, str | int] = {"from": str(START), "to": str(START + 3600 * SECOND), "limit": 100}
    page = admin.get("/api/v1/tags/torque/readings", params=span).json()
    more = admin.get("/api/v1/tags/torque/readings", params={**span, "from": page["next"], "limit": 1000}).json()
    times = [one["time"] for one in page["items"] + more["items"]]
    assert times == sorted(times)
    assert len(times) == 256
    assert more["next"] is None
    scores = admin.get("/api/v1/tags/tightening.score/readings", params=span).json()["items"]
    assert len(scores) == 1
    assert admin.get("/api/v1/tags/nothing/readings").status_code == 404
    trend = admin.get("/api/v1/tags/torque/trend", params={"from": span["from"], "to": span["to"], "points": 4}).json()
    torques = [one["value"] for one in page["items"] + more["items"]]
    assert sum(trend["count"]) == 256
    assert (min(filter(None, trend["minimum"])), max(filter(None, trend["maximum"]))) == (min(torques), max(torques))
    assert trend["mean"].count(None) == trend["count"].count(0) > 0
    assert trend["time"][0] == "2023-11-14T22:13:20.000000000Z"
    assert admin.get("/api/v1/tags/nothing/trend").status_code == 404
    empty = {"from": str(START), "to": str(START)}
    assert admin.get("/api/v1/tags/torque/trend", params=empty).status_code == 422
    backwards = {"from": str(START + SECOND), "to": str(START)}
    assert admin.get("/api/v1/tags/torque/readings", params=backwards).status_code == 422


def test_tags_connections_models_and_pipelines_are_listed(admin: TestClient, line: Line) -> None:
    """What is configured can be read, without secrets; what is not known is said to be unknown."""
    assert line.connection
    (connection,) = admin.get("/api/v1/connections").json()
    assert (connection["name"], connection["tags"], connection["state"]) == ("station", 4, "unknown")
    tags = admin.get("/api/v1/tags", params={"connection": "station", "limit": 3}).json()
    rest = admin.get("/api/v1/tags", params={"connection": "station", "limit": 3, "cursor": tags["next"]}).json()
    assert {one["name"] for one in tags["items"] + rest["items"]} == {"torque", "angle", "counter", "serial"}
    assert [one["name"] for one in admin.get("/api/v1/tags", params={"search": "torq"}).json()["items"]] == ["torque"]
    assert admin.get("/api/v1/tags", params={"search": "%"}).json()["items"] == []
    assert admin.get("/api/v1/tags/torque").json()["connection"] == "station"
    assert admin.get("/api/v1/tags/999999").status_code == 404
    (model,) = admin.get("/api/v1/models").json()
    assert admin.get(f"/api/v1/models/{model['digest']}").json()["contract"]["opset"] == 17
    assert admin.get("/api/v1/models/sha256:0").status_code == 404
    (pipeline,) = admin.get("/api/v1/pipelines").json()
    assert pipeline["active"]["number"] == 1
    assert len(admin.get("/api/v1/pipelines/tightening/versions").json()) == 1
    assert admin.get("/api/v1/pipelines/none/versions").status_code == 404


def test_refused_readings_are_shown_and_counted(admin: TestClient, line: Line, engine: Engine) -> None:
    """A dead letter says where, why and what; the ledger counts it, and says so when it does not balance."""
    line.part(1000)
    stored = 2 * len(GOOD) + 2
    line.send([], (Refusal("st/curve", "broken_json", "write JSON", b"{oops", 3),))
    (letter,) = admin.get("/api/v1/dead-letters").json()["items"]
    assert (letter["connection"], letter["reason"], letter["readings"]) == ("station", "broken_json", 3)
    for held, balanced in ((0, True), (1, False)):
        with writing(engine) as session:
            session.merge(
                JournalStateRow(
                    journal="test",
                    connection_id=line.connection,
                    epoch=1,
                    head=2,
                    watermark=2,
                    read=stored + 3,
                    held=held,
                    stored=stored,
                    refused=3,
                    dropped=0,
                    lost_by_peer=0,
                    segments=1,
                    bytes=1,
                    at=START,
                )
            )
        ledger = admin.get("/api/v1/ledger").json()
        assert ledger["balanced"] is balanced
        assert ledger["connections"][0]["reasons"] == [{"fate": "refused", "reason": "broken_json", "readings": 3}]
        assert ledger["connections"][0]["places"] == []
    with writing(engine) as session:
        session.add(PlaceRow(id=9, connection_id=line.connection, path="line-2"))
        session.add(HeldRow(journal="test", place_id=9, held=1))
    (account,) = admin.get("/api/v1/ledger").json()["connections"]
    rest = {"place": "", "stored": stored, "refused": 3, "dropped": 0, "held": 0}
    assert account["places"] == [rest, {"place": "line-2", "stored": 0, "refused": 0, "dropped": 0, "held": 1}]
    metrics = admin.get("/metrics").text
    assert 'headrace_place_readings_total{connection="station",fate="refused",place=""} 3.0' in metrics
    assert 'headrace_place_readings_held{connection="station",place="line-2"} 1.0' in metrics
    assert 'headrace_readings_total{connection="station",fate="refused"} 3.0' in metrics
    assert 'headrace_ledger_balanced{connection="station"} 0.0' in metrics


def test_gaps_are_listed_page_by_page(admin: TestClient, line: Line, engine: Engine) -> None:
    """Newest first, of one connection if asked."""
    with writing(engine) as session:
        for number in range(3):
            since = START + number * SECOND
            session.add(GapRow(connection_id=line.connection, since=since, until=since + SECOND // 2))
    first = admin.get("/api/v1/gaps?limit=2&connection=station").json()
    second = admin.get("/api/v1/gaps", params={"limit": 2, "cursor": first["next"]}).json()
    found = first["items"] + second["items"]
    assert [one["seconds"] for one in found] == [0.5, 0.5, 0.5]
    assert [one["since"] for one in found] == sorted((one["since"] for one in found), reverse=True)
    assert second["next"] is None
    filling = {key: found[0][key] for key in ("state", "reason", "readings", "filled_until", "ended", "windows")}
    assert filling == {
        "state": "open", "reason": "", "readings": 0, "filled_until": None, "ended": None, "windows": 0,
    }  # fmt: skip
    assert admin.get("/api/v1/gaps?connection=none").json()["items"] == []


def test_workers_are_shown_to_who_may_read(web: TestClient, engine: Engine, redis_url: str) -> None:
    """With their devices, while they report; the figures are in the metrics, too."""
    assert web.get("/api/v1/workers").status_code == 401
    before = settings.settings()
    settings.use(before.model_copy(update={"redis_url": SecretStr(redis_url)}))
    queue.door.cache_clear()
    there = workers.WorkerLive("web/1:2:3", "box-9", 2, times.now(), ("cpu",), ("cpu",), ("ascend:0",), ("infer.cpu",))
    key = f"{workers.PREFIX}{there.id}"
    try:
        queue.put_live(key, msgspec.json.encode(there))
        password = service.ensure_admin(engine)
        token = web.post("/api/v1/session", json={"name": "admin", "password": password}).json()["token"]
        shown = web.get("/api/v1/workers", headers={"Authorization": f"Bearer {token}"}).json()
        assert [(one["host"], one["devices"], one["lost"]) for one in shown if one["id"] == there.id] == [
            ("box-9", ["cpu"], ["ascend:0"])
        ]
        assert 'headrace_worker_devices{device_class="cpu",worker="box-9:2"} 1.0' in web.get("/metrics").text
    finally:
        queue.door().drop_live(key)
        queue.door().close()
        queue.door.cache_clear()
        settings.use(before)


def test_metrics_need_a_token_from_another_host(web: TestClient) -> None:
    """On this host Prometheus reads without a token; elsewhere nobody does."""
    assert web.get("/metrics").status_code == 200
    with TestClient(web.app, client=("192.0.2.1", 1)) as stranger:
        assert stranger.get("/metrics").status_code == 401


def test_health_says_which_part_does_not_answer(web: TestClient) -> None:
    """Alive is not ready: without a queue and a gateway the answer is 503, and names them."""
    assert web.get("/healthz").json() == {"status": "ok"}
    answer = web.get("/readyz")
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert parts["database"] == "ok"
    assert parts["gateway"] != "ok"


def test_the_start_page_needs_nothing_from_elsewhere(web: TestClient) -> None:
    """No address of another host in page, style or script, and a policy that would not allow one."""
    page = web.get("/")
    assert "Headrace" in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert web.get("/static/icon.svg").headers["content-type"].startswith("image/svg")
    for path in ("/", "/static/start.css", "/static/start.js"):
        text = web.get(path).text
        assert "http://" not in text
        assert "https://" not in text


def test_unknown_routes_methods_and_bodies_are_problems(admin: TestClient) -> None:
    """Every error has the same form, the framework's own too."""
    for answer, code in (
        (admin.get("/api/v1/nothing"), "not_found"),
        (admin.post("/api/v1/ledger"), "method_not_allowed"),
        (admin.post("/api/v1/session", json={"name": 1}), "invalid_request"),
    ):
        assert answer.headers["content-type"] == "application/problem+json", code
        assert answer.json()["code"] == code


def test_the_plant_file_over_the_api(admin: TestClient, line: Line) -> None:
    """It can be read, compared and applied; files and secrets of the box cannot be named through it."""
    assert admin.get("/api/v1/plant").json()["document"] == FILE
    digest = next(iter(line.versions.values())).spec.model_digest
    start = FILE.index("northbound:")
    remote = FILE[:start].replace(f'path: "{FILE.split("path: ")[1].split(chr(34))[1]}"', f'digest: "{digest}"')
    body = {"document": remote.replace("above: 1.0", "above: 2.0")}
    preview = admin.put("/api/v1/plant", params={"dry_run": True}, json=body).json()
    assert {(one["kind"], one["what"]) for one in preview["changes"]} >= {
        ("pipeline", "changed"),
        ("northbound", "removed"),
    }
    assert len(admin.get("/api/v1/plant/revisions").json()) == 1
    applied = admin.put("/api/v1/plant", json=body).json()
    assert (applied["number"], applied["dry_run"]) == (2, False)
    assert admin.get("/api/v1/plant").json()["number"] == 2
    refused = admin.put("/api/v1/plant", json={"document": FILE})
    assert refused.status_code == 422
    assert any("cannot name" in one["detail"] for one in refused.json()["errors"])


def test_a_viewer_configures_nothing(admin: TestClient, line: Line, engine: Engine) -> None:
    """Reading is one permission, changing the plant another."""
    assert line.connection
    with writing(engine) as session:
        session.scalars(select(UserRow)).one().role = "viewer"
    assert admin.put("/api/v1/plant", json={"document": "version: 1\n"}).status_code == 403
    assert admin.get("/api/v1/plant").status_code == 200


def test_no_plant_yet(admin: TestClient) -> None:
    """Before the first plant file there is none, and that is said."""
    assert admin.get("/api/v1/plant").status_code == 404


def test_a_body_over_the_limit_is_refused(admin: TestClient) -> None:
    """Two megabytes of anything are not read."""
    answer = admin.post("/api/v1/session", content=b"x" * (2 << 20), headers={"content-type": "application/json"})
    assert answer.status_code == 413
