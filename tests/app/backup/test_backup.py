"""A backup holds a box as it was at one moment; restored, an empty box is that box."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, MetaData, insert, select

from app.backup import box, service
from app.backup.archive import BackupError, Header, Reader, Writer
from app.backup.secret import Sealer, fresh_salt, passphrase
from app.commands.messages import ZH
from app.db import make_engine, reading, snapshot, upgrade, writing
from app.ledger.service import accounts
from app.ledger.tables import HeldRow, JournalStateRow, LedgerRow, PlaceRow
from app.messages import Message
from app.readings.tables import BatchRow
from app.scoring.service import apply
from app.settings import Settings
from inference.model import load_model
from tests.app.works import Works, record

PHRASE = "correct horse battery"
KEY = b"k" * 32
APPLIED = ["journal", "epoch", "number"]
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Where the kind of database changes nothing."""


@dataclass
class Source:
    """A box with readings, predictions, models and keys."""

    settings: Settings
    works: Works

    def take(self, path: Path, *, phrase: str | None = PHRASE, history: bool = True) -> Path:
        """A backup of it."""
        box.take(self.settings, path, phrase, history=history)
        return path


def _settings(folder: Path, url: str | None = None) -> Settings:
    return Settings(data_dir=folder, database_url=None if url is None else SecretStr(url))


@pytest.fixture
def source(tmp_path: Path, database_url: str) -> Iterator[Source]:
    """On either database."""
    folder = tmp_path / "old"
    folder.mkdir()
    upgrade(database_url)
    works = Works(database_url, folder)
    for number in range(1, 4):
        works.scorer.apply(works.message(number, works.block([0.5, 1.5], 2 * number), of=record(1, [1.0, 2.0, 3.0])))
    with writing(works.engine) as session:
        session.add(JournalStateRow(
            journal="gw", connection_id=1, epoch=1, head=5, watermark=3, read=14, held=5, stored=9, refused=0,
            dropped=0, lost_by_peer=0, segments=1, bytes=10, at=1,
        ))  # fmt: skip
        session.add(PlaceRow(id=4, connection_id=1, path="line-2"))
        session.add(HeldRow(journal="gw", place_id=4, held=5))
    (folder / "secret.key").write_bytes(KEY)
    (folder / "connections" / "1" / "own").mkdir(parents=True)
    (folder / "connections" / "1" / "own" / "key.pem").write_text("PRIVATE")
    (folder / "models" / ".import-half").mkdir()
    (folder / "models" / ".import-half" / "model.onnx").write_bytes(b"half")
    yield Source(_settings(folder, database_url), works)
    works.close()


