"""`headrace apply --url`: a plant file goes to a running gateway, with its secrets, over the real API."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from typer.testing import Result

from app import settings
from app.access.service import ensure_admin, issue_token
from app.access.tables import UserRow
from app.commands import remote
from app.db import make_engine, upgrade, writing
from app.launcher.ports import Port
from app.plant import queries
from app.sources.service import running
from inference.model import import_model
from tests.waiting import wait_until

PACKAGE = Path(__file__).parents[3] / "examples" / "tightening" / "package"
ROOT = Path(__file__).parents[3]
Run = Callable[..., Result]


@dataclass(frozen=True)
class Box:
    """A gateway's API in a process of its own."""

    url: str
    folder: Path
    engine: Engine
    token: Path


def _answers(port: int) -> bool:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        line.request("GET", "/healthz")
        return line.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        line.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """`python -m app.main` over an empty SQLite database, and an engineer's token in a file."""
    folder = tmp_path_factory.mktemp("box")
    url = f"sqlite:///{folder / 'headrace.db'}"
    upgrade(url)
    engine = make_engine(url)
    ensure_admin(engine)
    with writing(engine) as session:
        user = session.scalars(select(UserRow.id)).one()
        token = issue_token(session, user, name="t", kind="api", permissions=["read", "configure"], ttl_s=3600)
    (folder / "token").write_text(token + "\n")
    command = [sys.executable, "-m", "app.main"]
    with Port() as port, (folder / "log").open("wb") as log:
        environment = {
            **settings.inherited(),
            "HEADRACE_DATA_DIR": str(folder),
            "HEADRACE_API_PORT": str(port.number),
        }
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log, stdout=log)
        try:
            wait_until(lambda: _answers(port.number), 60, "the API answers")
            yield Box(f"http://127.0.0.1:{port.number}", folder, engine, folder / "token")
        finally:
            process.terminate()
            process.wait(20)
            engine.dispose()


def test_a_file_goes_to_a_running_gateway(run: Run, plant: Path, api: Box) -> None:
    """The model must be there; then the same file as for one's own box, secrets and all, and idempotent."""
    there = ["--url", api.url, "--token-file", api.token]
    refused = run("apply", plant, "--yes", *there)
    assert refused.exit_code == 1
    assert f"{plant}:15:19: " in refused.stderr
    assert "sha256:" in refused.stderr
    import_model(PACKAGE, api.folder / "models")
    shown = run("apply", plant, *there, answer="n\n")
    assert "tightening" in shown.stdout
    assert queries.number(api.engine) == 0
    applied = json.loads(run("apply", plant, "--yes", "--json", *there).stdout)
    assert applied["revision"] == 1
    settings.use(settings.settings().model_copy(update={"data_dir": api.folder}))
    (connection,) = running(api.engine, api.folder).values()
    assert connection.config.options["password"] == "hunter2hunter2"  # noqa: S105 - this test's own
    assert "No changes: revision 1" in run("apply", plant, *there).stdout
    row = queries.revision(api.engine)
    assert row is not None
    assert "hunter2" not in row.document


def test_devices_that_refuse_a_model_are_told_of_before_it_is_sent(run: Run, plant: Path, api: Box) -> None:
    """Judged where the file is: as a warning in a person's language and in the JSON, and the file goes on its way."""
    import_model(PACKAGE, api.folder / "models")
    ordered = plant.read_text().replace("    window: {trigger", "    devices: [simnpu, cpu]\n    window: {trigger")
    plant.write_text(ordered)
    there = ["--url", api.url, "--token-file", api.token, "--dry-run"]
    told = json.loads(run("apply", plant, "--json", *there).stdout)
    (warned,) = told["warnings"]
    assert (warned["pipeline"], warned["device"]) == ("tightening", "simnpu")
    assert "Warning: tightening: simnpu" in run("apply", plant, *there).stderr


def test_mistakes_are_found_before_anything_is_sent(run: Run, plant: Path) -> None:
    """A bad file costs no request: nobody needs to listen at the address."""
    plant.write_text(plant.read_text().replace("output: score", "output: scroe"))
    (plant.parent / "token").write_text("t")
    found = run("apply", plant, "--yes", "--url", "http://127.0.0.1:1", "--token-file", plant.parent / "token")
    assert found.exit_code == 1
    assert "did you mean 'score'" in found.stderr


def test_who_has_no_token_is_told(run: Run, plant: Path, api: Box) -> None:
    """Neither a missing nor a wrong token gets anywhere, and no token is printed."""
    assert "HEADRACE_TOKEN" in run("apply", plant, "--yes", "--url", api.url).stderr
    (plant.parent / "token").write_text("hr_wrong_token")
    refused = run("apply", plant, "--yes", "--url", api.url, "--token-file", plant.parent / "token")
    assert refused.exit_code == 1
    assert "hr_wrong_token" not in refused.output


@pytest.mark.parametrize("url", ["http://192.0.2.1:8420", "ftp://127.0.0.1", "127.0.0.1:8420", "https://"])
def test_secrets_do_not_travel_in_the_clear(url: str) -> None:
    """Plain http is for this machine, or for whoever asks for it by name."""
    with pytest.raises(remote.RemoteError):
        remote.Gateway(url, "t")
    if url.startswith("http:"):
        remote.Gateway(url, "t", plain=True)


def test_nobody_there(run: Run, plant: Path) -> None:
    """A gateway that is down is one line, no traceback."""
    (plant.parent / "token").write_text("t")
    with Port() as nobody:
        url = f"http://127.0.0.1:{nobody.number}"
        found = run("apply", plant, "--yes", "--url", url, "--token-file", plant.parent / "token")
    assert found.exit_code == 1
    assert "does not answer" in found.stderr
