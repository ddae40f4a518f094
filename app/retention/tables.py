"""Rows that tell what was removed by its age: counters that commit with the removal."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big


class RemovalRow(Base):
    """Rows of one kind that were removed because they were old enough."""

    __tablename__ = "removals"

    kind: Mapped[str] = mapped_column(String(30), primary_key=True)
    """`readings` (chunks), `points` (blocks of them), `predictions`, `outbox`, `events`, `dead_letters`; and `thinned`,
    readings in whose place there are points."""
    whose: Mapped[str] = mapped_column(String(60), primary_key=True)
    """Whose: of predictions the pipeline's id and `answered` or `refused`; of readings and points the
    connection's id; else empty."""
    rows: Mapped[int] = mapped_column(Big)
