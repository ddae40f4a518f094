"""What the sums wait for: answers that nobody has taken yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import update

from app.db import writing
from app.northbound.tables import OutboxRow
from app.selftest import queries
from tests.app.works import SECOND, START, Works

if TYPE_CHECKING:
    from pathlib import Path


def test_an_answer_is_unsent_until_somebody_has_taken_it(database_url: str, tmp_path: Path) -> None:
    """Of windows that ended by then; later ones are not asked for."""
    works = Works(database_url, tmp_path)
    works.scorer.apply(works.message(1, works.block([0.5, 0.5, 0.5], 1)))
    assert [queries.unsent(works.engine, START + second * SECOND) for second in (0, 1, 3)] == [0, 1, 3]
    with writing(works.engine) as session:
        session.execute(update(OutboxRow).values(sent_at=START))
    assert queries.unsent(works.engine, START + 3 * SECOND) == 0
    works.close()