def everything(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, but for what a restore settles."""
    with snapshot(engine) as session:
        connection = session.connection()
        found = service.tables(connection, history=True)
        rows = {one.name: sorted(map(tuple, connection.execute(select(one))), key=repr) for one in found}
    for settled in ("ledger", "journal_states", "held_at_places", "audit"):
        del rows[settled]
    return rows


@pytest.mark.parametrize("target", ["sqlite", "postgres"])
def test_an_empty_box_becomes_the_one_that_was_backed_up(
    source: Source, tmp_path: Path, target: str, request: pytest.FixtureRequest
) -> None:
    """Every row on either database, models by their digest, keys as they were; what is half imported stays behind."""
    file = source.take(tmp_path / "box.hrb")
    assert file.stat().st_mode & 0o777 == 0o600
    url = request.getfixturevalue("postgres_url") if target == "postgres" and "sqlite" in source.works.url else None
    new = _settings(tmp_path / "new", url)
    told = box.restore(new, file, PHRASE, "me")
    engine = make_engine(new.database())
    assert everything(engine) == everything(source.works.engine)
    engine.dispose()
    assert (told.has_secrets, told.missing) == (True, 5)
    assert load_model(new.data_dir / "models", source.works.model.digest).digest == source.works.model.digest
    assert (new.data_dir / "secret.key").read_bytes() == KEY
    assert (new.data_dir / "secret.key").stat().st_mode & 0o777 == 0o600
    assert (new.data_dir / "connections" / "1" / "own" / "key.pem").read_text() == "PRIVATE"
    assert not list(new.data_dir.rglob("*import-half*"))
    assert not list(new.data_dir.glob("headrace.db.restoring*"))


@SQLITE
def test_what_the_old_journal_held_is_counted(source: Source, tmp_path: Path) -> None:
    """It lay in no database: it is dropped by name, and the ledger balances."""
    new = _settings(tmp_path / "new")
    box.restore(new, source.take(tmp_path / "box.hrb"), PHRASE, "me")
    engine = make_engine(new.database())
    (found,) = accounts(engine)
    engine.dispose()
    assert (found.read, found.stored, found.dropped, found.held) == (14, 9, 5, 0)
    assert found.balanced
    assert found.reasons == {("dropped", service.NOT_IN_BACKUP): 5}
    assert not any(one.held for one in found.places), "what the old journal held never comes"


@SQLITE
def test_numbers_go_on_after_the_highest(source: Source, tmp_path: Path, postgres_url: str) -> None:
    """What is added to a restored box does not meet what is there."""
    new = _settings(tmp_path / "new", postgres_url)
    box.restore(new, source.take(tmp_path / "box.hrb"), PHRASE, "me")
    engine = make_engine(postgres_url)
    with writing(engine) as session:
        session.execute(insert(LedgerRow).values(
            journal="x", connection_id=1, fate="stored", reason="", readings=1, batches=1,
        ))  # fmt: skip
        tables = MetaData()
        tables.reflect(session.connection())
        values = {"name": "next", "connector": "mqtt", "options": "{}", "revision": 1}
        session.execute(insert(tables.tables["connections"]).values(values))
        assert session.execute(select(tables.tables["connections"].c.id).order_by("id")).scalars().all() == [1, 2]
    engine.dispose()


def test_all_tables_are_of_one_moment(source: Source, tmp_path: Path) -> None:
    """While a worker stores on, a backup never has a batch without its count in the ledger."""
    stop = threading.Event()

    def store() -> None:
        scorer, number = source.works.worker(), 10
        while not stop.is_set():
            number += 1
            scorer.apply(source.works.message(number, of=record(1, [1.0] * 50)))
        scorer.close()

    thread = threading.Thread(target=store)
    thread.start()
    try:
        files = [source.take(tmp_path / f"{n}.hrb", phrase=None) for n in range(3)]
    finally:
        stop.set()
        thread.join()
    sizes = []
    for n, file in enumerate(files):
        new = _settings(tmp_path / f"new{n}")
        box.restore(new, file, None, "me")
        engine = make_engine(new.database())
        with reading(engine) as session:
            batches = sum(session.scalars(select(BatchRow.count)))
            stored = session.scalar(select(LedgerRow.readings).where(LedgerRow.fate == "stored"))
        engine.dispose()
        assert batches == stored
        sizes.append(batches)
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]


@SQLITE
def test_configuration_alone(source: Source, tmp_path: Path) -> None:
    """Without history the box has its plant and models, and no reading; without a passphrase no key either."""
    file = source.take(tmp_path / "box.hrb", phrase=None, history=False)
    new = _settings(tmp_path / "new")
    told = box.restore(new, file, None, "me")
    engine = make_engine(new.database())
    rows = everything(engine)
    engine.dispose()
    assert rows["pipelines"] == everything(source.works.engine)["pipelines"]
    assert (rows["batches"], rows["predictions"], rows["outbox"]) == ([], [], [])
    assert not told.has_secrets
    assert not (new.data_dir / "secret.key").exists()
    assert (new.data_dir / "models").is_dir()


def test_a_backup_of_an_older_release_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its rows are loaded under their own schema, and migrated as an old box would be."""
    old = _settings(tmp_path / "old")
    old.data_dir.mkdir()
    upgrade(old.database(), "0003")
    engine = make_engine(old.database())
    tables = MetaData()
    with engine.begin() as connection:
        tables.reflect(connection)
        values = {"id": 7, "name": "line", "connector": "mqtt", "options": "{}", "revision": 1}
        connection.execute(insert(tables.tables["connections"]).values(values))
    engine.dispose()
    box.take(old, tmp_path / "box.hrb", None, history=True)
    new = _settings(tmp_path / "new")
    box.restore(new, tmp_path / "box.hrb", None, "me")
    upgrade(tmp_url := _settings(tmp_path / "fresh").database())
    fresh, restored = make_engine(tmp_url), make_engine(new.database())
    with snapshot(fresh) as first, snapshot(restored) as second:
        assert service.revision(first.connection()) == service.revision(second.connection())
    assert [row[:2] for row in everything(restored)["connections"]] == [(7, "line")]
    fresh.dispose()
    restored.dispose()


@SQLITE
@pytest.mark.parametrize("where", [0.01, 0.5, 0.999])
@pytest.mark.parametrize("how", ["flip", "cut"])
def test_a_damaged_backup_is_refused_before_anything_is_written(
    source: Source, tmp_path: Path, where: float, how: str
) -> None:
    """Wherever a byte is another one, or the file ends."""
    file = source.take(tmp_path / "box.hrb")
    content = bytearray(file.read_bytes())
    at = int(len(content) * where)
    if how == "flip":
        content[at] ^= 0x10
    file.write_bytes(content if how == "flip" else content[:at])
    new = _settings(tmp_path / "new")
    with pytest.raises(BackupError, match="no whole backup"):
        box.restore(new, file, PHRASE, "me")
    assert not new.data_dir.exists()


@SQLITE
@pytest.mark.parametrize(
    ("phrase", "said"), [(None, "give the passphrase"), ("another phrase of mine", "not the one this backup was made")]
)
def test_the_right_passphrase_is_needed(source: Source, tmp_path: Path, phrase: str | None, said: str) -> None:
    """Without it nothing is taken for a restored box: there is no database."""
    file = source.take(tmp_path / "box.hrb")
    assert b"PRIVATE" not in file.read_bytes()
    new = _settings(tmp_path / "new")
    with pytest.raises(BackupError, match=said):
        box.restore(new, file, phrase, "me")
    assert not (new.data_dir / "headrace.db").exists()


def test_a_part_cannot_be_passed_off_as_another() -> None:
    """What is sealed is bound to its name."""
    sealer = Sealer(PHRASE, fresh_salt())
    with pytest.raises(BackupError, match="passphrase"):
        sealer.open("sealed/b", sealer.seal("sealed/a", b"x"))
    assert sealer.open("sealed/a", sealer.seal("sealed/a", b"x")) == b"x"
    with pytest.raises(BackupError, match="salt"):
        Sealer(PHRASE, "zz")


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    """A file can be tried against as often as one likes."""
    (tmp_path / "phrase").write_text("short\n")
    with pytest.raises(BackupError, match="12 characters"):
        passphrase(tmp_path / "phrase")


@SQLITE
@pytest.mark.parametrize("there", ["headrace.db", "journal/gateway-1/epoch", "models/x", "secret.key"])
def test_a_box_that_is_not_empty_is_left_alone(source: Source, tmp_path: Path, there: str) -> None:
    """Whatever would be overwritten, or belongs to another database, is named."""
    new = _settings(tmp_path / "new")
    path = new.data_dir / there
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(BackupError, match=there.partition("/")[0]):
        box.restore(new, source.take(tmp_path / "box.hrb"), PHRASE, "me")
    assert path.read_text() == "mine"


def test_a_database_that_is_not_empty_is_left_alone(source: Source, tmp_path: Path) -> None:
    """One row is enough."""
    new = Settings(data_dir=tmp_path / "new", database_url=source.settings.database_url)
    with pytest.raises(BackupError, match="not empty"):
        box.restore(new, source.take(tmp_path / "box.hrb"), PHRASE, "me")


def test_a_database_that_was_never_set_up_is_said(tmp_path: Path) -> None:
    """There is nothing to back up, and no file is left."""
    with pytest.raises(BackupError, match="never set up"):
        box.take(_settings(tmp_path), tmp_path / "box.hrb", None, history=True)
    assert [one.name for one in tmp_path.iterdir() if one.suffix != ".db"] == []


def _forged(path: Path, parts: dict[str, bytes], **header: Any) -> Path:  # noqa: ANN401
    """A whole file of ours with other content."""
    given = {"version": 1, "made_at": 1, "headrace": "0", "revision": "0003", "tables": {}, "history": True, **header}
    with Writer.to(path, msgspec.convert(given, Header)) as writer:
        for name, content in parts.items():
            writer.add(name, content)
    return path


@pytest.mark.parametrize("name", ["../x", "data/../../x", "/etc/x", "data//x", "data/./x", "a\nb"])
def test_no_part_leaves_its_folder(tmp_path: Path, name: str) -> None:
    """A file may be made by anybody."""
    with pytest.raises(BackupError, match="none of ours"):
        Reader(_forged(tmp_path / "box.hrb", {name: b"x"})).verify()


@pytest.mark.parametrize(
    ("parts", "header", "said"),
    [
        ({}, {"version": 2}, "version 2"),
        ({"tables/tags/1": b"x"}, {}, "does not say"),
        ({}, {"tables": {"nothing": ["id"]}}, "schema has not"),
        ({}, {"tables": {"connections": ["id"]}}, "schema has not"),
        ({"tables/applied/1": msgspec.msgpack.encode([("a", 1)])}, {"tables": {"applied": APPLIED}}, "row"),
        ({"tables/applied/1": b"\xc1"}, {"tables": {"applied": APPLIED}}, "not ours"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, parts: dict[str, bytes], header: dict[str, Any], said: str
) -> None:
    """Its digests are right and its content is not: the message says so, and there is no database."""
    new = _settings(tmp_path / "new")
    with pytest.raises(BackupError, match=said):
        box.restore(new, _forged(tmp_path / "box.hrb", parts, **header), None, "me")
    assert not (new.data_dir / "headrace.db").exists()


@SQLITE
def test_a_second_try_succeeds(source: Source, tmp_path: Path) -> None:
    """What a failed restore left, but for files that are there now, is no hindrance."""
    file = source.take(tmp_path / "box.hrb", phrase=None)
    new = _settings(tmp_path / "new")
    new.data_dir.mkdir()
    (new.data_dir / "headrace.db.restoring").write_bytes(b"half")
    box.restore(new, file, None, "me")
    engine = make_engine(new.database())
    with reading(engine) as session:
        assert session.scalars(select(BatchRow.count)).all() == [3, 3, 3]
    engine.dispose()


def test_applying_a_message_again_after_a_restore_changes_nothing(source: Source, tmp_path: Path) -> None:
    """The ids of what was applied are part of the history."""
    new = _settings(tmp_path / "new")
    box.restore(new, source.take(tmp_path / "box.hrb"), PHRASE, "me")
    engine = make_engine(new.database())
    before = everything(engine)
    assert not apply(engine, Message(1, "gw", 1, 2, record(1), ()), [])
    assert everything(engine) == before
    engine.dispose()


def test_what_is_wrong_is_said_in_chinese_too() -> None:
    """Every sentence of a refusal has its translation."""
    sentences = {
        node.value.value
        for file in Path(box.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        and [one.id for one in node.targets if isinstance(one, ast.Name)] == ["message"]
    }  # fmt: skip
    assert len(sentences) > 10
    assert sentences - ZH.keys() == set()
