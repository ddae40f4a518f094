"""How a model and a device stand: the newest check with the present driver and runtime decides, and answers say so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from app import settings, times
from app.certificates import queries, service
from app.certificates.schemas import Standing, Subject
from app.certificates.tables import CertificateRow
from app.db import reading, writing
from app.events.service import acknowledge
from app.events.tables import EventRow
from app.northbound.tables import OutboxRow
from app.pipelines import service as pipelines
from app.scoring.tables import PredictionRow
from app.sessions import Ready
from app.settings import Settings
from app.watch.service import judge, uncertified
from connectors import Status
from inference import engines
from tests.app.scoring.test_devices import OUTPUTS, million_model, scored, variable
from tests.app.works import Works
from tests.inference.plugins import needs_compiler

HERE = Subject("sha256:m", "npu:0", "ort 1", "driver 1")
Checked = Callable[..., int]


@pytest.fixture
def works(database_url: str, tmp_path: Path) -> Iterator[Works]:
    """A pipeline on the CPU."""
    settings.use(Settings(data_dir=tmp_path))
    made = Works(database_url, tmp_path)
    yield made
    made.close()


@pytest.fixture
def checked(works: Works) -> Checked:
    """Write down that a subject was checked, and what came out; returns the certificate's id."""

    def do(subject: Subject, outcome: str = "passed", occasion: str = "certify") -> int:
        row = CertificateRow(
            model_digest=subject.model, device=subject.device, backend=subject.backend, driver=subject.driver,
            precision=subject.precision, outcome=outcome, passed=outcome == "passed", failures=[], golden=[],
            placement={}, latency=[], batch=64, taken_ms=1, host="h", at=times.now(), made_by="t", occasion=occasion,
        )  # fmt: skip
        with writing(works.engine) as session:
            session.add(row)
            session.flush()
            return row.id

    return do


def test_what_nobody_ever_checked_is_trusted_until_somebody_does(works: Works, checked: Checked) -> None:
    """What was in force before there were certificates stays as it was, also while workers check it by themselves."""
    assert queries.standing(works.engine, HERE) == Standing("unchecked", None, first=True)
    checked(replace(HERE, device="cpu"), "failed", "unchecked")
    assert queries.standing(works.engine, HERE) == Standing("unchecked", None, first=True)
    checked(replace(HERE, device="cpu"))
    assert queries.standing(works.engine, HERE) == Standing("unchecked", None, first=False)
    assert not queries.standing(works.engine, HERE).trusted


def test_the_newest_check_of_the_present_identity_counts(works: Works, checked: Checked) -> None:
    """Whatever was found before; an absent device says nothing of it."""
    first = checked(HERE)
    assert queries.standing(works.engine, HERE) == Standing("valid", first)
    second = checked(HERE, "failed")
    assert queries.standing(works.engine, HERE) == Standing("failed", second)
    third = checked(HERE)
    checked(HERE, "absent")
    assert queries.standing(works.engine, HERE) == Standing("valid", third)


@pytest.mark.parametrize("other", [{"driver": "driver 2"}, {"backend": "ort 2"}])
def test_another_driver_or_runtime_needs_a_check_of_its_own(
    works: Works, checked: Checked, other: dict[str, str]
) -> None:
    """The one that passed is no longer valid, and is again when the driver is what it was."""
    number, now = checked(HERE), replace(HERE, **other)
    assert queries.standing(works.engine, now) == Standing("changed", number)
    failed = checked(now, "failed")
    assert queries.standing(works.engine, now) == Standing("failed", failed)
    assert queries.standing(works.engine, HERE) == Standing("valid", number)


def test_a_precision_is_certified_by_itself(works: Works, checked: Checked) -> None:
    """A check in fp32 says nothing of fp16."""
    checked(HERE)
    assert queries.standing(works.engine, replace(HERE, precision="fp16")).state == "unchecked"


def test_an_answer_of_an_unchecked_pipeline_is_as_good_as_its_inputs(works: Works) -> None:
    """An upgrade alone makes nothing Uncertain; the passport says that there was no check."""
    row = scored(works, 1)
    assert (row.status, row.certificate, row.certificate_id) == (Status.GOOD, "unchecked", None)
    assert uncertified(works.engine) == []


def _certify(works: Works, device: str) -> CertificateRow:
    asked = service.request(works.folder / "models", works.model.digest, device)
    return service.certify(works.engine, asked, "ann", "certify")


