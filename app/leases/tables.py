"""Rows of leases: one for each connection and each subscription, where several gateways share a database."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big


class LeaseRow(Base):
    """Who owns one thing, and until when; it is never deleted, so that its term only grows."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    """`connection:ID` or `subscription:ID`."""
    holder: Mapped[str] = mapped_column(String(60), default="")
    """The id of the holder's journal, which is unique for ever; empty where it was given back."""
    gateway: Mapped[str] = mapped_column(String(30), default="")
    """The holder's name, for people."""
    term: Mapped[int] = mapped_column(Big)
    """One more with each new holder: what an older one writes is told by it."""
    expires_at: Mapped[int] = mapped_column(Big)
    since: Mapped[int] = mapped_column(Big)
    """When the term began. Both in ns, by the clock of the database."""
