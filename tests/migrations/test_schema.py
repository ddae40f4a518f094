"""Migrations bring an empty database to exactly what the service's row classes say."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import inspect, text

from app import tables
from app.db import make_engine, reading, upgrade, writing
from app.plant.tables import PlantRevisionRow
from app.settings import inherited

if TYPE_CHECKING:
    from pathlib import Path

MAX_NAME = 30
"""The longest name that every database we mean to run on takes."""


def configuration(url: str) -> Config:
    """Alembic's, as `upgrade` makes it."""
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.attributes["url"] = url
    return config


def test_the_head_is_what_the_row_classes_say(database_url: str) -> None:
    """From empty to head, every table, column, type, index and constraint is that of the row classes."""
    upgrade(database_url)
    command.check(configuration(database_url))
    engine = make_engine(database_url)
    assert set(inspect(engine).get_table_names()) == {*tables.metadata.tables, "alembic_version"}
    engine.dispose()


def test_a_difference_is_found(database_url: str) -> None:
    """A column that no migration makes fails the check: it can fail."""
    upgrade(database_url)
    engine = make_engine(database_url)
    with writing(engine) as session:
        session.execute(text("ALTER TABLE plant_revisions DROP COLUMN digest"))
    engine.dispose()
    with pytest.raises(CommandError, match="digest"):
        command.check(configuration(database_url))


def test_a_second_upgrade_changes_nothing(database_url: str) -> None:
    """Upgrading what is at the head keeps every row."""
    upgrade(database_url)
    engine = make_engine(database_url)
    with writing(engine) as session:
        session.add(PlantRevisionRow(number=1, document="", digest="", applied_at=1, applied_by="a"))
    upgrade(database_url)
    with reading(engine) as session:
        assert session.get_one(PlantRevisionRow, 1).applied_by == "a"
    engine.dispose()


def test_upgrades_at_once_all_end_at_the_head(database_url: str) -> None:
    """Services that start together may all upgrade: one does it, the others find it done."""
    environment = {**inherited(), "HEADRACE_DATABASE_URL": database_url}
    running = [
        subprocess.Popen([sys.executable, "-W", "error", "-m", "app.db"], env=environment, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [one.communicate(timeout=60)[1].decode() for one in running]
    assert [one.returncode for one in running] == [0, 0, 0], said
    command.check(configuration(database_url))


def test_a_new_folder_is_made_for_sqlite(tmp_path: Path) -> None:
    """The first start of an embedded gateway needs no folder made by hand."""
    upgrade(f"sqlite:///{tmp_path}/deep/down/headrace.db")
    assert (tmp_path / "deep/down/headrace.db").exists()


def test_names_fit_every_database() -> None:
    """Names of tables, columns, indexes and constraints keep within 30 characters."""
    names: list[str] = []
    for table in tables.metadata.tables.values():
        names += [table.name, *(column.name for column in table.columns), *(str(i.name) for i in table.indexes)]
    assert [name for name in names if len(name) > MAX_NAME] == []
