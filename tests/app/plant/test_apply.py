"""Applying a plant file: the difference first, then all of it at once, ids kept, every version kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from app import settings
from app.access.tables import AuditRow
from app.config.check import check_text
from app.config.desired import Desired
from app.db import make_engine, reading, upgrade, writing
from app.models.tables import ModelRow
from app.northbound.tables import SubscriptionRow
from app.pipelines.service import active
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.plant import queries, service
from app.settings import Settings
from app.sources.service import running
from app.sources.tables import ConnectionRow, TagRow, TagVersionRow
from inference.model import digests, import_model

PACKAGE = Path(__file__).parents[3] / "examples" / "tightening" / "package"
TEXT = """\
version: 1
plant: {enterprise: acme}
connections:
  - name: station
    connector: mqtt
    options: {url: "mqtt://127.0.0.1:1883", username: headrace, password: {file: secret}}
tags:
  - {name: torque, connection: station, address: "st/curve#/torque", unit: N.m}
  - {name: angle, connection: station, address: "st/curve#/angle", unit: deg}
  - {name: counter, connection: station, datatype: integer, address: "st/cycle#/counter"}
models:
  - {name: judge, digest: DIGEST}
pipelines:
  - name: tightening
    model: judge
    window: {trigger: counter}
    inputs: {tags: [torque, angle]}
    rules:
      - {name: bad, output: score, above: 1.0}
northbound:
  - {name: mes, connector: mqtt, options: {url: "mqtt://127.0.0.1:1883"}}
"""

Make = Callable[[str], Desired]


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    """A database at the newest schema, SQLite and PostgreSQL in turn."""
    settings.use(Settings(data_dir=tmp_path))
    upgrade(database_url)
    made = make_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the model."""
    made = tmp_path_factory.mktemp("models")
    import_model(PACKAGE, made)
    return made


@pytest.fixture
def desired(tmp_path: Path, store: Path) -> Make:
    """A checked file out of text."""
    (tmp_path / "secret").write_text("hunter2hunter2")
    (digest,) = digests(store)
    return lambda text: check_text(text.replace("DIGEST", digest), str(tmp_path / "plant.yaml"), store)


def tag_ids(engine: Engine) -> dict[str, int]:
    """Tags of connections in force, by name."""
    query = select(TagRow.name, TagRow.id).where(TagRow.retired_at.is_(None), TagRow.connection_id.is_not(None))
    with reading(engine) as session:
        return {name: number for name, number in session.execute(query)}  # noqa: C416 - rows are not pairs


def what(changes: tuple[service.Change, ...]) -> set[tuple[str, str, str]]:
    """Changes without their details."""
    return {(one.kind, one.name, one.what) for one in changes}


def test_first_apply_makes_everything(engine: Engine, desired: Make, tmp_path: Path) -> None:
    """What a file asks for is in force, and gateway and worker can run it."""
    applied = service.apply(engine, desired(TEXT), "wu")
    assert applied.number == 1
    assert {
        ("connection", "station", "added"),
        ("tag", "torque", "added"),
        ("pipeline", "tightening", "added"),
        ("northbound", "mes", "added"),
        ("plant", "acme", "changed"),
    } <= what(applied.changes)
    (connection,) = running(engine, tmp_path).values()
    assert connection.problem == ""
    assert connection.config.options["password"] == "hunter2hunter2"  # noqa: S105 - this test's own
    assert {one.address for one in connection.config.tags} == {
        "st/curve#/torque",
        "st/curve#/angle",
        "st/cycle#/counter",
    }
    versions, unusable = active(engine)
    assert unusable == []
    (version,) = versions.values()
    ids = tag_ids(engine)
    assert [one.tag for one in version.windows.inputs] == [ids["torque"], ids["angle"]]
    assert (version.windows.trigger, version.windows.length) == (ids["counter"], 128)
    with reading(engine) as session:
        assert session.scalars(select(ModelRow.digest)).one() == version.spec.model_digest
        assert queries.path_in_force(session) == "acme"


