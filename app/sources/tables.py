"""Rows of the field: connections, tags and every version a tag ever had."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big, Json


class ConnectionRow(Base):
    """One configured peer."""

    __tablename__ = "connections"

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    connector: Mapped[str] = mapped_column(String(40))
    options: Mapped[Any] = mapped_column(Json)
    """Validated by the connector's `Options`; secrets sealed (see `access`)."""
    revision: Mapped[int] = mapped_column(Integer, default=1)
    """Goes up with every change of options or of the set of tags."""
    priority: Mapped[str] = mapped_column(String(10), default="normal")
    """`low`, `normal`, `high`: whose readings the journal drops first, where it is told to drop by it."""
    retired_at: Mapped[int | None] = mapped_column(Big)
    """ns; a connection is never deleted, because its readings name it."""


class TagRow(Base):
    """One named point; the id is permanent."""

    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(200), index=True)
    """Unique among those not retired."""
    connection_id: Mapped[int | None] = mapped_column(ForeignKey("connections.id"), index=True)
    """None for the outputs of a pipeline, which are tags too."""
    address: Mapped[str] = mapped_column(Text)
    datatype: Mapped[str] = mapped_column(String(20))
    unit: Mapped[str] = mapped_column(String(40), default="")
    place: Mapped[str] = mapped_column(String(200), default="")
    """Path in the plant's hierarchy, `/` between levels."""
    description: Mapped[str] = mapped_column(Text, default="")
    options: Mapped[Any] = mapped_column(Json)
    revision: Mapped[int] = mapped_column(Integer, default=1)
    retired_at: Mapped[int | None] = mapped_column(Big)
    history: Mapped[str | None] = mapped_column(String(100), index=True)
    """The class of its readings, its own, its connection's or the plant's; None where there is none."""


class TagVersionRow(Base):
    """What a tag was, from a time on: append-only."""

    __tablename__ = "tag_versions"
    __table_args__ = (UniqueConstraint("tag_id", "revision", name="uq_tag_versions_revision"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    tag_id: Mapped[int] = mapped_column(ForeignKey("tags.id"))
    revision: Mapped[int] = mapped_column(Integer)
    since: Mapped[int] = mapped_column(Big)
    attributes: Mapped[Any] = mapped_column(Json)
    """name, connection, address, datatype, unit, place, description, options."""
