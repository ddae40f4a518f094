"""Rows of attempts at a batch that have not ended, and of windows that were kept because they could not be scored."""

from __future__ import annotations

from sqlalchemy import Index, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big


class AttemptRow(Base):
    """A worker works on this batch, or has died over it. The transaction that applies the batch takes it away."""

    __tablename__ = "attempts"

    journal: Mapped[str] = mapped_column(String(60), primary_key=True)
    epoch: Mapped[int] = mapped_column(Big, primary_key=True)
    number: Mapped[int] = mapped_column(Big, primary_key=True)
    deaths: Mapped[int] = mapped_column(Integer, default=0)
    """Processes that worked on it and are gone, while it is not applied."""
    process: Mapped[str] = mapped_column(String(120))
    """Who works on it: host, process id and when that process was started."""
    at: Mapped[int] = mapped_column(Big)
    """ns: since when."""


class DeadWindowsRow(Base):
    """The windows of one dead letter, kept whole so that they can be computed later."""

    __tablename__ = "dead_windows"
    __table_args__ = (
        Index("ix_dead_windows_state", "state", "letter_id"),
        Index("ix_dead_windows_version", "version_id", "state"),
    )

    letter_id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    """`dead_letters.id`."""
    version_id: Mapped[int] = mapped_column(Big)
    """The version whose windows they are."""
    windows: Mapped[int] = mapped_column(Integer)
    kept: Mapped[int] = mapped_column(Integer)
    """So many of them are in `body`: the first ones, when there was no room for all."""
    first_end: Mapped[int] = mapped_column(Big)
    last_end: Mapped[int] = mapped_column(Big)
    """ns: ends of the first and of the last window."""
    body: Mapped[bytes] = mapped_column(LargeBinary)
    """In the form `app.letters.schemas.unpack` reads; empty once they are dropped."""
    mended: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The same with inputs that a person corrected."""
    state: Mapped[str] = mapped_column(String(10), default="open")
    """`open`; `waiting` to be computed; `replayed`; `dropped`."""
    wanted_version: Mapped[int | None] = mapped_column(Big)
    """The version that is to compute them."""
    claimed_until: Mapped[int] = mapped_column(Big, default=0)
    """ns: until then they belong to the worker that computes them."""
    tries: Mapped[int] = mapped_column(Integer, default=0)
    """How often a worker has begun with them since they were asked for."""
    answered: Mapped[int] = mapped_column(Integer, default=0)
    """Of the last replay."""
    said: Mapped[str] = mapped_column(String(1000), default="")
    """Why the last replay left windows without an answer, or why they were dropped."""
    changed_at: Mapped[int] = mapped_column(Big)
    """ns: when the state last changed."""
    changed_by: Mapped[str] = mapped_column(String(100), default="")
