"""What an earlier release left behind, killed in the middle of its work, goes on in this one.

`python -m tests.upgrades.record NAME` makes the fixture of a release; it is kept, and later releases open it too.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tarfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from pydantic import SecretStr
from sqlalchemy import MetaData, create_engine, insert, select, text

from app.backup import box
from app.db import Engine, LaterSchemaError, make_engine, reading, upgrade, writing
from app.events.tables import EventRow
from app.ledger.service import accounts
from app.northbound.tables import OutboxRow
from app.scoring.tables import PredictionRow
from app.selftest.queries import stored
from app.settings import Settings, inherited
from tests.upgrades.record import FIXTURES, ROUND_MS, ROWS, TAGS, Story
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Row

pytestmark = pytest.mark.timeout(300)

RELEASES: Final = sorted(one.name.removesuffix(".tar.xz") for one in FIXTURES.glob("*.tar.xz"))
WITHIN_S: Final = 120.0
NS_PER_MS: Final = 1_000_000


def unpacked(release: str, folder: Path) -> Story:
    """The data folder as the release left it, in `folder/data`, and what had been published."""
    with tarfile.open(FIXTURES / f"{release}.tar.xz") as archive:
        for one in archive:
            target = folder / one.name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(one)
            assert content is not None
            target.write_bytes(content.read())
    return msgspec.json.decode((folder / "story.json").read_bytes(), type=Story)


@contextmanager
def up(data: Path, **variables: str) -> Iterator[None]:
    """The gateway of today runs on the folder."""
    out = data.parent / "up.txt"
    with out.open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "up", "--data", str(data)], stdout=printed, stderr=subprocess.STDOUT,
            env={**inherited(), "HEADRACE_API_PORT": "0", **variables}, start_new_session=True,
        )  # fmt: skip
        try:
            wait_until(lambda: b"api is ready" in out.read_bytes() or process.poll() is not None, WITHIN_S, "it is up")
            assert process.poll() is None, out.read_text()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, out.read_text()


def score(end_time: int, story: Story) -> float:
    """The mean of the window that ends there."""
    last = (end_time // NS_PER_MS - story.start_ms) // ROUND_MS
    return sum(k + 1000 * i for k in range(last - ROWS + 1, last + 1) for i in range(len(TAGS))) / (ROWS * len(TAGS))


def predictions(engine: Engine) -> Sequence[Row[Any]]:
    """Number, id, end, reason and outputs of each window, in their order."""
    row = PredictionRow
    query = select(row.sequence, row.id, row.end_time, row.reason, row.outputs).order_by(row.sequence)
    with reading(engine) as session:
        return session.execute(query).all()


@pytest.mark.parametrize("release", RELEASES)
def test_a_box_of_an_earlier_release_goes_on_where_it_was_killed(release: str, tmp_path: Path) -> None:
    """Every reading is stored once, also those that its journal alone had; every window has its number and is whole."""
    story, data = unpacked(release, tmp_path), tmp_path / "data"
    with up(data):
        engine = make_engine(f"sqlite:///{data / 'headrace.db'}")
        wait_until(lambda: all(one.held == 0 for one in accounts(engine)), WITHIN_S, "nothing is held")
        whole = len(TAGS) * story.rounds
        wait_until(lambda: [one.stored for one in accounts(engine)] == [whole], WITHIN_S, "all is stored")
    (account,) = accounts(engine)
    assert (account.read, account.stored, account.balanced) == (whole, whole, True)
    assert stored(engine, "device") == Counter(story.readings())
    made = predictions(engine)
    assert [one.sequence for one in made] == list(range(1, len(made) + 1))
    ended = [one for one in made if one.end_time <= (story.start_ms + (story.rounds - 1) * ROUND_MS) * NS_PER_MS]
    assert len(ended) == (story.rounds - 1) // ROWS
    assert {one.reason for one in ended} == {""}
    assert [one.outputs["score"] for one in ended] == pytest.approx([score(one.end_time, story) for one in ended])
    with reading(engine) as session:
        assert Counter(session.scalars(select(OutboxRow.publication_id)))[made[-1].id] == 1
        assert session.scalars(select(EventRow.rule)).all() == ["high"]
    engine.dispose()


@pytest.mark.parametrize("release", RELEASES)
def test_what_an_earlier_release_writes_fits_the_newest_schema(release: str, tmp_path: Path, database_url: str) -> None:
    """Migrations only add: processes of the release before go on writing while the database is already the newest."""
    unpacked(release, tmp_path)
    upgrade(database_url)
    old, new = create_engine(f"sqlite:///{tmp_path / 'data' / 'headrace.db'}"), make_engine(database_url)
    before, now = MetaData(), MetaData()
    with old.connect() as source, writing(new) as target:
        before.reflect(source)
        now.reflect(target.connection())
        for table in before.sorted_tables:
            rows = [dict(row) for row in source.execute(select(table)).mappings()]
            if rows and table.name != "alembic_version":
                target.execute(insert(now.tables[table.name]), rows)
                names = [column.name for column in table.columns]
                back = target.execute(select(*(now.tables[table.name].c[name] for name in names))).mappings()
                assert Counter(map(repr, map(dict, back))) == Counter(map(repr, rows)), table.name
    old.dispose()
    new.dispose()


@pytest.mark.parametrize("release", RELEASES)
def test_a_backup_of_an_earlier_release_fills_an_empty_box(release: str, tmp_path: Path, database_url: str) -> None:
    """On either database: what it held is there once, what its journal held is counted, and the ledger balances."""
    story = unpacked(release, tmp_path / "old")
    new = Settings(data_dir=tmp_path / "new", database_url=SecretStr(database_url))
    told = box.restore(new, FIXTURES / f"{release}.hrb", None, "me")
    engine = make_engine(database_url)
    found = stored(engine, "device")
    assert found
    assert found <= Counter(story.readings())
    (account,) = accounts(engine)
    assert (account.read, account.balanced) == (len(TAGS) * story.rounds, True)
    assert account.stored == found.total()
    assert (account.dropped, account.held) == (told.missing, 0)
    assert [one.sequence for one in predictions(engine)] == list(range(1, len(predictions(engine)) + 1))
    engine.dispose()


def test_a_database_of_a_later_release_is_left_alone(database_url: str) -> None:
    """An older program says that it is older, and changes nothing."""
    upgrade(database_url)
    engine = make_engine(database_url)
    with writing(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LaterSchemaError, match="9999"):
        upgrade(database_url)
    with reading(engine) as session:
        assert session.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"
    engine.dispose()


@pytest.mark.parametrize("words", [("migrate",), ("up",)])
@pytest.mark.parametrize(("language", "said"), [("en", "later release"), ("zh-CN", "更新版本")])
def test_an_older_program_says_so_where_it_is_started(
    words: tuple[str, ...], language: str, said: str, tmp_path: Path
) -> None:
    """One sentence that names what to do, and no traceback."""
    url = f"sqlite:///{tmp_path / 'headrace.db'}"
    upgrade(url)
    engine = make_engine(url)
    with writing(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "--lang", language, *words], capture_output=True, text=True, timeout=60,
        env={**inherited(), "HEADRACE_DATA_DIR": str(tmp_path), "COLUMNS": "200"}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
