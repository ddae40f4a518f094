"""Rows of the compacted history: chunks of one tag, time axes they share, points of a thinned past, and its classes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Float, ForeignKey, Index, Integer, LargeBinary, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big, Json


class AxisRow(Base):
    """Times of readings that several chunks share: a scan stamps all its tags alike."""

    __tablename__ = "axes"

    digest: Mapped[str] = mapped_column(String(40), primary_key=True)
    """Of the times, hexadecimal."""
    block: Mapped[bytes] = mapped_column(LargeBinary)
    """In the form `app.chunks.decode_whole` reads."""


class ChunkRow(Base):
    """Readings of one tag over a span of time; spans of one tag may overlap, as readings come late."""

    __tablename__ = "chunks"
    __table_args__ = (
        Index("ix_chunks_tag", "tag_id", "last_time", "first_time"),
        Index("ix_chunks_connection", "connection_id", "last_time", "first_time"),
        Index("ix_chunks_level", "level", "tag_id", "connection_id"),
    )

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    tag_id: Mapped[int] = mapped_column(Big)
    connection_id: Mapped[int] = mapped_column(Big)
    """Through which they came."""
    first_time: Mapped[int] = mapped_column(Big)
    last_time: Mapped[int] = mapped_column(Big)
    """Smallest and greatest time among them, ns."""
    received_time: Mapped[int] = mapped_column(Big)
    """When the newest of them was received, ns: of two chunks, the order in which their readings arrived."""
    readings: Mapped[int] = mapped_column(Integer)
    level: Mapped[int] = mapped_column(Integer)
    """How often they were merged; `FULL` when they are not merged any more."""
    usable: Mapped[int] = mapped_column(Integer)
    """How many hold a finite number whose status is not Bad; of these are:"""
    minimum: Mapped[float | None] = mapped_column(Float)
    maximum: Mapped[float | None] = mapped_column(Float)
    mean: Mapped[float | None] = mapped_column(Float)
    axis: Mapped[str | None] = mapped_column(String(40), ForeignKey("axes.digest"), index=True)
    block: Mapped[bytes] = mapped_column(LargeBinary)
    """In the form `app.chunks.Chunk` reads."""
    unthinnable: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    """Thinning has left these as they are: texts and the like have no mean."""


class ThinnedRow(Base):
    """Points of one tag and one length of interval; spans of one tag may overlap, as readings come late."""

    __tablename__ = "thinned"
    __table_args__ = (Index("ix_thinned_tag", "tag_id", "last_time", "first_time"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    tag_id: Mapped[int] = mapped_column(Big)
    connection_id: Mapped[int] = mapped_column(Big)
    """Through which the readings came."""
    step_ns: Mapped[int] = mapped_column(Big)
    """Length of an interval."""
    first_time: Mapped[int] = mapped_column(Big)
    last_time: Mapped[int] = mapped_column(Big)
    """Where the first and the last interval begin, ns."""
    points: Mapped[int] = mapped_column(Integer)
    readings: Mapped[int] = mapped_column(Big)
    """Of which they were made."""
    usable: Mapped[int] = mapped_column(Big)
    """How many held a finite number whose status was not Bad; of these are:"""
    minimum: Mapped[float | None] = mapped_column(Float)
    maximum: Mapped[float | None] = mapped_column(Float)
    mean: Mapped[float | None] = mapped_column(Float)
    block: Mapped[bytes] = mapped_column(LargeBinary)
    """In the form `app.chunks.decode_points` reads."""


class HistoryClassRow(Base):
    """How the readings of some tags are kept."""

    __tablename__ = "history_classes"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    keep_days: Mapped[float | None] = mapped_column(Float)
    """None: for ever."""
    priority: Mapped[int] = mapped_column(Integer)
    """1 is the highest: what has a greater number leaves first when the disk is full."""
    thin: Mapped[Any] = mapped_column(Json)
    """Steps, each `[days, seconds]`: what is older than so many days becomes one point for so many seconds."""
    retired_at: Mapped[int | None] = mapped_column(Big)
    """ns; a class that no plant file has any more still holds for tags that had it when they were retired."""


class CompactionRow(Base):
    """Which batches of one connection went into chunks: what proves that a batch was stored once its row is gone."""

    __tablename__ = "compactions"
    __table_args__ = (Index("ix_compactions_numbers", "journal", "epoch", "last"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    journal: Mapped[str] = mapped_column(String(60))
    epoch: Mapped[int] = mapped_column(Big)
    connection_id: Mapped[int] = mapped_column(Big, index=True)
    first: Mapped[int] = mapped_column(Big)
    last: Mapped[int] = mapped_column(Big)
    """Smallest and greatest batch number among them."""
    readings: Mapped[int] = mapped_column(Big)
    received_time: Mapped[int] = mapped_column(Big)
    """When the newest of them was received, ns; of what was read from a history it is not noted, and 0."""
    numbers: Mapped[bytes] = mapped_column(LargeBinary)
    counts: Mapped[bytes] = mapped_column(LargeBinary)
    """Each batch's number, ascending, and how many readings it had, in the form `app.chunks.decode_whole` reads; empty
    where several of these rows were put together."""