def test_secrets_are_sealed_in_the_database(engine: Engine, desired: Make) -> None:
    """Who copies the database does not have the passwords."""
    service.apply(engine, desired(TEXT), "wu")
    with reading(engine) as session:
        options = session.scalars(select(ConnectionRow.options)).one()
        documents = [row.document for row in queries.revisions(engine)]
    assert "hunter2" not in str(options)
    assert "hunter2" not in str(documents)


def test_second_apply_changes_nothing(engine: Engine, desired: Make) -> None:
    """The same file again is no new revision."""
    service.apply(engine, desired(TEXT), "wu")
    again = service.apply(engine, desired(TEXT), "wu")
    assert again == service.Applied(1, ())
    assert len(queries.revisions(engine)) == 1


def test_a_priority_changes_nothing_else(engine: Engine, desired: Make, tmp_path: Path) -> None:
    """What the journal drops first is no matter of how a connection is read: the running one stays as it is."""
    service.apply(engine, desired(TEXT), "wu")
    (before,) = running(engine, tmp_path).values()
    told = desired(TEXT.replace("connector: mqtt\n", "connector: mqtt\n    priority: low\n", 1))
    (change,) = service.apply(engine, told, "wu").changes
    assert (change.kind, change.name, change.detail) == ("connection", "station", "priority: normal → low")
    (after,) = running(engine, tmp_path).values()
    assert (before.priority, after.priority) == ("normal", "low")
    assert after == before


def test_a_changed_option_is_told_old_and_new_and_a_secret_is_not(
    engine: Engine, desired: Make, store: Path, tmp_path: Path
) -> None:
    """Option by option; of a secret only that it is another one."""
    service.apply(engine, desired(TEXT), "wu")
    told = TEXT.replace('1883", username: headrace', '1884", username: line', 1)
    (change,) = service.difference(engine, desired(told))
    assert change.detail == "url: mqtt://127.0.0.1:1883 → mqtt://127.0.0.1:1884, username: headrace → line"
    checked = desired(TEXT)
    (tmp_path / "secret").write_text("another secret")
    assert service.difference(engine, checked) == ()
    (change,) = service.difference(engine, check_text(checked.text, str(tmp_path / "plant.yaml"), store))
    assert change.detail == "password: •••• → ••••"


def test_a_version_from_before_there_was_an_order_stays(engine: Engine, desired: Make) -> None:
    """An upgrade alone puts no new version of a pipeline in force."""
    service.apply(engine, desired(TEXT), "wu")
    with writing(engine) as session:
        row = session.scalars(select(PipelineVersionRow)).one()
        older = {key: one for key, one in row.spec.items() if key != "catch_up"}
        newer = ("stop", "stop_connection", "shape")
        row.spec = older | {"window": {key: one for key, one in older["window"].items() if key not in newer}}
    assert service.apply(engine, desired(TEXT), "wu").changes == ()


def test_difference_writes_nothing(engine: Engine, desired: Make) -> None:
    """Looking at a difference leaves the plant as it is."""
    assert service.difference(engine, desired(TEXT))
    assert tag_ids(engine) == {}
    assert queries.revision(engine) is None


def test_a_new_address_or_name_keeps_the_tag(engine: Engine, desired: Make) -> None:
    """History stays with a tag that moved or was renamed; every version of it is kept."""
    service.apply(engine, desired(TEXT), "wu")
    before = tag_ids(engine)
    moved = TEXT.replace('address: "st/curve#/angle"', 'address: "st/curve#/phi"')
    applied = service.apply(engine, desired(moved), "wu")
    assert ("tag", "angle", "changed") in what(applied.changes)
    renamed = moved.replace("name: angle", "name: phi").replace("[torque, angle]", "[torque, phi]")
    applied = service.apply(engine, desired(renamed), "wu")
    assert what(applied.changes) == {("tag", "phi", "renamed")}
    assert tag_ids(engine)["phi"] == before["angle"]
    with reading(engine) as session:
        versions = session.scalars(
            select(TagVersionRow).where(TagVersionRow.tag_id == before["angle"]).order_by(TagVersionRow.revision)
        )
        assert [one.attributes["name"] for one in versions] == ["angle", "angle", "phi"]


