"""Rows of the history: one compressed columnar row per batch, and the batch ids that make applying it exactly-once."""

from __future__ import annotations

from sqlalchemy import Boolean, Index, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big

WIDE_S = 60
"""Batches whose source times span more than this are marked."""


class BatchRow(Base):
    """The readings of one batch, in the form `app.records.decode_columns` reads."""

    __tablename__ = "batches"
    __table_args__ = (
        Index("ix_batches_time", "connection_id", "last_time"),
        Index("ix_batches_wide", "connection_id", "wide", "last_time"),
    )

    journal: Mapped[str] = mapped_column(String(60), primary_key=True)
    epoch: Mapped[int] = mapped_column(Big, primary_key=True)
    number: Mapped[int] = mapped_column(Big, primary_key=True)
    connection_id: Mapped[int] = mapped_column(Big)
    revision: Mapped[int] = mapped_column(Integer)
    received_time: Mapped[int] = mapped_column(Big)
    first_time: Mapped[int] = mapped_column(Big)
    """Smallest source time (received time where there is none), ns."""
    last_time: Mapped[int] = mapped_column(Big)
    wide: Mapped[bool] = mapped_column(Boolean)
    """Its source times span more than a minute: a range of time need not look for others far from its ends."""
    count: Mapped[int] = mapped_column(Integer)
    columns: Mapped[bytes] = mapped_column(LargeBinary)
    gap_id: Mapped[int | None] = mapped_column(Big)
    """Of readings that were read from their peer's history: the gap they fill."""


class AppliedRow(Base):
    """A batch id that was applied and lies above its watermark: inserted first in every transaction."""

    __tablename__ = "applied"

    journal: Mapped[str] = mapped_column(String(60), primary_key=True)
    epoch: Mapped[int] = mapped_column(Big, primary_key=True)
    number: Mapped[int] = mapped_column(Big, primary_key=True)


class WatermarkRow(Base):
    """Everything at or below `number` of this journal and epoch was applied; kept for ever."""

    __tablename__ = "watermarks"

    journal: Mapped[str] = mapped_column(String(60), primary_key=True)
    epoch: Mapped[int] = mapped_column(Big, primary_key=True)
    number: Mapped[int] = mapped_column(Big)


class DeadLetterRow(Base):
    """What a peer sent that could not become a reading, or a batch that could not be scored."""

    __tablename__ = "dead_letters"

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    connection_id: Mapped[int] = mapped_column(Big, index=True)
    at: Mapped[int] = mapped_column(Big)
    address: Mapped[str] = mapped_column(String(500))
    reason: Mapped[str] = mapped_column(String(60))
    detail: Mapped[str] = mapped_column(String(1000))
    excerpt: Mapped[bytes] = mapped_column(LargeBinary)
    readings: Mapped[int] = mapped_column(Integer)
