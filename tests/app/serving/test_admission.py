"""Who may be run where under `/v2`: a certificate, a check that is made now, or an override that says why."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.access.tables import AuditRow
from app.admission import Admission, apart
from app.certificates.queries import certificates, standing
from app.certificates.schemas import Subject
from app.certificates.tables import CertificateRow
from app.db import UnreachableError, make_engine, reading, writing
from app.errors import Problem
from app.main import make_service, make_serving
from app.serving.service import NEWEST
from inference import Device, Model
from inference.certify import Examined, Request, examine
from inference.devices import named
from tests.app.serving.conftest import Box, certificate
from tests.inference import onnx_graphs as graphs
from tests.inference.plugins import needs_compiler
from tests.waiting import wait_for, wait_until

CPU: dict[str, tuple[str, ...]] = {"judge": ("cpu",)}
X = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
WITHIN_S = 60


def _infer(client: TestClient, path: str = "judge") -> tuple[int, dict[str, Any]]:
    answer = client.post(f"/v2/models/{path}/infer", json={"inputs": [X]})
    return answer.status_code, answer.json()


def _rows(box: Box) -> list[tuple[str, str, bool, str, str]]:
    return [(one.device, one.outcome, one.passed, one.occasion, one.made_by) for one in certificates(box.engine)]


def _write(box: Box, *rows: CertificateRow) -> None:
    with writing(box.engine) as session:
        session.add_all(rows)


def _served(client: TestClient, box: Box) -> dict[str, Any]:
    told = client.get("/api/v1/serving", headers={"Authorization": f"Bearer {box.token('read')}"})
    (one,) = told.json()
    return dict(one)


def test_a_model_that_nobody_checked_is_checked_and_then_answers(box: Box) -> None:
    """The real check in a child is written down for `serve`, by the box itself; the session stands by it."""
    box.add("judge", graphs.mul(), certified=False)
    with box.serve(CPU) as client:
        assert _infer(client)[0] == 200
        served = _served(client, box)
    assert _rows(box) == [("cpu", "passed", True, "serve", "system")]
    assert (served["certificate"], served["certificate_id"], served["override"]) == ("valid", 1, "")


class Slow:
    """The real check, begun when the test says so."""

    def __init__(self) -> None:
        """Not begun."""
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, asked: Request) -> Examined:
        """As the activation check."""
        self.begun.set()
        self.go.wait(WITHIN_S)
        return examine(asked)


async def test_while_it_is_checked_callers_are_told_to_come_again(box: Box) -> None:
    """503 with the reason and when to come, for the model and for the server; nothing is loaded before the check."""
    box.add("judge", graphs.mul(), certified=False)
    slow = Slow()
    serving = make_serving(box.engine, box.settings(CPU))
    serving.examined = slow
    serving.start()
    try:
        await wait_for(slow.begun.is_set, WITHIN_S)
        version = await serving.version("judge", NEWEST)
        for _ in range(2):
            with pytest.raises(Problem, match="judge is being checked on cpu: come again") as refusal:
                await serving.load(version)
            assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (503, "2")
        assert serving.ready("judge", NEWEST) is None
        slow.go.set()
        await wait_for(lambda: serving.state() == "", WITHIN_S)
        assert (await serving.load(version)).choice.device.id == "cpu"
        assert len(_rows(box)) == 1
    finally:
        slow.go.set()
        await serving.close()


def test_a_version_that_comes_later_is_checked_when_it_is_asked_for(box: Box) -> None:
    """The first who asks is told that it is being checked; soon it answers."""
    box.add("judge", graphs.mul(), "1.0", at=1)
    with box.serve(CPU) as client:
        box.add("judge", graphs.mul(13), "2.0", at=2, certified=False)
        status, told = _infer(client, "judge/versions/2.0")
        assert (status, "being checked on cpu" in told["error"]) == (503, True)
        wait_until(lambda: client.get("/v2/models/judge/versions/2.0/ready").status_code == 200, WITHIN_S)
        assert _infer(client, "judge/versions/2.0")[0] == 200


def _wrong(box: Box) -> Model:
    """A model whose golden vectors the CPU does not answer."""
    model = box.add("judge", graphs.mul(), certified=False)
    _write(box, certificate(model, outcome="failed", passed=False, failures=[["y is wrong", "y 有误"]]))
    return model


def test_a_model_whose_check_did_not_pass_is_not_ready(box: Box) -> None:
    """503 with what the check said and what to run once it is mended; it is not checked again by itself."""
    model = _wrong(box)
    with box.serve(CPU) as client:
        status, told = _infer(client)
        ready = client.get("/v2/models/judge/ready")
    assert (status, ready.status_code) == (503, 503)
    assert "cpu: its check did not pass: y is wrong" in told["error"]
    assert f"headrace certify --model {model.digest} --device cpu" in told["error"]
    assert len(_rows(box)) == 1


@needs_compiler
def test_a_device_whose_check_did_not_pass_is_passed_over(box: Box) -> None:
    """The next of the order answers, with its own certificate; the answer says which was wanted."""
    model = _wrong(box)
    with box.serve({"judge": ("cpu", "simnpu")}) as client:
        told = _infer(client)[1]["parameters"]
    assert (told["device_wanted"], told["device"]) == ("cpu", "simnpu:0")
    assert [one[:3] for one in _rows(box) if one[0] != "cpu"] == [("simnpu:0", "passed", True)]
    assert standing(box.engine, Subject.of(model.digest, _cpu())).state == "failed"


@needs_compiler
def test_the_devices_behind_are_checked_once_the_model_answers(box: Box) -> None:
    """So that nobody waits for a check when the first one is lost."""
    box.add("judge", graphs.mul())
    with box.serve({"judge": ("cpu", "simnpu")}) as client:
        assert _infer(client)[1]["parameters"]["device"] == "cpu"
        wait_until(lambda: ("simnpu:0", "passed", True, "serve", "system") in _rows(box), WITHIN_S)


def test_an_override_runs_it_all_the_same_and_is_audited(box: Box) -> None:
    """Who reads the audit log sees which model, where, why, and how it stands; REST says it, too."""
    model = _wrong(box)
    with box.serve(CPU, serve_override={"judge": "the line stands still"}) as client:
        assert _infer(client)[0] == 200
        served = _served(client, box)
    assert (served["certificate"], served["override"]) == ("failed", "the line stands still")
    with reading(box.engine) as session:
        noted = session.scalars(select(AuditRow).where(AuditRow.action == "certificate_overridden")).one()
        assert (noted.target, noted.who) == (model.digest, "system")
        assert noted.detail == {"model": "judge", "device": "cpu", "reason": "the line stands still", "state": "failed"}


def test_an_override_of_what_is_not_offered_is_a_mistake_of_the_settings(box: Box) -> None:
    """The operator is told at start: a name with a slip would override nothing."""
    with pytest.raises(ValueError, match="serve_override names jugde"):
        box.settings(CPU, serve_override={"jugde": "why"})


def _cpu() -> Device:
    found = named("cpu")
    assert isinstance(found, Device)
    return found


def test_a_driver_that_has_changed_under_a_loaded_model_is_told(box: Box) -> None:
    """It goes on answering; `GET /serving` and the metrics say that its certificate is of another one."""
    model = box.add("judge", graphs.mul(), certified=False)
    _write(box, certificate(model))
    with TestClient(make_service(box.url, box.settings(CPU)), client=("127.0.0.1", 50000)) as client:
        client.headers["Authorization"] = f"Bearer {box.token()}"
        wait_until(lambda: client.get("/v2/models/judge/ready").status_code == 200, WITHIN_S)
        assert _metric(client) == 1.0
        with writing(box.engine) as session:
            session.scalars(select(CertificateRow)).one().driver = "the one before"
        assert (_infer(client)[0], _served(client, box)["certificate"], _metric(client)) == (200, "changed", 0.0)


def test_a_session_is_held_to_the_driver_that_its_device_has_now(box: Box) -> None:
    """Not to the one it was loaded with; of a device that has gone, that is all there is to hold it to."""
    model = box.add("judge", graphs.mul(), certified=False)
    before = {"backend": "a runtime", "driver": "the one before"}
    _write(box, certificate(model, **before))
    gate = Admission(box.engine, box.folder / "models")
    assert gate.standing(Subject(model.digest, "cpu", *before.values())).state == "changed"
    with writing(box.engine) as session:
        for row in session.scalars(select(CertificateRow)):
            row.device = "ascend:0"
    assert gate.standing(Subject(model.digest, "ascend:0", *before.values())).state == "valid"


def test_after_a_change_of_the_driver_it_is_checked_before_it_is_loaded(box: Box) -> None:
    """A start finds a certificate of another driver: the check is made anew, and both stay written down."""
    model = box.add("judge", graphs.mul(), certified=False)
    _write(box, certificate(model, driver="the one before"))
    with box.serve(CPU) as client:
        assert _infer(client)[0] == 200
    assert [one[3] for one in _rows(box)] == ["serve", "certify"]


def test_a_check_for_callers_says_nothing_of_an_activation(box: Box) -> None:
    """A pipeline that was in force before there were certificates stays trusted, whatever `/v2` has checked."""
    model = box.add("judge", graphs.mul(), certified=False)
    gate = Admission(box.engine, box.folder / "models")
    _write(box, certificate(model, occasion="serve"))
    elsewhere = Subject(model.digest, "ascend:0", "", "")
    assert standing(box.engine, elsewhere).first
    assert gate.order("judge", model.digest, ("cpu", "ascend")).open == ("cpu",)


def _metric(client: TestClient) -> float:
    name = 'headrace_serving_certificate_valid{device="cpu",model="judge",version="0"} '
    return float(next(one for one in client.get("/metrics").text.splitlines() if one.startswith(name))[len(name):])


async def test_a_database_that_goes_away_in_a_check_is_told_to_who_waits(box: Box) -> None:
    """As any other error of the check: nobody waits for ever."""
    away = Admission(make_engine(f"sqlite:///{box.folder / 'absent' / 'headrace.db'}"), box.folder / "models")
    model = box.add("judge", graphs.mul(), certified=False)
    with pytest.raises(UnreachableError):
        await apart(lambda: away.check(model.digest, "cpu"))
