"""Rows of the work that a filled gap leaves: windows of one pipeline version to be computed again."""

from __future__ import annotations

from sqlalchemy import Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big


class RecomputeRow(Base):
    """Windows of one version that touch one gap. Made with the end of its filling, done piece by piece."""

    __tablename__ = "recomputes"
    __table_args__ = (UniqueConstraint("gap_id", "version_id", name="uq_recomputes_version"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    gap_id: Mapped[int] = mapped_column(Big)
    version_id: Mapped[int] = mapped_column(Big)
    done_until: Mapped[int] = mapped_column(Big)
    """ns: windows that end at or before this are done."""
    until: Mapped[int] = mapped_column(Big)
    """ns: the end of the last window."""
    windows: Mapped[int] = mapped_column(Integer, default=0)
    """Computed again so far."""
    claimed_until: Mapped[int] = mapped_column(Big, default=0)
    """ns: until then it belongs to the worker that works on it."""
    done_at: Mapped[int | None] = mapped_column(Big)
    reason: Mapped[str] = mapped_column(String(300), default="")
    """Why it ended before its last window, or which were left out."""
