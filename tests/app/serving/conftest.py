"""A box that offers a model under `/v2`, and what its callers need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from app import tables, times
from app.access import service as access
from app.access.tables import TokenRow, UserRow
from app.certificates.schemas import Subject
from app.certificates.tables import CertificateRow
from app.db import make_engine, writing
from app.main import make_service
from app.models.service import model_row
from app.settings import Settings
from inference import Device, Model
from inference.devices import named
from inference.model import import_model
from tests.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Box:
    """A folder, a database and a model store; nothing runs yet."""

    folder: Path
    engine: Engine

    @property
    def url(self) -> str:
        """Of the database."""
        return f"sqlite:///{self.folder / 'headrace.db'}"

    def add(
        self, name: str, graph: onnx.ModelProto, version: str = "0", at: int | None = None, *, certified: bool = True
    ) -> Model:
        """Import a model, as a package where it has a version; as `headrace certify` leaves it on the CPU."""
        source = self.folder / f"{name}-{version}"
        source.mkdir(parents=True)
        onnx.save_model(graph, source / "model.onnx")
        ends = {kind: [{"name": one.name} for one in getattr(graph.graph, kind[:-1])] for kind in ("inputs", "outputs")}
        # YAML takes JSON as it is.
        (source / "model.yaml").write_text(json.dumps({"name": name, "version": version, **ends}))
        model = import_model(source, self.folder / "models")
        with writing(self.engine) as session:
            session.add(model_row(model, times.now() if at is None else at))
            if certified:
                session.add(certificate(model))
        return model

    def token(self, *permissions: str) -> str:
        """Of the admin."""
        with writing(self.engine) as session:
            user = session.scalars(select(UserRow.id)).one()
            return access.issue_token(
                session, user, name="t", kind="api", permissions=permissions or ["infer"], ttl_s=60
            )

    def revoke_all(self) -> None:
        """Every token is revoked."""
        with writing(self.engine) as session:
            for row in session.scalars(select(TokenRow)):
                row.revoked_at = times.now()

    def settings(self, serve: dict[str, tuple[str, ...]], **more: Any) -> Settings:  # noqa: ANN401 - a setting's value
        """What the operator says."""
        return Settings(data_dir=self.folder, serve=serve, **more)


    @contextmanager
    def serve(self, devices: dict[str, tuple[str, ...]], **more: Any) -> Iterator[TestClient]:  # noqa: ANN401 - settings
        """To a client with a token; entered when the models are loaded."""
        with TestClient(make_service(self.url, self.settings(devices, **more))) as client:
            client.headers["Authorization"] = f"Bearer {self.token()}"
            wait_until(lambda: "being loaded" not in client.get("/v2/health/ready").text, 60)
            yield client


def certificate(model: Model, device: str = "cpu", **more: Any) -> CertificateRow:  # noqa: ANN401 - a column
    """Of a model on a device of this machine, as it is now."""
    found = named(device)
    assert isinstance(found, Device)
    subject = Subject.of(model.digest, found)
    told = {
        "model_digest": subject.model, "device": subject.device, "backend": subject.backend, "driver": subject.driver,
        "precision": subject.precision, "outcome": "passed", "passed": True, "failures": [], "golden": [],
        "placement": {}, "latency": [], "batch": 64, "p99_ns": None, "taken_ms": 0, "host": "", "at": times.now(),
        "made_by": "t", "occasion": "certify",
    }  # fmt: skip
    return CertificateRow(**{**told, **more})


@contextmanager
def opened(folder: Path) -> Iterator[Box]:
    """An empty box with its first admin."""
    engine = make_engine(f"sqlite:///{folder / 'headrace.db'}")
    tables.metadata.create_all(engine)
    access.ensure_admin(engine)
    yield Box(folder, engine)
    engine.dispose()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """An empty box of the test's own."""
    with opened(tmp_path) as made:
        yield made