def test_another_unit_is_another_tag(engine: Engine, desired: Make) -> None:
    """Degrees and radians are not one history; the old tag is retired, never deleted."""
    service.apply(engine, desired(TEXT), "wu")
    before = tag_ids(engine)
    applied = service.apply(engine, desired(TEXT.replace("unit: deg", "unit: rad")), "wu")
    after = tag_ids(engine)
    assert after["angle"] != before["angle"]
    assert after["torque"] == before["torque"]
    assert ("pipeline", "tightening", "changed") in what(applied.changes)
    with reading(engine) as session:
        assert session.get_one(TagRow, before["angle"]).retired_at is not None


def test_only_what_changed_is_touched(engine: Engine, desired: Make) -> None:
    """A new rule makes a new pipeline version and leaves the connection's revision alone."""
    service.apply(engine, desired(TEXT), "wu")
    with reading(engine) as session:
        revision = session.scalars(select(ConnectionRow.revision)).one()
    applied = service.apply(engine, desired(TEXT.replace("above: 1.0", "above: 2.0")), "wu")
    assert what(applied.changes) == {("pipeline", "tightening", "changed")}
    with reading(engine) as session:
        assert session.scalars(select(ConnectionRow.revision)).one() == revision
        assert session.scalars(select(PipelineVersionRow.number).order_by(PipelineVersionRow.number)).all() == [1, 2]


def test_a_changed_tag_raises_its_connections_revision(engine: Engine, desired: Make) -> None:
    """The gateway sees by the revision that it must bind again."""
    service.apply(engine, desired(TEXT), "wu")
    with reading(engine) as session:
        before = session.scalars(select(ConnectionRow.revision)).one()
    service.apply(engine, desired(TEXT.replace("st/curve#/angle", "st/curve#/phi")), "wu")
    with reading(engine) as session:
        assert session.scalars(select(ConnectionRow.revision)).one() == before + 1


def test_what_is_left_out_is_taken_out_and_comes_back_as_it_was(engine: Engine, desired: Make) -> None:
    """Removing keeps ids: a connection that returns is the one it was."""
    service.apply(engine, desired(TEXT), "wu")
    applied = service.apply(engine, desired("version: 1\n"), "wu")
    assert {
        ("connection", "station", "removed"),
        ("pipeline", "tightening", "removed"),
        ("northbound", "mes", "removed"),
    } <= what(applied.changes)
    with reading(engine) as session:
        assert session.scalars(select(PipelineRow.active_version)).one() is None
        assert session.scalars(select(SubscriptionRow.enabled)).one() is False
    service.apply(engine, desired(TEXT), "wu")
    with reading(engine) as session:
        (row,) = session.scalars(select(ConnectionRow)).all()
        assert row.retired_at is None


def test_every_version_is_kept_and_can_be_brought_back(engine: Engine, desired: Make) -> None:
    """Revision 1 is applied again as revision 3."""
    service.apply(engine, desired(TEXT), "wu")
    service.apply(engine, desired(TEXT.replace("above: 1.0", "above: 2.0")), "wu")
    first = queries.revision(engine, 1)
    assert first is not None
    applied = service.apply(engine, desired(first.document), "wu")
    assert applied.number == 3
    versions, _ = active(engine)
    assert [rule.above for one in versions.values() for rule in one.spec.rules] == [1.0]


def test_apply_is_audited(engine: Engine, desired: Make) -> None:
    """Who applied what stands in the audit log, in the same transaction."""
    service.apply(engine, desired(TEXT), "wu")
    with reading(engine) as session:
        (row,) = session.scalars(select(AuditRow)).all()
        assert (row.who, row.action) == ("wu", "plant_applied")


def test_a_new_password_is_a_change_that_is_not_shown(engine: Engine, desired: Make, tmp_path: Path) -> None:
    """A changed secret is applied, and the difference hides it."""
    service.apply(engine, desired(TEXT), "wu")
    (tmp_path / "secret").write_text("another-secret")
    changes = service.difference(engine, desired(TEXT))
    assert what(changes) == {("connection", "station", "changed")}
    assert "another-secret" not in str(changes)
    assert "hunter2" not in str(changes)
