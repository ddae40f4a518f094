"""Rows of pipelines and their versions: a version never changes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Big, Json


class PipelineRow(Base):
    """One pipeline by name, and the version in force."""

    __tablename__ = "pipelines"

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    active_version: Mapped[int | None] = mapped_column(Big)
    """`pipeline_versions.id`; None when the pipeline is stopped."""


class PipelineVersionRow(Base):
    """tags → window → model → outputs → rules, frozen."""

    __tablename__ = "pipeline_versions"
    __table_args__ = (UniqueConstraint("pipeline_id", "number", name="uq_pipeline_versions_number"),)

    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    pipeline_id: Mapped[int] = mapped_column(ForeignKey("pipelines.id"))
    number: Mapped[int] = mapped_column(Integer)
    model_digest: Mapped[str] = mapped_column(ForeignKey("models.digest"))
    spec: Mapped[Any] = mapped_column(Json)
    """`app.pipelines.schemas.PipelineSpec`: tag names already resolved to permanent ids."""
    created_at: Mapped[int] = mapped_column(Big)
