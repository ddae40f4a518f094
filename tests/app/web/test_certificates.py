"""Certificates over REST: the gate, its override, what checks found, how pipelines run, and their figure."""

from __future__ import annotations

from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from app.access.tables import AuditRow
from app.db import reading
from tests.app.web.line import FILE, Line


def _file(line: Line, devices: str) -> str:
    """The plant file with the model by its digest, and the pipeline on these devices."""
    digest = next(iter(line.versions.values())).spec.model_digest
    path = FILE.split("path: ")[1].split('"')[1]
    text = FILE[: FILE.index("northbound:")].replace(f'path: "{path}"', f'digest: "{digest}"')
    return text.replace("    asset: st10", f"    asset: st10\n    devices: {devices}")


def test_a_model_that_fails_its_check_is_put_in_force_by_a_person_or_not_at_all(
    admin: TestClient, engine: Engine, line: Line
) -> None:
    """The problem has the sentence in both languages; with a reason it is applied, audited and shown."""
    body = {"document": _file(line, '["null"]')}
    answer = admin.put("/api/v1/plant", json=body, headers={"Accept-Language": "zh-CN"})
    assert (answer.status_code, answer.json()["code"]) == (422, "model_check_failed")
    assert answer.json()["title"] == "模型检查未通过"
    english, chinese = (one["detail"] for one in answer.json()["errors"])
    assert english.startswith("null: ")
    assert "nodes are not on the device" in english
    assert "个节点中有" in chinese
    assert admin.get("/api/v1/plant").json()["number"] == 1
    assert admin.put("/api/v1/plant", json={**body, "override": "  "}).status_code == 422
    applied = admin.put("/api/v1/plant", json={**body, "override": "a trial run"}).json()
    assert (applied["number"], applied["overridden"]) == (2, ["tightening"])
    (shown,) = admin.get("/api/v1/running").json()
    assert (shown["pipeline"], shown["device_wanted"], shown["device"]) == ("tightening", "null", "")
    assert (shown["override"]["who"], shown["override"]["reason"]) == ("admin", "a trial run")
    with reading(engine) as session:
        said = session.scalars(select(AuditRow).where(AuditRow.action == "certificate_overridden")).one()
        assert (said.who, said.detail["reason"]) == ("admin", "a trial run")


def test_what_checks_have_found_is_listed_with_its_model(admin: TestClient, line: Line) -> None:
    """Newest first, with all that was measured; an unknown model is not found."""
    digest = next(iter(line.versions.values())).spec.model_digest
    assert admin.get(f"/api/v1/models/{digest}/certificates").json() == []
    admin.put("/api/v1/plant", json={"document": _file(line, '["ascend:0", cpu]')})
    cpu, ascend = admin.get(f"/api/v1/models/{digest}/certificates").json()
    assert (ascend["device"], ascend["outcome"], ascend["passed"]) == ("ascend:0", "absent", False)
    assert ascend["failures"][0]["zh-CN"].startswith("此处没有 ascend:0")
    assert (cpu["device"], cpu["outcome"], cpu["made_by"], cpu["occasion"]) == ("cpu", "passed", "admin", "apply")
    assert cpu["p99_ms"] > 0
    assert all(one["passed"] and (one["share"] or 0) <= 1 for one in cpu["golden"])
    assert admin.get("/api/v1/models/sha256:0/certificates").status_code == 404


def test_how_a_pipeline_runs_is_shown_and_counted(admin: TestClient, line: Line) -> None:
    """Requested and actual device and the state of the certificate, as a figure and in the passport."""
    for counter in (1, 2):
        line.part(counter)
    (shown,) = admin.get("/api/v1/running").json()
    assert (shown["device_wanted"], shown["device"], shown["certificate"]) == ("cpu", "cpu", "unchecked")
    assert shown["trusted"] is True
    wanted = 'headrace_certificate_valid{device="cpu",pipeline="tightening",state="unchecked",wanted="cpu"} 0.0'
    assert wanted in admin.get("/metrics").text
    passport = admin.get("/api/v1/predictions").json()["items"][0]["passport"]
    assert (passport["certificate"], passport["certificate_id"], passport["driver"]) == ("unchecked", None, "")
