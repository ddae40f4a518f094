"""Rows of what models carry from window to window."""

from __future__ import annotations

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big


class ModelStateRow(Base):
    """The state of one pipeline version after its newest window; it moves by sequence number, compare and swap."""

    __tablename__ = "model_states"

    version_id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(Big)
    """Number of the window after which it is this."""
    state: Mapped[bytes] = mapped_column(LargeBinary)
    """As `app.carrying` packs it."""
    changed_at: Mapped[int] = mapped_column(Big)
    """ns."""