def test_a_failed_check_makes_answers_uncertain_and_raises_an_alarm_once(works: Works, checked: Checked) -> None:
    """It keeps running; a check that passes clears the alarm, and the next answer is Good."""
    assert _certify(works, "cpu").passed
    assert scored(works, 1).status == Status.GOOD
    subject = Subject(works.model.digest, "cpu", scored(works, 2).backend, "")
    checked(subject, "failed")
    works.scorer.sessions.drop_all()
    row = scored(works, 3)
    assert (row.status, row.reason, row.certificate) == (Status.UNCERTAIN_CONFIGURATION_ERROR, "", "failed")
    assert row.outputs["score"] == pytest.approx(2.0)
    for _ in range(2):
        judge(works.engine, uncertified(works.engine))
    ((rule, state, message),) = _events(works)
    assert (rule, state) == ("certificate", "unack_active")
    assert "headrace certify --pipeline 'watch'" in message["en"]
    assert "headrace certify --pipeline 'watch'" in message["zh-CN"]
    with reading(works.engine) as session:
        event = session.scalars(select(EventRow.id)).one()
    assert acknowledge(works.engine, event, "ann", "seen")
    assert _certify(works, "cpu").passed
    judge(works.engine, uncertified(works.engine))
    assert [state for _, state, _ in _events(works)] == ["normal"]
    with reading(works.engine) as session:
        told = session.scalars(select(OutboxRow.body).where(OutboxRow.key == "box:watch:certificate")).all()
    clouds = [msgspec.json.decode(one) for one in told if one]
    assert [one["type"].rpartition(".")[2] for one in clouds] == ["raised", "acknowledged", "cleared"]
    assert {one["subject"] for one in clouds} == {"watch/certificate"}
    works.scorer.sessions.drop_all()
    assert scored(works, 4).status == Status.GOOD


@pytest.mark.parametrize("quality", [Status.UNCERTAIN_SUBSTITUTE, Status.GOOD_CLAMPED])
def test_what_an_input_says_is_worse_news_and_stays(works: Works, checked: Checked, quality: int) -> None:
    """An Uncertain input names its own cause; of what is Good only the severity counts."""
    checked(Subject(works.model.digest, "cpu", "another", ""), "failed")
    block = works.block([2.0], 1, quality=quality.to_bytes(4, "little"))
    works.scorer.apply(works.message(1, block))
    with reading(works.engine) as session:
        status = session.scalar(select(PredictionRow.status))
    good = quality >> 30 == 0
    assert status == (Status.UNCERTAIN_CONFIGURATION_ERROR if good else quality)


def _events(works: Works) -> list[tuple[str, str, dict[str, Any]]]:
    with reading(works.engine) as session:
        rows = session.scalars(select(EventRow).where(EventRow.source == "box").order_by(EventRow.raised_at))
        return [(one.rule, one.state, one.message) for one in rows]


@needs_compiler
def test_a_driver_that_changes_under_a_running_pipeline(here: str, tmp_path: Path) -> None:
    """The engine dies and comes back with another driver: each window is answered, Uncertain, until it is certified."""
    settings.use(Settings(data_dir=tmp_path, engines={"simnpu": ""}))
    engines.use({"simnpu": ""})
    spec = {"devices": ("simnpu:0",), "layout": "NC", "outputs": OUTPUTS}
    works = Works(here, tmp_path, proto=million_model(), spec=spec)
    try:
        assert _certify(works, "simnpu:0").passed
        assert scored(works, 1).certificate == "valid"
        with variable("SIMNPU_VERSION", "2.0.0"):
            engine = engines.engine("simnpu")
            assert engine is not None
            pid = engine.pid()
            assert pid is not None
            os.kill(pid, 9)
            row = scored(works, 2)
            assert (row.reason, row.certificate) == ("", "changed")
            assert row.driver.startswith("2.0.0, sha256:")
            assert row.status == Status.UNCERTAIN_CONFIGURATION_ERROR
            judge(works.engine, uncertified(works.engine))
            assert [(rule, state) for rule, state, _ in _events(works)] == [("certificate", "unack_active")]
            assert _certify(works, "simnpu:0").passed
            judge(works.engine, uncertified(works.engine))
            assert [(rule, state) for rule, state, _ in _events(works)] == [("certificate", "rtn_unack")]
            for ready in works.scorer.sessions.held().values():
                ready.looked = 0.0
            assert (scored(works, 3).status, scored(works, 4).certificate) == (Status.GOOD, "valid")
    finally:
        works.close()
        engines.stop()


@needs_compiler
def test_a_session_is_judged_in_the_precision_that_it_computes_in(database_url: str, tmp_path: Path) -> None:
    """A certificate in fp32 is none for a pipeline that asks its device for fp16."""
    settings.use(Settings(data_dir=tmp_path))
    spec = {"devices": ("simnpu:0@fp16",), "layout": "NC", "outputs": OUTPUTS}
    works = Works(database_url, tmp_path, proto=million_model(), spec=spec)
    assert _certify(works, "simnpu:0").passed
    found, _ = pipelines.versions(works.engine, {works.version})
    ready = works.scorer.sessions.get(found[works.version].spec)
    assert isinstance(ready, Ready)
    assert (ready.passport.precision, ready.subject.precision) == ("fp16", "fp16")
    assert ready.passport.standing == Standing("unchecked", None, first=False)
    works.close()
