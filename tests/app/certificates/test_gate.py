"""Nothing is put in force without a check that passed, but by a person who says why: then it is audited and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from sqlalchemy import Engine, select

from app import settings
from app.access.tables import AuditRow
from app.certificates import queries
from app.certificates.schemas import running_json
from app.certificates.tables import CertificateRow, OverrideRow
from app.config.activate import Gate, Refusal
from app.config.check import check_text
from app.config.desired import Desired
from app.db import make_engine, reading, upgrade, writing
from app.plant import service
from app.settings import Settings
from inference.model import import_model
from tests.app.scoring.test_devices import million_model, variable
from tests.inference.plugins import needs_compiler

pytestmark = needs_compiler
TEXT = """\
version: 1
connections:
  - {name: line, connector: mqtt, options: {url: "mqtt://127.0.0.1:1883"}}
tags:
  - {names: ["t[1-2]"], connection: line, address: "a#/{name}"}
models:
  - {name: million, digest: DIGEST}
pipelines:
  - {name: press, model: million, devices: DEVICES, window: {length: 4}, inputs: {tags: [t1, t2], layout: NC}}
"""
Make = Callable[[str], Desired]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Holds the model that overflows in half precision."""
    onnx.save_model(million_model(), tmp_path / "million.onnx")
    return tmp_path / "models"


@pytest.fixture
def digest(store: Path, tmp_path: Path) -> str:
    """Of the model."""
    return import_model(tmp_path / "million.onnx", store).digest


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    """A database at the newest schema."""
    settings.use(Settings(data_dir=tmp_path))
    upgrade(database_url)
    made = make_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def wanted(tmp_path: Path, store: Path, digest: str) -> Make:
    """A plant file with the pipeline on these devices."""

    def do(devices: str) -> Desired:
        text = TEXT.replace("DIGEST", digest).replace("DEVICES", devices)
        return check_text(text, str(tmp_path / "plant.yaml"), store)

    return do


@pytest.fixture
def refused(engine: Engine, store: Path) -> Callable[[Desired], list[Refusal]]:
    """What the gate refuses."""
    return lambda desired: [*Gate(engine, store, "ann").refusals(desired)]


Refused = Callable[[Desired], list[Refusal]]


def _outcomes(engine: Engine) -> list[tuple[str, str, str]]:
    return [(row.device, row.outcome, row.made_by) for row in reversed(queries.certificates(engine))]


def test_each_device_of_the_order_is_checked_and_written_down(engine: Engine, wanted: Make, refused: Refused) -> None:
    """By whom, and in the audit log; what is in force is not checked again."""
    desired = wanted('["simnpu:0", cpu]')
    assert refused(desired) == []
    assert _outcomes(engine) == [("simnpu:0", "passed", "ann"), ("cpu", "passed", "ann")]
    service.apply(engine, desired, "ann")
    assert refused(desired) == []
    assert len(_outcomes(engine)) == 2
    with reading(engine) as session:
        said = session.scalars(select(AuditRow).where(AuditRow.action == "model_checked")).all()
        assert [(one.who, one.detail["device"], one.detail["outcome"]) for one in said] == [
            ("ann", "simnpu:0", "passed"), ("ann", "cpu", "passed"),
        ]  # fmt: skip


def test_a_device_that_computes_wrongly_refuses_the_pipeline(engine: Engine, wanted: Make, refused: Refused) -> None:
    """Also where the next device of the order would pass: the sentence names device, output and what to do."""
    with variable("SIMNPU_FAULT", "half"):
        (one,) = refused(wanted('["simnpu:0", cpu]'))
    assert one.pipeline == "press"
    assert one.en.startswith("simnpu:0: output 'score': not finite")
    assert one.zh.startswith("simnpu:0：输出 'score'：不是有限值")
    assert ("simnpu:0", "failed", "ann") in _outcomes(engine)


def test_a_device_that_is_absent_is_passed_over_and_one_has_to_pass(
    engine: Engine, wanted: Make, refused: Refused
) -> None:
    """As it is while the pipeline runs; where none is left, every reason is said, and each is written down."""
    assert refused(wanted('["ascend:0", cpu]')) == []
    (one,) = refused(wanted('["ascend:0"]'))
    assert "ascend:0 is not here" in one.en
    assert "ascend:0" in one.zh
    assert [(device, outcome) for device, outcome, _ in _outcomes(engine)] == [
        ("ascend:0", "absent"), ("cpu", "passed"), ("ascend:0", "absent"),
    ]  # fmt: skip


def test_a_device_of_another_host_counts_by_its_own_certificate(
    engine: Engine, wanted: Make, refused: Refused, digest: str
) -> None:
    """The worker's host has checked it; the newest of that device decides."""
    for outcome, refusals in (("passed", 0), ("failed", 1)):
        with writing(engine) as session:
            session.add(CertificateRow(
                model_digest=digest, device="ascend:0", backend="ort", driver="d", precision="fp32", outcome=outcome,
                passed=outcome == "passed", failures=[], golden=[], placement={}, latency=[], batch=64, taken_ms=1,
                host="far", at=1, made_by="t", occasion="certify",
            ))  # fmt: skip
        assert len(refused(wanted('["ascend:0"]'))) == refusals


def test_an_override_is_audited_and_shown_with_its_pipeline(engine: Engine, wanted: Make, refused: Refused) -> None:
    """By whom, why and for which version; a later version of the same model runs under it, too."""
    desired = wanted('["simnpu:0"]')
    with variable("SIMNPU_FAULT", "half"):
        assert len(refused(desired)) == 1
    service.apply(engine, desired, "eve", {"press": "the line must run tonight"})
    with reading(engine) as session:
        row = session.scalars(select(OverrideRow)).one()
        assert (row.who, row.reason) == ("eve", "the line must run tonight")
        said = session.scalars(select(AuditRow).where(AuditRow.action == "certificate_overridden")).one()
        assert (said.who, said.target, said.detail["reason"]) == ("eve", "press", "the line must run tonight")
    service.apply(engine, wanted('["simnpu:0"], max_age_s: 60'), "ann")
    (one,) = queries.running(engine)
    shown = running_json(one)
    assert (shown["version"], shown["device"], shown["certificate"]) == (2, "", None)
    assert shown["override"]["who"] == "eve"


def test_a_precision_behind_a_device_is_what_is_checked(engine: Engine, wanted: Make, refused: Refused) -> None:
    """In half precision the model overflows; in single precision the same device passes."""
    (one,) = refused(wanted('["simnpu:0@fp16"]'))
    assert "not finite" in one.en
    assert refused(wanted('["simnpu:0"]')) == []
    found = [(row.device, row.precision, row.outcome) for row in reversed(queries.certificates(engine))]
    assert found == [("simnpu:0", "fp16", "failed"), ("simnpu:0", "fp32", "passed")]
