"""A box that offers one model under `/v2`, as a process of its own: what a client or a load is pointed at."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import onnx
from sqlalchemy import select

from app import tables, times
from app.access import service as access
from app.access.tables import UserRow
from app.db import make_engine, writing
from app.launcher.ports import Port
from app.launcher.stack import environment_of, module, module_path
from app.models.service import model_row
from app.settings import Settings, inherited
from inference.model import import_model

READY_WITHIN_S = 120


@dataclass(frozen=True, slots=True)
class Offered:
    """Where it is, and the token that opens it."""

    port: int
    token: str
    pid: int


def free_port() -> int:
    """One that nobody listens on now."""
    with Port() as port:
        return port.number


@contextmanager
def server(command: Sequence[str], port: int, environment: Mapping[str, str], folder: Path, log: Path) -> Iterator[int]:
    """A process that answers /v2/health/ready on this port, until the context ends; its id."""
    with log.open("wb") as out, subprocess.Popen(
        command, cwd=folder, env={**inherited(), **environment}, stdout=out, stderr=out
    ) as process:  # fmt: skip
        try:
            until = time.monotonic() + READY_WITHIN_S
            while not _ready(port):
                if process.poll() is not None or time.monotonic() > until:
                    message = f"a server of the benchmark did not get ready: {log.read_text()[-2000:]}"
                    raise RuntimeError(message)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
            yield process.pid
        finally:
            process.terminate()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def offered(folder: Path, models: Mapping[str, onnx.ModelProto]) -> Iterator[Offered]:
    """These models on the CPU."""
    folder.mkdir(parents=True)
    settings = Settings(data_dir=folder, serve=dict.fromkeys(models, ("cpu",)), api_port=free_port(), log_level="ERROR")
    engine = make_engine(settings.database())
    tables.metadata.create_all(engine)
    access.ensure_admin(engine)
    for name, graph in models.items():
        path = folder / f"{name}.onnx"
        onnx.save_model(graph, path)
        model = import_model(path, folder / "models")
        with writing(engine) as session:
            session.add(model_row(model, times.now()))
    with writing(engine) as session:
        user = session.scalars(select(UserRow.id)).one()
        token = access.issue_token(session, user, name="bench", kind="api", permissions=["infer"], ttl_s=86400)
    engine.dispose()
    environment = {**module_path(), **environment_of(settings)}
    with server(module("app.main"), settings.api_port, environment, folder, folder / "api.log") as pid:
        yield Offered(settings.api_port, token, pid)
