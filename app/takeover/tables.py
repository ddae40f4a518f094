"""Rows of where the numbers of a pipeline version go on after a takeover."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big


class TakeoverRow(Base):
    """Decided once for each term: a gateway that is started again within its term finds the same."""

    __tablename__ = "takeovers"

    version_id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    connection_id: Mapped[int] = mapped_column(Big)
    """Whose lease the version stands on."""
    term: Mapped[int] = mapped_column(Big)
    first: Mapped[int] = mapped_column(Big)
    """Number of the first window that this term closes."""
    after: Mapped[int] = mapped_column(Big)
    """ns: windows that end at or before this are answered already."""
    at: Mapped[int] = mapped_column(Big)
